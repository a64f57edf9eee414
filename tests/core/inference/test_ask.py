"""Questions about one image, and what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
from PIL import Image

from biod2c_core.errors import CheckpointError, ImageError, InputError, RecordError
from biod2c_core.inference.ask import ask
from biod2c_core.inference.calibration import Calibration, Curve
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import AskOptions, Question, gather_questions
from biod2c_core.inference.session import ImageSession
from biod2c_core.inference.vqa_model import BATCH, VQAModel
from biod2c_core.model.generation import Answerer

QUESTIONS = [Question(text) for text in tiny_models.QUESTIONS]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny_models.make_image(0).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_the_replies_are_the_models_answers(image: Path, checkpoint: Path) -> None:
    replies = list(
        ask(ImageChoice(str(image)), QUESTIONS, checkpoint=str(checkpoint), device="cpu")
    )
    answerer = Answerer.load(str(checkpoint), "cpu")
    for question, reply in zip(QUESTIONS, replies, strict=True):
        (answer,) = answerer.answer([tiny_models.make_image(0)], [question.text])
        assert (reply.question, reply.answer) == (question.text, answer.text)
        assert reply.confidence == pytest.approx(answer.confidence, rel=1e-3)
        assert (reply.model, reply.calibrated) == (str(checkpoint), False)


def make_session(checkpoint: Path, calibration: Calibration | None = None) -> ImageSession:
    model = VQAModel(Answerer.load(str(checkpoint), "cpu"), calibration)
    return ImageSession.open(model, tiny_models.make_image(0))


def test_the_image_is_encoded_once_however_many_the_questions(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = Answerer.encode

    def counted(self: Answerer, images: Any) -> Any:
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Answerer, "encode", counted)
    session = make_session(checkpoint)
    questions = [QUESTIONS[index % 4] for index in range(BATCH + 3)]
    texts = [reply.answer for reply, _ in session.ask(questions)]
    assert seen == [1]
    assert texts[:4] == texts[4:8] == texts[BATCH - 4 : BATCH]
    assert texts[BATCH:] == texts[:3]


def test_the_confidence_is_calibrated_and_decides_on_abstention(checkpoint: Path) -> None:
    level = Curve("isotonic", points=((0.0, 0.25), (1.0, 0.25)))
    session = make_session(checkpoint, Calibration(level, level))
    ((reply, answer),) = session.ask(QUESTIONS[:1], AskOptions(min_confidence=0.3))
    assert (reply.answer, reply.confidence, reply.calibrated) == (None, 0.25, True)
    assert reply.abstained
    ((reply, _),) = session.ask(QUESTIONS[:1], AskOptions(min_confidence=0.25))
    assert (reply.answer, reply.abstained) == (answer.text, False)


def test_the_n_best_are_different_and_start_with_the_answer(checkpoint: Path) -> None:
    session = make_session(checkpoint)
    ((plain, answer),) = session.ask(QUESTIONS[:1])
    ((reply, _),) = session.ask(QUESTIONS[:1], AskOptions(n_best=3))
    assert reply.answer == plain.answer
    assert reply.candidates[0] == (answer.text, answer.confidence)
    texts = [text for text, _ in reply.candidates]
    assert len(set(texts)) == len(texts) == 3
    others = [confidence for _, confidence in reply.candidates[1:]]
    assert others == sorted(others, reverse=True)


def test_looking_for_attention_leaves_the_answers(image: Path, checkpoint: Path) -> None:
    out = image.parent / "map.png"
    choice = ImageChoice(str(image))
    shown = list(ask(choice, QUESTIONS[:2], None, str(checkpoint), device="cpu", attention=out))
    plain = list(ask(choice, QUESTIONS[:2], None, str(checkpoint), device="cpu"))
    assert [(r.answer, r.confidence) for r in shown] == [(r.answer, r.confidence) for r in plain]
    with Image.open(out) as picture:
        assert picture.width > 3 * 320


def test_questions_come_from_arguments_and_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "b?", "id": 7}\n\n"c?"\n{"question": "d?"}\n')
    assert gather_questions(["a?"], file) == [
        Question("a?"),
        Question("b?", "7"),
        Question("c?"),
        Question("d?"),
    ]


@pytest.mark.parametrize("line", ["{}", '{"question": 3}', '""', "[1]", "no json"])
def test_a_line_without_a_question_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(f'"a?"\n{line}\n')
    with pytest.raises(RecordError, match=r"questions\.jsonl:2: "):
        gather_questions([], file)


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        gather_questions([question], None)


def test_no_question_is_refused() -> None:
    with pytest.raises(InputError, match="there is no question"):
        gather_questions([], None)


def test_a_question_that_is_no_text_is_an_input_error() -> None:
    """What Python makes of a byte that is not UTF-8 on the command line."""
    with pytest.raises(InputError, match="the question is not UTF-8 text"):
        gather_questions(["is \udcff there?"], None)


def test_options_out_of_range() -> None:
    with pytest.raises(InputError, match="n-best is 0, expected 1 to 20"):
        AskOptions(n_best=0)
    with pytest.raises(InputError, match=r"min-confidence is 1\.5, expected 0 to 1"):
        AskOptions(min_confidence=1.5)


def test_a_bad_image_comes_before_the_model(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="image not found"):
        list(ask(ImageChoice(str(tmp_path / "nothing.png")), QUESTIONS, checkpoint="nothing"))


def test_a_missing_model_is_named(image: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint folder at nothing"):
        list(ask(ImageChoice(str(image)), QUESTIONS, checkpoint="nothing"))


def test_a_question_longer_than_the_model_reads_is_an_input_error(
    image: Path, checkpoint: Path
) -> None:
    long = Question("is it there? " * 300)
    with pytest.raises(
        InputError, match=r"would take \d+ tokens, and the language model reads 256"
    ):
        list(ask(ImageChoice(str(image)), [long], checkpoint=str(checkpoint), device="cpu"))
