"""One model and one image: encoded once, asked as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from biod2c_core.inference.attention.attention_map import AttentionMap
from biod2c_core.inference.questions import AskOptions, Question, Reply
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.fusion import ImageEncoding
from biod2c_core.model.generation import Answer


@dataclass
class ImageSession:
    """Questions to a model about an image.

    Attributes:
        model: The loaded model.
        image: What is asked about, RGB.
        encoding: The image as the model knows it.
    """

    model: VQAModel
    image: Image.Image
    encoding: ImageEncoding

    @classmethod
    def open(cls, model: VQAModel, image: Image.Image) -> ImageSession:
        """Let a model see an RGB image."""
        return cls(model, image, model.answerer.encode([image]))

    def look_at(self, image: Image.Image) -> None:
        """Ask about another image from now on."""
        self.image, self.encoding = image, self.model.answerer.encode([image])

    def ask(
        self, questions: Sequence[Question], options: AskOptions | None = None
    ) -> Iterator[tuple[Reply, Answer]]:
        """Answer questions, in their order.

        Args:
            questions: The questions.
            options: How to answer.

        Yields:
            The reply, and the model's answer with its tokens.

        Raises:
            InputError: A question is too long for the model.
        """
        asked = [(0, question) for question in questions]
        return self.model.replies(self.encoding, asked, options or AskOptions())

    def explain(self, question: Question, answer: Answer) -> AttentionMap:
        """Where the model looked for an answer."""
        return self.model.explain(self.image, question.text, answer)
