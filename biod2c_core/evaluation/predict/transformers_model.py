"""Any image-text-to-text model of transformers, evaluated like a checkpoint of ours.

Nothing of a stranger's is run: no code beside the weights, no pickle but tensors, and the chat template,
which is a program, in a process with limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from biod2c_core.contents import file_checksum
from biod2c_core.device import resolve_device
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.model.chat.templates import render_chat
from biod2c_core.model.checkpoints.downloads import download
from biod2c_core.model.checkpoints.limits import check_folder, check_weights
from biod2c_core.model.checkpoints.pretrained import NO_CODE, loading, pretrained_config
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.generation import Answer, batch_seed, probability

INSTRUCTION = "Answer the question using a single word or phrase."
MAX_NEW_TOKENS = 64
BATCH = 8
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # the first kind that there is
# Prompts of models without a chat template; in BLIP's the processor places the image.
_PLAIN = {
    "paligemma": "{mark}answer en {question}",
    "blip-2": "Question: {question} Answer:",
    "instructblip": "{question} Short answer:",
}
_FAILED = "Configuration, processor and weights may not be of one checkpoint; copy it again."
_REMEDY = "Give a folder or hub name of an image-text-to-text model of transformers."


class TransformersModel:
    """A model of transformers that answers questions about images.

    Args:
        model: In evaluation mode.
        processor: Its own.
        name: What to call it in results.
        identity: Tells weights and settings apart.
        instruct: Whether it is told to answer shortly.
        batch: Questions at once; halved for as long as the device's memory does not hold them.
        max_new_tokens: Longest answer.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        identity: str,
        *,
        instruct: bool = True,
        batch: int = BATCH,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self.model, self.processor = model, processor
        self.name = name
        self.batch, self.max_new_tokens = batch, max_new_tokens
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._instruction = INSTRUCTION if instruct else ""
        settings = [identity, self._instruction, str(max_new_tokens), str(self._template())]
        self.identity = hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]
        self.needs_picture = not self._takes_text_alone()

    @classmethod
    def load(cls, name: str, device: str = "auto", instruct: bool = True) -> TransformersModel:
        """Load a model, in bfloat16 where the device has it.

        Args:
            name: A folder, or the name of a hub model (which is fetched, unless it is here already).
            device: ``auto`` spreads it over all GPUs; see :func:`resolve_device`.
            instruct: Whether it is told to answer shortly.

        Raises:
            CheckpointError: It is missing, damaged, incomplete, or needs code of its own.
            InputError: It is a model of another kind.
        """
        place = resolve_device(device)
        folder = _locate(name)
        check_folder(folder)
        with loading(f"cannot load the model {name}", _REMEDY):
            config = pretrained_config(folder)
            _check_kind(config, name)
            check_weights(config.get_text_config(), folder)
            processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True, **NO_CODE)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                str(folder),
                dtype=_dtype(place),
                device_map="auto" if device == "auto" and place.type == "cuda" else {"": place},
                use_safetensors=any(folder.glob(_WEIGHTS[0])),
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
                **NO_CODE,
            )
        model, found = loaded
        absent = sorted(found["missing_keys"]) + sorted(map(str, found["mismatched_keys"]))
        if absent:
            raise CheckpointError(
                f"the weights of {name} lack {len(absent)} tensors of the model, such as {absent[0]}",
                "They would be filled with noise. Copy all files of the checkpoint again.",
            )
        return cls(model.eval(), processor, name, _fingerprint(folder), instruct=instruct)

    def answer_images(
        self, images: Sequence[Image.Image], questions: Sequence[tuple[int, str]]
    ) -> list[Answer]:
        """Answer each (index of its image, question) with the likeliest tokens."""
        return self._answer([(images[index], text) for index, text in questions])

    def answer_blind(self, questions: Sequence[str]) -> list[Answer]:
        """Answer each question without an image."""
        return self._answer([(None, text) for text in questions])

    def draw_answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        *,
        temperature: float,
        repetition: int,
    ) -> list[Answer]:
        """As :meth:`answer_images`, but each token is drawn, anew in each repetition."""
        asked = [(images[index], text) for index, text in questions]
        cards = list(range(torch.cuda.device_count()))
        with torch.random.fork_rng(cards):
            torch.manual_seed(batch_seed(repetition, [text for _, text in asked]))
            return self._answer(asked, temperature)

    def _answer(
        self, asked: Sequence[tuple[Image.Image | None, str]], temperature: float = 0.0
    ) -> list[Answer]:
        """In batches of questions of about equal length, so that little is padding."""
        order = sorted(range(len(asked)), key=lambda place: len(asked[place][1]))
        found: dict[int, Answer] = {}
        while len(found) < len(asked):
            places = order[len(found) : len(found) + self.batch]
            try:
                answers = self._asked([asked[place] for place in places], temperature)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise InputError(
                        f"{self.name} does not fit into the memory of the device",
                        "Use a larger one, or a smaller model.",
                    ) from None
                self.batch //= 2
                torch.cuda.empty_cache()
                continue
            found |= dict(zip(places, answers, strict=True))
        return [found[place] for place in range(len(asked))]

    def _asked(
        self, asked: Sequence[tuple[Image.Image | None, str]], temperature: float
    ) -> list[Answer]:
        """One batch; what a stranger's model or processor raises becomes one line."""
        try:
            with loading(f"{self.name} failed on a question", _FAILED):
                return self._generate(asked, temperature)
        except CheckpointError as error:
            if isinstance(error.__cause__, torch.OutOfMemoryError):
                raise error.__cause__ from None
            raise

    @torch.inference_mode()
    def _generate(
        self, asked: Sequence[tuple[Image.Image | None, str]], temperature: float
    ) -> list[Answer]:
        inputs = self._inputs(asked).to(self.model.device, self.model.dtype)
        drawn = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        result = self.model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=bool(drawn),
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=self._tokenizer.pad_token_id,
            **drawn,
        )
        new = result.sequences[:, -len(result.scores) :]  # also of models that return no prompt
        texts = self._tokenizer.batch_decode(new, skip_special_tokens=True)
        steps = [
            (step.float() * (temperature or 1.0)).log_softmax(-1).gather(-1, new[:, i, None])
            for i, step in enumerate(result.scores)
        ]
        ends = torch.isin(new, self._ends(new.device))
        counted = ends.cumsum(-1) - ends.long() == 0  # no end before it
        log_p = torch.cat(steps, -1).where(counted, 0).sum(-1).tolist()
        return [
            Answer(text.strip(), probability(value))
            for text, value in zip(texts, log_p, strict=True)
        ]

    def _ends(self, device: torch.device) -> torch.Tensor:
        stops = self.model.generation_config.eos_token_id
        stops = self._tokenizer.eos_token_id if stops is None else stops
        listed = stops if isinstance(stops, list) else [stops]
        return torch.tensor([each for each in listed if each is not None], device=device)

    def _inputs(self, asked: Sequence[tuple[Image.Image | None, str]]) -> Any:
        """The tensors of some questions, all with an image or all without."""
        pictures = [[image] for image, _ in asked if image is not None]
        texts = [self._prompt(text, image is not None) for image, text in asked]
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        start = self._tokenizer.bos_token
        if start and texts[0].startswith(start):
            options["add_special_tokens"] = False  # the template has written it already
        if pictures:
            options["images"] = pictures
        inputs = self.processor(text=texts, **options)
        inputs.pop("labels", None)
        return inputs

    def _prompt(self, question: str, with_image: bool) -> str:
        """The model's own template around a question; else what its authors asked by."""
        mark = self._image_mark() if with_image else ""
        template = self._template()
        if template is None:
            ours = f"{{mark}}Question: {{question}} {self._instruction} Answer:"
            form = _PLAIN.get(self.model.config.model_type, ours)
            return form.format(mark=mark, question=question)
        text = f"{question}\n{self._instruction}".rstrip("\n")
        parts = [{"type": "image"}] * with_image + [{"type": "text", "text": text}]
        with suppress(CheckpointError):
            prompt = self._rendered(template, parts)
            if mark in prompt and text.strip() in prompt:
                return prompt
        prompt = self._rendered(
            template, f"{mark}\n{text}" if mark else text
        )  # one for texts alone
        if mark not in prompt or text.strip() not in prompt:
            raise CheckpointError(
                f"the chat template of {self.name} leaves out the question or the image",
                "It is not a template for questions about an image; ask its authors for one.",
            )
        return prompt

    def _rendered(self, template: str, content: Any) -> str:
        messages = [{"role": "user", "content": content}]
        return render_chat(template, self._tokenizer, messages, add_generation_prompt=True)

    def _template(self) -> str | None:
        for owner in (self.processor, self._tokenizer):
            template = getattr(owner, "chat_template", None)
            if isinstance(template, dict):
                template = template.get("default")
            if template:
                return str(template)
        return None

    def _image_mark(self) -> str:
        """What stands for an image in a text."""
        for owner in (self.processor, self._tokenizer):
            for name in ("boi_token", "image_token"):
                if mark := getattr(owner, name, None):
                    return str(mark)
        return "<image>"

    def _takes_text_alone(self) -> bool:
        try:
            self._inputs([(None, "why?")])
        except CheckpointError:
            raise
        except Exception:  # whatever a processor says of a question without an image
            return False
        return True


def _locate(name: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(f"no model folder at {name}", _REMEDY)
    found = download(name, (*_SMALL_FILES, _WEIGHTS[0]))
    if not any(found.glob(_WEIGHTS[0])):
        found = download(name, (*_SMALL_FILES, *_WEIGHTS))
    return found


def _check_kind(config: Any, name: str) -> None:
    if config.model_type == BioD2CConfig.model_type:
        raise InputError(f"{name} is a BioD2C checkpoint", f"Name it without hf: --model {name}.")
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise InputError(
            f"{name} is of the kind {config.model_type!r}, which takes no image and text", _REMEDY
        )


def _dtype(place: torch.device) -> torch.dtype:
    if place.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _fingerprint(folder: Path) -> str:
    """Over configuration, weights, tokenizer and image processor: all that can change an answer."""
    digest = hashlib.sha256()
    for pattern in (*_SMALL_FILES, *_WEIGHTS):
        for path in sorted(folder.glob(pattern)):
            digest.update(f"{path.name} {file_checksum(path)}\n".encode())
    return digest.hexdigest()
