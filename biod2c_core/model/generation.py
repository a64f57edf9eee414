"""Answers with a confidence, from one image and question to many; used by ask, evaluate and serve."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import GenerationMixin, StoppingCriteriaList

from biod2c_core.device import resolve_device
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.model.backbones.quantization import bits_from_environment, quantize_language_model
from biod2c_core.model.beyond.attributes import Attributes, Condition, conclude, load_attributes
from biod2c_core.model.checkpoints.folder import fingerprint, load_model, load_processor, locate
from biod2c_core.model.familiarity import Reference, load_reference
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor

MAX_NEW_TOKENS = 32
# Whatever a checkpoint's generation_config.json asks for; the model's outputs do not have them.
NOT_KEPT: dict[str, Any] = {"output_attentions": False, "output_hidden_states": False}


def probability(log_p: float) -> float:
    """exp(log_p) to four significant digits; that of a long answer is small.

    Raises:
        CheckpointError: It is no number, as with damaged weights: the answer means nothing.
    """
    if math.isnan(log_p):
        raise CheckpointError(
            "the model gives its answer a probability that is no number (NaN)",
            "Its weights are damaged, or too large for the type that it computes in.",
        )
    return float(f"{math.exp(log_p):.4g}")


def batch_seed(repetition: int, questions: Sequence[str]) -> int:
    """A seed for the draws of one batch; equal batches of a repetition are drawn alike."""
    text = "\n".join([str(repetition), *questions])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:7], "big")


@dataclass(frozen=True)
class Answer:
    """An answer and how sure the model is of it.

    Attributes:
        text: The answer.
        confidence: The probability that the model gives to it: the product of those of its tokens,
            the end token included; in [0, 1].
        ids: The generated token ids, up to and including the first end token.
        familiarity: Of the picture, see :mod:`biod2c_core.model.familiarity`; None where the checkpoint
            has no reference.
    """

    text: str
    confidence: float
    ids: tuple[int, ...] = ()
    familiarity: float | None = None


class Answerer:
    """A loaded model that answers questions about images.

    Args:
        model: In evaluation mode.
        processor: The one saved with it.
        name: What to call it in results.
        identity: A hash that tells checkpoints apart.
        folder: Where it was loaded from; None for a model that was made in memory.
        reference: What it knows of its training pictures, if anything.
        attributes: What it answers yes or no about by an open question, if anything.
    """

    needs_picture = False

    def __init__(
        self,
        model: BioD2CForConditionalGeneration,
        processor: BioD2CProcessor,
        name: str,
        identity: str,
        folder: Path | None = None,
        reference: Reference | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.name = name
        self.identity = identity
        self.folder = folder
        self.reference = reference
        self.attributes = attributes
        self.picture_side = processor.image_size
        self.on_gpu = model.device.type != "cpu"

    @classmethod
    def load(cls, checkpoint: str | Path | None = None, device: str = "auto") -> Answerer:
        """Load a checkpoint, its language model packed if ``$BIOD2C_LOAD_IN`` asks for it.

        Args:
            checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
            device: See :func:`resolve_device`.

        Raises:
            CheckpointError: It is missing or damaged.
            ConfigError: The device is absent, or the environment asks for an unknown format.
            InputError: Packing is asked for, and cannot be done here.
        """
        place, bits = resolve_device(device), bits_from_environment()
        folder = locate(checkpoint)
        dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
        model = load_model(folder, dtype, place)
        if bits:
            quantize_language_model(model.language_model, bits)
        name = "biod2c-tiny" if checkpoint is None else str(checkpoint)
        identity = fingerprint(folder)
        reference = load_reference(folder, identity, 2 * model.fusion.queries.shape[1])
        attributes = load_attributes(folder)
        return cls(model, load_processor(folder), name, identity, folder, reference, attributes)

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        max_new_tokens: int | None = None,
    ) -> list[Answer]:
        """Answer B questions, one image each.

        Args:
            images: B RGB images.
            questions: B questions.
            max_new_tokens: Longest answer; by default 32 tokens.

        Raises:
            InputError: A question is empty, or too long for the language model.
        """
        pairs = [(index, question) for index, question in enumerate(questions)]
        return self.answer_images(images, pairs, max_new_tokens=max_new_tokens)

    @torch.inference_mode()
    def answer_images(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        *,
        max_new_tokens: int | None = None,
    ) -> list[Answer]:
        """Answer questions about a few images, each of which is encoded once.

        Args:
            images: RGB images.
            questions: (index of the image, question).
            max_new_tokens: Longest answer; by default 32 tokens.

        Raises:
            InputError: A question is empty, or too long for the language model.
        """
        if not questions:
            return []
        return self.answer_encoded(self.encode(images), questions, max_new_tokens=max_new_tokens)

    @torch.inference_mode()
    def draw_answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        *,
        temperature: float,
        repetition: int,
    ) -> list[Answer]:
        """As :meth:`answer_images`, but each token is drawn.

        Args:
            images: RGB images.
            questions: (index of the image, question).
            temperature: What the logits are divided by, over 0.
            repetition: Another one draws anew.
        """
        if not questions:
            return []
        image, device = self.encode(images), self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(batch_seed(repetition, [question for _, question in questions]))
            return self.answer_encoded(image, questions, temperature=temperature)

    @torch.inference_mode()
    def answer_blind(self, questions: Sequence[str]) -> list[Answer]:
        """Answer without a picture: the language model reads the prompt alone, no visual token.

        Raises:
            InputError: A question is empty, or too long for the language model.
        """
        if not questions:
            return []
        batch = self.processor(None, list(questions))
        self._check_length(batch["input_ids"].shape[1], MAX_NEW_TOKENS)
        ids, mask = (batch[n].to(self.model.device) for n in ("input_ids", "attention_mask"))
        nothing = self.model.get_input_embeddings()(ids[:, :0])
        given = self.model.embed_prompt(nothing, ids, mask)
        result = GenerationMixin.generate(  # past the model's own, which wants an image
            self.model,  # type: ignore[arg-type]
            inputs_embeds=given.embeddings,
            attention_mask=given.mask,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **NOT_KEPT,
        )
        return self._answers(result)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> ImageEncoding:
        """What is known of RGB images before any question, for :meth:`answer_encoded`."""
        pixels = torch.stack([self.processor.pixels(image) for image in images])
        return self.model.encode_image(pixels.to(self.model.device, self.model.dtype))

    @torch.inference_mode()
    def answer_encoded(
        self,
        image: ImageEncoding,
        questions: Sequence[tuple[int, str]],
        *,
        max_new_tokens: int | None = None,
        watch: StoppingCriteriaList | None = None,
        temperature: float = 0.0,
    ) -> list[Answer]:
        """Answer questions about images that :meth:`encode` has seen.

        Args:
            image: From :meth:`encode`.
            questions: At least one: (row of ``image``, question).
            max_new_tokens: Longest answer; by default 32 tokens.
            watch: Called after each new token; may end rows early.
            temperature: Over 0, tokens are drawn with the logits divided by it.

        Raises:
            InputError: A question is empty, or too long for the language model.
        """
        answers = self._generate(image, questions, max_new_tokens, watch, temperature)
        answers = self._consistent(image, questions, answers, temperature)
        known = self.familiarity(image)
        pairs = zip(answers, questions, strict=True)
        return [replace(answer, familiarity=known[row]) for answer, (row, _) in pairs]

    def rests_on(self, question: str) -> list[Condition]:
        """What open questions must be answered with for a yes/no question to be answered "yes"."""
        return self.attributes.asked_in(question) if self.attributes is not None else []

    def _consistent(
        self,
        image: ImageEncoding,
        questions: Sequence[tuple[int, str]],
        answers: list[Answer],
        temperature: float,
    ) -> list[Answer]:
        """The answers, yes or no replaced by what open questions about the image say."""
        resting = {
            index: asked
            for index, (_, question) in enumerate(questions)
            if answers[index].text in ("yes", "no") and (asked := self.rests_on(question))
        }
        wanted = list(
            dict.fromkeys(
                (questions[i][0], each.question) for i, asked in resting.items() for each in asked
            )
        )
        if not wanted:
            return answers
        given = dict(
            zip(wanted, self._generate(image, wanted, temperature=temperature), strict=True)
        )
        for index, asked in resting.items():
            found = [given[questions[index][0], each.question] for each in asked]
            says, sure = conclude(asked, [(a.text, a.confidence) for a in found])
            text = "yes" if says else "no"
            ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
            end = answers[index].ids[-1:]
            answers[index] = Answer(text, float(f"{sure:.4g}"), (*ids, *end))
        return answers

    def _generate(
        self,
        image: ImageEncoding,
        questions: Sequence[tuple[int, str]],
        max_new_tokens: int | None = None,
        watch: StoppingCriteriaList | None = None,
        temperature: float = 0.0,
    ) -> list[Answer]:
        drawn: dict[str, Any] = {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        batch = self.processor(None, [question for _, question in questions])
        length = max_new_tokens or MAX_NEW_TOKENS
        self._check_length(batch["input_ids"].shape[1], length)
        device = self.model.device
        result = self.model.generate(
            **{name: value.to(device) for name, value in batch.items()},
            image=image,
            image_rows=torch.tensor([index for index, _ in questions], device=device),
            max_new_tokens=length,
            do_sample=temperature > 0,
            return_dict_in_generate=True,
            output_scores=True,
            **NOT_KEPT,
            stopping_criteria=watch,
            **(drawn if temperature else {}),
        )
        return self._answers(result, temperature or 1.0)

    def _answers(self, result: Any, divided_by: float = 1.0) -> list[Answer]:
        """The answers of a generation whose logits were divided by a temperature."""
        texts = self.processor.tokenizer.batch_decode(result.sequences, skip_special_tokens=True)
        steps = [(step.float() * divided_by).log_softmax(-1) for step in result.scores]
        log_p = torch.stack(steps, dim=1)
        counted = self._counted(result.sequences)
        confidences = self._confidences(result.sequences, log_p, counted)
        lengths = counted.sum(-1).tolist()
        rows = zip(texts, confidences, result.sequences.tolist(), lengths, strict=True)
        return [Answer(text.strip(), c, tuple(ids[:n])) for text, c, ids, n in rows]

    def familiarity(self, image: ImageEncoding) -> list[float | None]:
        """How familiar each encoded image is, 0 to 1; None where the checkpoint has no reference."""
        if self.reference is None:
            return [None] * len(image.summary)
        return [*self.reference.familiarity(image.summary)]

    def _check_length(self, prompt: int, answer: int) -> None:
        config = self.model.config
        limit = getattr(config.text_config, "max_position_embeddings", None)
        needed = config.num_visual_tokens + prompt + answer
        if limit is not None and needed > limit:
            raise InputError(
                f"image, question and answer would take {needed} tokens, and the language model "
                f"reads {limit}",
                "Shorten the question.",
            )

    def _counted(self, sequences: Tensor) -> Tensor:
        """True up to and including the first end token of each row, (B, new)."""
        stops = self.model.generation_config.eos_token_id
        known = torch.tensor([] if stops is None else stops, dtype=torch.long)  # none: never ended
        ends = torch.isin(sequences, known.to(sequences.device))
        return ends.cumsum(-1) - ends.long() == 0  # no end before it

    def _confidences(self, sequences: Tensor, log_p: Tensor, counted: Tensor) -> list[float]:
        """Product of the probabilities of the tokens that count."""
        chosen = log_p.gather(-1, sequences[:, : log_p.shape[1], None]).squeeze(-1)
        return [probability(value) for value in chosen.where(counted, 0).sum(-1).tolist()]
