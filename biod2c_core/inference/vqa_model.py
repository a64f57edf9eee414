"""A checkpoint to ask about any image: its answers, their calibrated confidence, its maps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from biod2c_core.errors import BioD2CError, ImageError, InputError, counted
from biod2c_core.inference.attention.attention_map import AttentionMap, View, find_method
from biod2c_core.inference.attention.explain import explain_answer
from biod2c_core.inference.attention.export import AttentionFigure
from biod2c_core.inference.calibration import Calibration, load_calibration
from biod2c_core.inference.candidates import other_answers
from biod2c_core.inference.image_choice import AnyImage, ImageChoice, is_there, open_picture
from biod2c_core.inference.questions import AskOptions, Question, Reply, check_question
from biod2c_core.inference.volumes.ask import Whole, ask_slices, open_slices
from biod2c_core.inference.volumes.slices import Slices
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import Answer, Answerer

BATCH = 32  # questions answered together


@dataclass(frozen=True)
class VQAModel:
    """A loaded model that answers questions about images.

    Attributes:
        answerer: The model, its processor, and its name.
        calibration: Of its confidence; None leaves it as it is.
    """

    answerer: Answerer
    calibration: Calibration | None = None

    @classmethod
    def load(cls, checkpoint: str | Path | None = None, device: str = "auto") -> VQAModel:
        """Load a checkpoint, and its calibration where it has one.

        Args:
            checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
            device: ``auto``, ``cpu``, ``cuda`` ...

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            ConfigError: The device is absent.
        """
        answerer = Answerer.load(checkpoint, device)
        folder = answerer.folder
        return cls(answerer, load_calibration(folder, answerer.identity) if folder else None)

    def __repr__(self) -> str:
        kind = "calibrated" if self.calibration else "not calibrated"
        knows = "" if self.answerer.reference else ", without a reference of familiar pictures"
        return f"<BioD2C model {self.answerer.name} on {self.answerer.model.device}, {kind}{knows}>"

    @overload
    def ask(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        image: AnyImage,
        question: str,
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> Reply: ...

    @overload
    def ask(
        self,
        image: AnyImage | Sequence[AnyImage],
        question: str | Sequence[str],
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> list[Reply]: ...

    def ask(
        self,
        image: AnyImage | Sequence[AnyImage],
        question: str | Sequence[str],
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> Reply | list[Reply]:
        """Answer one question or several about one image or several.

        Args:
            image: A path, a PIL image, an :class:`ImageChoice` (a frame or slice of a file), or a
                list of these. An image is encoded once for all questions that are asked about it
                together.
            question: In English; or a list. As many images as questions go in pairs; a single one of
                either goes with each of the other.
            n_best: How many answers ``candidates`` lists.
            min_confidence: Below it, ``answer`` is None.

        Returns:
            A reply, which prints as its answer; a list of replies where a list was given.

        Raises:
            ImageError: An image is missing or unusable.
            InputError: A question is empty or too long, or the lists do not go together.
        """
        options = AskOptions(n_best, min_confidence)
        images, questions = _listed(image), _listed(question)
        _check_not_swapped(images, questions)
        replies = list(self._ask_pairs(images, _pair(images, questions), options))
        return replies if images is image or questions is question else replies[0]

    @overload
    def ask_volume(  # type: ignore[overload-overlap]  # as in ask
        self,
        volume: str | Path | ImageChoice,
        question: str,
        slices: str = ":",
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> Whole: ...

    @overload
    def ask_volume(
        self,
        volume: str | Path | ImageChoice,
        question: Sequence[str],
        slices: str = ":",
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> list[Whole]: ...

    def ask_volume(
        self,
        volume: str | Path | ImageChoice,
        question: str | Sequence[str],
        slices: str = ":",
        *,
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> Whole | list[Whole]:
        """Answer one question or several about each slice of a volume, and about the whole.

        Args:
            volume: A NIfTI file, the folder of a DICOM series or a file of several frames; or an
                :class:`ImageChoice` (the axis of the slices, their window, the volume of a 4-D file). A
                slice at a time is decoded.
            question: In English; or a list.
            slices: Which ones, as Python counts: ``12``, ``10:60:2``, ``3,7,20:30``; all by default.
            n_best: How many answers ``candidates`` of each reply lists.
            min_confidence: Below it, ``answer`` is None, and a slice gives no evidence.

        Returns:
            The answer with the most evidence, which prints as it; ``slices`` holds the reply about each
            slice by its index, ``spread`` all answers. A list of them where a list was given.

        Raises:
            ImageError: It is no volume, has no such slices, or one of them is damaged.
            InputError: A question is empty or too long, or ``slices`` is not a choice of slices.
        """
        options = AskOptions(n_best, min_confidence)
        questions = _listed(question)
        _check_not_swapped([volume], questions)
        asked = [question for _, question in _pair([volume], questions)]
        choice = _volume(volume)
        wholes: list[Whole] = []
        with open_slices(choice, Slices.parse(slices)) as (found, remarks):
            for each in ask_slices(self, found, asked, options):
                if isinstance(each, BioD2CError):
                    raise each
                if isinstance(each.reply, Whole):
                    wholes.append(replace(each.reply, remarks=remarks))
        return wholes if questions is question else wholes[0]

    def _ask_pairs(
        self,
        images: Sequence[AnyImage],
        pairs: Sequence[tuple[int, Question]],
        options: AskOptions,
    ) -> Iterator[Reply]:
        seen: list[int] = []
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            wanted = sorted({index for index, _ in batch})
            if wanted != seen:
                pictures = [open_picture(images[index]) for index in wanted]
                seen, encoding = wanted, self.answerer.encode(pictures)
            asked = [(seen.index(index), question) for index, question in batch]
            yield from (reply for reply, _ in self.replies(encoding, asked, options))

    def attention_map(
        self, image: AnyImage, question: str, method: str | None = None
    ) -> AttentionFigure:
        """Answer a question, and show where the model looked for the answer.

        Args:
            image: As in :meth:`ask`.
            question: In English.
            method: ``fusion``, ``language`` or ``gradient``, see
                :class:`~biod2c_core.inference.attention.attention_map.View`; by default the fusion,
                and for a model without one the language model.

        Returns:
            The map as ``values`` (H, W) and as a picture to ``save``.

        Raises:
            ImageError: The image is missing or unusable.
            InputError: The question is empty or too long, or the method unknown.
            ConfigError: The model has no fusion, and the method needs it.
        """
        view = View(find_method(method)) if method is not None else None
        _check_not_swapped([image], [question])
        picture, asked = open_picture(image), check_question(question)
        (answer,) = self.answerer.answer([picture], [asked])
        return AttentionFigure(self.explain(picture, asked, answer, view), picture)

    @torch.inference_mode()
    def encode_pixels(self, pixels: Sequence[Tensor]) -> ImageEncoding:
        """What is known of images, (3, S, S) each from the processor, before any question."""
        model = self.answerer.model
        return model.encode_image(torch.stack(list(pixels)).to(model.device, model.dtype))

    def replies(
        self,
        encoding: ImageEncoding,
        asked: Sequence[tuple[int, Question]],
        options: AskOptions,
    ) -> Iterator[tuple[Reply, Answer]]:
        """Answer questions about encoded images, in their order.

        Args:
            encoding: Of the images, from :meth:`Answerer.encode`.
            asked: (row of ``encoding``, question).
            options: How to answer.

        Yields:
            The reply, and the model's answer with its tokens.

        Raises:
            InputError: A question is too long for the model.
        """
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            began = time.monotonic()
            pairs = [(row, question.text) for row, question in batch]
            answers = self.answerer.answer_encoded(encoding, pairs)
            seconds = (time.monotonic() - began) / len(batch)
            for (row, question), answer in zip(batch, answers, strict=True):
                image = encoding.rows(slice(row, row + 1))
                yield self._reply(image, question, answer, options, seconds), answer

    def confidence(self, answer: Answer) -> tuple[float, bool]:
        """How sure the model is of an answer, and whether that is calibrated for such a picture."""
        if self.calibration is None:
            return answer.confidence, False
        curve = self.calibration.curve(answer.text)
        return curve(answer.confidence, answer.familiarity), curve.holds(answer.familiarity)

    def explain(
        self, image: Image.Image, question: str, answer: Answer, view: View | None = None
    ) -> AttentionMap:
        """Where the model looked for an answer: by fusion, or without it by the language model."""
        if view is None:
            view = View("fusion" if self.answerer.model.fusion.enabled else "language")
        pixels = self.answerer.processor.pixels(image)
        shown = explain_answer(self.answerer, pixels, question, answer, view)
        confidence, calibrated = self.confidence(answer)
        return replace(
            shown, confidence=confidence, calibrated=calibrated, familiarity=answer.familiarity
        )

    def _reply(
        self,
        image: ImageEncoding,
        question: Question,
        answer: Answer,
        options: AskOptions,
        seconds: float,
    ) -> Reply:
        listed = [answer]
        if options.n_best > 1 and not self.answerer.rests_on(question.text):
            listed += other_answers(self.answerer, image, question.text, answer, options.n_best - 1)
        confidence, calibrated = self.confidence(answer)
        abstained = confidence < options.min_confidence
        return Reply(
            question=question.text,
            answer=None if abstained else answer.text,
            confidence=confidence,
            calibrated=calibrated,
            abstained=abstained,
            model=self.answerer.name,
            seconds=round(seconds, 3),
            id=question.id,
            candidates=tuple((each.text, self.confidence(each)[0]) for each in listed)
            if options.n_best > 1
            else (),
            familiarity=answer.familiarity,
            unknown_script=self.answerer.processor.is_spelled_out(question.text),
        )


def _listed(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else [given]


def _volume(given: str | Path | ImageChoice) -> ImageChoice:
    if isinstance(given, str | Path):
        return ImageChoice(str(given))
    if isinstance(given, ImageChoice):
        return given
    raise ImageError(
        f"{type(given).__name__} given, expected a volume",
        "Give the path of a file or of a series' folder.",
    )


def _check_not_swapped(images: Sequence[Any], questions: Sequence[Any]) -> None:
    """Say so where a file is given for a question, and text that is not a file for an image.

    Raises:
        InputError: They are swapped.
    """
    for image, question in zip(images, questions, strict=False):
        texts = isinstance(image, str) and isinstance(question, str | Path)
        if texts and not is_there(image) and is_there(question):
            raise InputError(
                f"{image!r} is not a file, and {str(question)!r} is one",
                "The image comes first, the question behind it.",
            )


def _pair(images: Sequence[AnyImage], questions: Sequence[str]) -> list[tuple[int, Question]]:
    """(index of the image, question): side by side, or one with each of the others."""
    if not images:
        raise InputError("there is no image", "Give one.")
    if not questions:
        raise InputError("there is no question", "Give one.")
    asked = [Question(check_question(text)) for text in questions]
    if len(images) == 1:
        return [(0, question) for question in asked]
    if len(asked) == 1:
        return [(index, asked[0]) for index in range(len(images))]
    if len(images) != len(asked):
        raise InputError(
            f"{counted(len(images), 'image')} do not go with {counted(len(asked), 'question')}",
            "Give as many of one as of the other, or a single one of either.",
        )
    return list(enumerate(asked))


def load(checkpoint: str | Path | None = None, device: str = "auto") -> VQAModel:
    """Load a model to ask about images: :meth:`VQAModel.load` under a short name.

    Args:
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The device is absent.
    """
    return VQAModel.load(checkpoint, device)
