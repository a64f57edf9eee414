"""The model cut where ``ask`` cuts it: what a picture tells, what a question makes of it, the next token.

Each part takes one picture and one question. Nothing is computed here that the model does not define.

Notation used for tensor shapes:

- M: blocks of all scales, D: width of the image features, V: visual tokens, d: width of the language
  model, T: question tokens, P: prompt tokens, A: answer tokens so far, S: side of the picture in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biod2c_core.model.beyond.answer_words import vote
from biod2c_core.model.familiarity import Reference
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import MAX_NEW_TOKENS, Answerer
from biod2c_core.model.modeling import BioD2CForConditionalGeneration

_ANSWER_LENGTHS = (2, 0, 1, MAX_NEW_TOKENS - 1)
_PROMPT_LENGTHS = (7, 1, 5, 40)


class ImagePart(nn.Module):
    """What is known of a picture before any question.

    Args:
        model: In evaluation mode.
        reference: Of familiar pictures, if the checkpoint has one.
    """

    def __init__(self, model: BioD2CForConditionalGeneration, reference: Reference | None) -> None:
        super().__init__()
        self.model = model
        self.reference = reference

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, S, S) to blocks (1, M, D), tokens (1, V, d), and, with a reference, distance (1,)."""
        image = self.model.encode_image(pixel_values)
        found = (image.blocks, image.tokens)
        return found if self.reference is None else (*found, self.reference.distance(image.summary))


class QuestionPart(nn.Module):
    """What a question makes of a picture.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: BioD2CForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, question_ids: Tensor, blocks: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """(1, T) and a picture to visual tokens (1, V, d), and, with a vote, words (1, vocabulary)."""
        mask = torch.ones_like(question_ids)
        image = ImageEncoding(blocks, tokens, tokens.new_zeros(1, 0))  # the summary is not read
        visual = self.model.encode(question_ids, mask, image)
        if not self.model.config.answer_vote:
            return (visual.tokens,)
        return visual.tokens, self.model.answer_word_log_p(visual, mask)


class TokenPart(nn.Module):
    """The next token of an answer, read anew from the beginning: answers are short.

    Args:
        model: In evaluation mode.
        ends: The tokens that end an answer.
    """

    def __init__(self, model: BioD2CForConditionalGeneration, ends: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.ends = list(ends)

    def forward(
        self, visual: Tensor, prompt_ids: Tensor, answer_ids: Tensor, words: Tensor | None = None
    ) -> Tensor:
        """Log-probabilities of the next token, (1, vocabulary).

        Args:
            visual: (1, V, d).
            prompt_ids: (1, P).
            answer_ids: (1, A); A may be 0.
            words: (1, vocabulary), where the visual tokens have a vote.
        """
        text = self.model.get_input_embeddings()(torch.cat([prompt_ids, answer_ids], 1))
        begin = self.model.config.begin_tokens
        # as embed_prompt puts a row without padding, whose sorting ONNX has no words for
        given = torch.cat([text[:, :begin], visual, text[:, begin:]], 1)
        result = self.model.language_model(
            inputs_embeds=given,
            attention_mask=torch.ones_like(given[..., 0], dtype=torch.long),
            use_cache=False,
            logits_to_keep=1,
        )
        scores = result.logits[:, -1].float()
        if words is None:
            return scores.log_softmax(-1)
        return vote(scores, answer_ids, words, self.model.config.answer_vote, self.ends)


@dataclass(frozen=True)
class Part:
    """A part with inputs to trace it with and to compare it on.

    Attributes:
        name: Of its file.
        module: Takes ``inputs`` in their order.
        inputs: Their names.
        outputs: Names of what it returns.
        growing: Inputs whose second axis has any length.
        samples: Inputs, of different lengths; the first are those that it is traced with.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    growing: frozenset[str]
    samples: Sequence[tuple[Tensor, ...]]


@torch.no_grad()
def cut(answerer: Answerer, ends: Sequence[int]) -> list[Part]:
    """The parts of a model, in the order they run, each with what the one before it gives.

    Args:
        answerer: Of a model in float32 on the CPU, without adapters.
        ends: The tokens that end an answer.
    """
    model, reference = answerer.model, answerer.reference
    draw = torch.Generator().manual_seed(0)
    side = answerer.processor.image_size
    most = question_limit(answerer)

    def text(length: int) -> Tensor:
        vocabulary = len(answerer.processor.tokenizer)
        return torch.randint(vocabulary, (1, length), generator=draw)

    image = ImagePart(model, reference)
    pixels = [(torch.randn(1, 3, side, side, generator=draw),) for _ in range(2)]
    about = ("blocks", "tokens")
    known = [image(*each)[:2] for each in pixels]
    question = QuestionPart(model)
    asked = [
        (text(min(length, most)), *known[index % 2])
        for index, length in enumerate((5, 1, 12, most))
    ]
    gives = ("visual", "words") if model.config.answer_vote else ("visual",)
    seen = [question(*each) for each in asked]
    lengths = zip(seen, _PROMPT_LENGTHS, _ANSWER_LENGTHS, strict=True)
    read = [(found[0], text(p), text(a), *found[1:]) for found, p, a in lengths]
    return [
        Part(
            "image",
            image,
            ("pixel_values",),
            about if reference is None else (*about, "distance"),
            frozenset(),
            pixels,
        ),
        Part(
            "question",
            question,
            ("question_ids", *about),
            gives,
            frozenset({"question_ids"}),
            asked,
        ),
        Part(
            "token",
            TokenPart(model, ends),
            ("visual", "prompt_ids", "answer_ids", *gives[1:]),
            ("log_p",),
            frozenset({"prompt_ids", "answer_ids"}),
            read,
        ),
    ]


def question_limit(answerer: Answerer) -> int:
    """Most tokens of a question that are read."""
    return min(answerer.processor.max_question_tokens, answerer.model.config.num_visual_tokens)
