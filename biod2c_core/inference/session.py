"""One model and one image: encoded once, asked as often as one likes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from biod2c_core.inference.attention.explain import AttentionMap, View, explain_answer
from biod2c_core.inference.calibration import Calibration, load_calibration
from biod2c_core.inference.candidates import other_answers
from biod2c_core.inference.questions import Question, Reply
from biod2c_core.model.checkpoints.folder import locate
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import Answer, Answerer

BATCH = 32  # questions answered together


@dataclass
class Asker:
    """Asks a model about an image.

    Attributes:
        answerer: The loaded model.
        calibration: Of its confidence; None leaves it as it is.
        image: What is asked about.
        encoding: The image as the model knows it.
    """

    answerer: Answerer
    calibration: Calibration | None
    image: Image.Image
    encoding: ImageEncoding

    @classmethod
    def load(cls, image: Image.Image, checkpoint: str | None, device: str) -> Asker:
        """Load a model and let it see an image.

        Raises:
            CheckpointError: The checkpoint is missing or damaged.
            ConfigError: The device is absent.
        """
        answerer = Answerer.load(checkpoint, device)
        calibration = load_calibration(locate(checkpoint), answerer.identity)
        return cls(answerer, calibration, image, answerer.encode([image]))

    def look_at(self, image: Image.Image) -> None:
        """Ask about another image from now on."""
        self.image, self.encoding = image, self.answerer.encode([image])

    def ask(
        self,
        questions: Sequence[Question],
        n_best: int = 1,
        min_confidence: float = 0.0,
    ) -> Iterator[tuple[Reply, Answer]]:
        """Answer questions, in their order.

        Args:
            questions: The questions.
            n_best: How many answers each reply lists.
            min_confidence: Below it, no answer is given.

        Yields:
            The reply, and the model's answer with its tokens.

        Raises:
            InputError: A question is too long for the model.
        """
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            began = time.monotonic()
            pairs = [(0, question.text) for question in batch]
            answers = self.answerer.answer_encoded(self.encoding, pairs)
            seconds = (time.monotonic() - began) / len(batch)
            for question, answer in zip(batch, answers, strict=True):
                yield self._reply(question, answer, n_best, min_confidence, seconds), answer

    def confidence(self, answer: Answer) -> float:
        """How sure the model is, calibrated where that is possible."""
        return (
            answer.confidence if self.calibration is None else self.calibration(answer.confidence)
        )

    def explain(self, question: Question, answer: Answer) -> AttentionMap:
        """Where the model looked for an answer: by fusion, or without it by the language model."""
        view = View("fusion" if self.answerer.model.fusion.enabled else "language")
        pixels = self.answerer.processor.pixels(self.image)
        return explain_answer(self.answerer, pixels, question.text, answer, view)

    def _reply(
        self, question: Question, answer: Answer, n_best: int, least: float, seconds: float
    ) -> Reply:
        listed = [answer]
        if n_best > 1:
            listed += other_answers(self.answerer, self.encoding, question.text, answer, n_best - 1)
        confidence = self.confidence(answer)
        abstained = confidence < least
        return Reply(
            question=question.text,
            answer=None if abstained else answer.text,
            confidence=confidence,
            calibrated=self.calibration is not None,
            abstained=abstained,
            model=self.answerer.name,
            seconds=round(seconds, 3),
            id=question.id,
            candidates=tuple((each.text, self.confidence(each)) for each in listed)
            if n_best > 1
            else (),
        )
