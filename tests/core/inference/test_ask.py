"""One question about one image, and what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models

from biod2c_core.errors import CheckpointError, ImageError, InputError
from biod2c_core.inference.ask import ask
from biod2c_core.model.answering import Answerer


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny_models.make_image(0).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_the_reply_is_the_models_answer(image: Path, checkpoint: Path) -> None:
    reply = ask(image, "is there a lesion?", str(checkpoint), "cpu")
    (answer,) = Answerer.load(str(checkpoint), "cpu").answer(
        [tiny_models.make_image(0)], ["is there a lesion?"]
    )
    assert (reply.answer, reply.confidence) == (answer.text, answer.confidence)
    assert reply.model == str(checkpoint)
    assert reply.seconds > 0


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_comes_first(question: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        ask(tmp_path / "nothing.png", question, "nothing")


def test_a_question_that_is_no_text_is_an_input_error(image: Path) -> None:
    """What Python makes of a byte that is no UTF-8 on the command line."""
    with pytest.raises(InputError, match="the question is not UTF-8 text"):
        ask(image, "is \udcff there?", "nothing")


def test_a_bad_image_comes_before_the_model(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="image not found"):
        ask(tmp_path / "nothing.png", "is it?", "nothing")


def test_a_missing_model_is_named(image: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder at nothing"):
        ask(image, "is it?", "nothing")


def test_a_question_longer_than_the_model_reads_is_an_input_error(
    image: Path, checkpoint: Path
) -> None:
    with pytest.raises(
        InputError, match=r"would take \d+ tokens, and the language model reads 256"
    ):
        ask(image, "is it there? " * 300, str(checkpoint), "cpu")
