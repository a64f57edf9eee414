"""From an RGB image and a question to the tensors the model takes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import date
from typing import Any, ClassVar, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from biod2c_core.errors import CheckpointError, ConfigError, InputError, counted, is_panic
from biod2c_core.model.chat.last_question import CHAT_TEMPLATE
from biod2c_core.model.chat.templates import apply_chat_template
from biod2c_core.model.checkpoints.limits import MOST_IMAGE_SIDE
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.vision import PixelScale, check_scale
from biod2c_core.ops.padding import pad
from biod2c_core.ops.square import square
from biod2c_core.ops.together import alone, together

R = TypeVar("R")
_Tokenizing = Generator[str, list[int], R]  # asks for the ids of texts
TrainingIds = tuple[list[int], list[int], list[int]]  # of prompt and answer, labels, bare question

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IGNORED = -100  # the label of a position that does not count
QUESTION = "{question}"
_LONGEST_PROMPT = 10_000  # characters
PROMPT_DATE = "2024-07-26"  # what Llama 3's template says where it is told none
CHAT = "chat"  # the prompt that stands for the tokenizer's own template
_MARK = "\u241f"  # an answer that no template holds
_DONE_ANYWAY = ("return_tensors", "padding", "add_special_tokens")


class BioD2CProcessor(ProcessorMixin):
    """Prepares images, prompts, the question for the fusion decoder, and queue texts.

    Args:
        tokenizer: The language model's tokenizer; without a padding token its end token pads.
        image_size: Height and width in pixels; the image is resized to this square, so that
            nothing of it is cut off.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels.
        prompt: Text with ``{question}`` where it goes; or ``"chat"``, the tokenizer's own template.
        max_question_tokens: Most tokens of the question that the fusion decoder reads.
        fusion_reads: What the fusion decoder reads: the bare ``"question"``, or the whole ``"prompt"``
            as the authors' published weights.
        end_token_id: The token after an answer; by default what the chat template puts there, or
            the tokenizer's end token.
        prompt_date: The date that a chat template is told, YYYY-MM-DD: the prompt stays what it was in
            training, whatever the day.

    Raises:
        ConfigError: The tokenizer has no end token (or no chat template), the prompt has no place for
            the question, or a number or the date makes no sense.
        CheckpointError: The tokenizer or its chat template fails.
    """

    attributes: ClassVar[list[str]] = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: Any = None,
        image_size: int = 512,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        prompt: str = "Question: {question} Answer:",
        max_question_tokens: int = 32,
        fusion_reads: Literal["question", "prompt"] = "question",
        end_token_id: int | None = None,
        prompt_date: str = PROMPT_DATE,
        **kwargs: Any,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end token", "Set its eos_token: answers must end somewhere."
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        _check_prompt(prompt, tokenizer)
        _check_sizes(image_size, max_question_tokens)
        check_scale(image_mean, image_std)
        _check_date(prompt_date)
        self.image_size = image_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.prompt = prompt
        self.max_question_tokens = max_question_tokens
        self.fusion_reads = fusion_reads
        self.prompt_date = prompt_date
        super().__init__(tokenizer, **{**kwargs, "chat_template": CHAT_TEMPLATE})
        self._begin = self._find_begin()
        self.end_token_id = self._find_end_token() if end_token_id is None else end_token_id

    def __call__(
        self,
        images: Image.Image | str | Sequence[Any] | None = None,
        text: str | Sequence[str] | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Prepare inputs of ``generate``.

        Args:
            images: B images, each alone or in a list of its own; None where the image is encoded
                apart. A single one may stand without a list. Names of files, and URLs, are read as
                transformers does.
            text: B questions; the prompt is put around them here. A single one may stand without a
                list.
            **options: What the pipelines of transformers add: ``return_tensors="pt"``, ``padding``,
                ``add_special_tokens``; it is done in any case.

        Returns:
            ``pixel_values`` (B, 3, S, S) if images are given; ``input_ids`` and
            ``attention_mask`` (B, P), padded on the left; ``question_ids`` and ``question_mask``
            (B, T).

        Raises:
            InputError: There is no question, not one image for each, or another option.
        """
        _check_options(options)
        questions = [text] if isinstance(text, str) else list(text or ())
        pictures = None if images is None else _one_each(images, len(questions))
        prompts = [self.prompt_ids(question) for question in questions]
        input_ids, attention_mask = self.pad(prompts, side="left")
        question_ids, question_mask = self.pad([self.question_ids(text) for text in questions])
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "question_ids": question_ids,
            "question_mask": question_mask,
        }
        if pictures is not None:
            batch["pixel_values"] = torch.stack([self.pixels(image) for image in pictures])
        return BatchFeature(batch)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the file of the chat template stays the tokenizer's, which may need it.

        Args:
            *args: As in transformers.
            **kwargs: As in transformers.
        """
        self.chat_template = self.tokenizer.chat_template
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.chat_template = CHAT_TEMPLATE

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The answers, without the blank in front: what the pipeline shows.

        Args:
            generated_outputs: (B, new) token ids.
            skip_special_tokens: Leave out the end token and its like.
            **kwargs: Of the tokenizer's ``batch_decode``.
        """
        texts = self.tokenizer.batch_decode(
            generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs
        )
        return [text.strip() for text in texts]

    def pixels(self, image: Image.Image) -> Tensor:
        """Resize and normalize one RGB image: (3, S, S), float32."""
        picture = torch.from_numpy(square(image, self.image_size)).permute(2, 0, 1)
        return PixelScale(self.image_mean, self.image_std)(picture)

    def is_spelled_out(self, question: str) -> bool:
        """Whether the tokenizer spells a question out byte by byte, as it does a script it never met.

        The language model has hardly been trained on such a script, and its answer means little. Other
        languages in a script that it knows are not told from its own.
        """
        letters = sum(character.isalpha() for character in question)
        return letters > 3 and len(self._plain_ids(question)) > 1.5 * letters

    def question_ids(self, question: str) -> list[int]:
        """Token ids of the bare question (or prompt), for the fusion decoder; never empty.

        Raises:
            InputError: The question has no text.
        """
        return alone(self._question(question), self._plain_ids)

    def _question(self, question: str) -> _Tokenizing[list[int]]:
        text = " ".join(question.split())
        ids = (yield text) if text else []
        if not ids:
            raise InputError("the question is empty", "Ask something about the image.")
        if self.fusion_reads == "prompt":
            ids = yield from self._prompt(question)
        return ids[: self.max_question_tokens]

    def prompt_ids(self, question: str) -> list[int]:
        """Token ids of the prompt around a question."""
        return alone(self._prompt(question), self._plain_ids)

    def _prompt(self, question: str) -> _Tokenizing[list[int]]:
        text = " ".join(question.split())
        if self.prompt == CHAT:
            turns, more = [{"role": "user", "content": text}], {"add_generation_prompt": True}
            return (yield apply_chat_template(self.tokenizer, turns, self.prompt_date, **more))
        return self._begin + (yield self.prompt.replace(QUESTION, text))

    def begin_ids(self) -> list[int]:
        """The begin token, or tokens, that every prompt starts with; empty where there is none."""
        prompt, bos = self.prompt_ids("?"), self.tokenizer.bos_token_id
        candidates = (self._begin, [] if bos is None else [bos])
        return next((ids for ids in candidates if ids and prompt[: len(ids)] == ids), [])

    def _find_begin(self) -> list[int]:
        """What the tokenizer puts in front of a text."""
        marked, plain = self._ids("?"), self._plain_ids("?")
        starts = range(len(marked) - len(plain) + 1)
        at = next((start for start in starts if marked[start : start + len(plain)] == plain), 0)
        return marked[:at]

    def _ids(self, text: str, **options: Any) -> list[int]:
        """Token ids of a text.

        Raises:
            CheckpointError: The tokenizer, which is a file of whoever made it, fails on it.
        """
        try:
            ids: list[int] = self.tokenizer(text, **options).input_ids
        except BaseException as error:
            if not is_panic(error):
                raise
            raise CheckpointError(
                f"the tokenizer fails on {text[:60]!r} ({' '.join(str(error).split())[:200]})",
                "Its tokenizer.json is damaged, or made to do harm; get it from whoever made it.",
            ) from error
        return ids

    def _plain_ids(self, text: str) -> list[int]:
        """Token ids of a text without what the tokenizer puts around it."""
        return self._ids(text, add_special_tokens=False)

    def _all_plain_ids(self, texts: list[str]) -> list[list[int]]:
        """:meth:`_plain_ids` of many texts, which takes a fraction of the time."""
        try:
            return self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        except BaseException as error:
            if not is_panic(error):
                raise
            return [self._plain_ids(text) for text in texts]  # which names the one it fails on

    def _find_end_token(self) -> int:
        """The special token that the chat template puts behind an answer, or the end token."""
        end = self.tokenizer.eos_token_id
        if self.prompt != CHAT:
            return end
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        tail = apply_chat_template(self.tokenizer, turns, self.prompt_date).rpartition(_MARK)[2]
        ids = self._plain_ids(tail)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return next((each for each in ids if each in special), end)

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a queue text, at most as many as of a question; may be empty."""
        return self._plain_ids(text)[: self.max_question_tokens]

    def all_text_ids(self, texts: list[str]) -> list[list[int]]:
        """:meth:`text_ids` of many texts."""
        return [ids[: self.max_question_tokens] for ids in self._all_plain_ids(texts)]

    def training_ids(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """Token ids of prompt, answer and end token, and the labels (the answer and the end).

        The prompt's ids are exactly those of :meth:`prompt_ids`, as at generation.
        """
        return alone(self._training(question, answer), self._plain_ids)

    def all_training_ids(self, pairs: Sequence[tuple[str, str]]) -> list[TrainingIds]:
        """:meth:`training_ids` of many questions and answers, each with :meth:`question_ids`."""
        return together([self._row(*pair) for pair in pairs], self._all_plain_ids)

    def _row(self, question: str, answer: str) -> _Tokenizing[TrainingIds]:
        ids, labels = yield from self._training(question, answer)
        return ids, labels, (yield from self._question(question))

    def _training(self, question: str, answer: str) -> _Tokenizing[tuple[list[int], list[int]]]:
        prompt = yield from self._prompt(question)
        if self.prompt == CHAT:
            both = prompt + (yield answer)
        else:
            text = self.prompt.replace(QUESTION, " ".join(question.split()))
            both = self._begin + (yield f"{text} {answer}")
        if both[: len(prompt)] != prompt:  # a merge across the border; keep the prompt as it is
            both = prompt + (yield f" {answer}")
        if both[-1] != self.end_token_id:
            both = [*both, self.end_token_id]
        return both, [IGNORED] * len(prompt) + both[len(prompt) :]

    def pad(
        self, rows: Sequence[Sequence[int]], side: str = "right", value: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pad rows of ids to the longest.

        Args:
            rows: B rows of ids.
            side: ``"right"`` or ``"left"``.
            value: The id to pad with; by default the tokenizer's padding token.

        Returns:
            Ids and mask (1 where real), both (B, longest), int64.
        """
        return pad(rows, self.tokenizer.pad_token_id if value is None else value, side)


def _check_options(options: dict[str, Any]) -> None:
    for name, value in options.items():
        as_asked = value == "pt" if name == "return_tensors" else name in _DONE_ANYWAY
        if value is not None and not as_asked:
            raise InputError(
                f"the processor cannot do {name}={value!r}",
                "Give images and text; it returns PyTorch tensors, padded.",
            )


def _one_each(images: Image.Image | str | Sequence[Any], questions: int) -> list[Image.Image]:
    """The image of each question, where each may stand in a list of its own."""
    given = [images] if isinstance(images, Image.Image | str) else list(images)
    single: list[Any] = []
    for each in given:
        several = each if isinstance(each, list | tuple) else [each]
        if len(several) != 1:
            raise InputError(
                f"a question is about one image, {len(several)} given", "Ask about one at a time."
            )
        single += several
    if len(single) != questions:
        raise InputError(
            f"{counted(questions, 'question')} and {counted(len(single), 'image')} given",
            "Give one image for each.",
        )
    from transformers.image_utils import load_image  # loads torchvision

    return [load_image(each) if isinstance(each, str) else each for each in single]


def _check_prompt(prompt: str, tokenizer: Any) -> None:
    if prompt == CHAT:
        if not tokenizer.chat_template:
            raise ConfigError(
                "the prompt is 'chat', but the tokenizer has no chat template",
                "Write a prompt with {question}.",
            )
        return
    if not isinstance(prompt, str) or len(prompt) > _LONGEST_PROMPT:
        raise ConfigError(
            f"the prompt is not a text of at most {_LONGEST_PROMPT:,} characters",
            "Write a shorter one.",
        )
    rest = prompt.replace(QUESTION, "")
    if rest == prompt or "{" in rest or "}" in rest:
        raise ConfigError(
            f"the prompt is {prompt!r}",
            "Write {question} where the question goes and no other braces, or 'chat'.",
        )


def _check_sizes(image_size: Any, question_tokens: Any) -> None:
    whole = all(
        isinstance(each, int) and not isinstance(each, bool)
        for each in (image_size, question_tokens)
    )
    if not whole or not 1 <= image_size <= MOST_IMAGE_SIDE or not 1 <= question_tokens <= 4096:
        raise ConfigError(
            f"the image size is {image_size!r} and the most question tokens are {question_tokens!r}",
            f"Expected 1 to {MOST_IMAGE_SIDE:,} pixels and 1 to 4,096 tokens.",
        )


def _check_date(day: Any) -> None:
    try:
        date.fromisoformat(day)
    except (TypeError, ValueError):
        raise ConfigError(
            f"the prompt's date is {day!r}", f"Expected YYYY-MM-DD, such as {PROMPT_DATE}."
        ) from None


AutoProcessor.register(BioD2CConfig, BioD2CProcessor)
