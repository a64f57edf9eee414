"""One model for the command line and for Python: which questions go with which images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from PIL import Image

from biod2c_core.errors import ImageError, InputError
from biod2c_core.inference.ask import ask
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import Question, Reply
from biod2c_core.inference.vqa_model import BATCH, VQAModel, load

QUESTIONS = list(tiny_models.QUESTIONS)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> VQAModel:
    return load(checkpoint, "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        tiny_models.make_image(index).save(folder / f"{index}.png")
    return [folder / f"{index}.png" for index in range(3)]


def plain(replies: Any) -> list[tuple[str, str | None]]:
    return [(reply.question, reply.answer) for reply in replies]


def test_one_question_about_one_image_is_one_reply(model: VQAModel, images: list[Path]) -> None:
    reply = model.ask(images[0], QUESTIONS[0])
    assert isinstance(reply, Reply)
    (asked,) = ask(
        ImageChoice(str(images[0])), [Question(QUESTIONS[0])], None, model.answerer.name, "cpu"
    )
    assert (reply.answer, reply.confidence, reply.model) == (
        asked.answer,
        asked.confidence,
        asked.model,
    )
    assert str(reply) == reply.answer
    assert isinstance(model.ask([images[0]], QUESTIONS[0]), list)
    assert isinstance(model.ask(images[0], QUESTIONS[:1]), list)


def test_lists_go_in_pairs_and_a_single_one_goes_with_each(
    model: VQAModel, images: list[Path]
) -> None:
    by_itself = {
        (image, question): model.ask(image, question).answer
        for image in images
        for question in QUESTIONS[:3]
    }
    assert len(set(by_itself.values())) > 2  # or mixing them up would not show
    pairs = list(zip(images, QUESTIONS, strict=False))
    assert plain(model.ask(images, QUESTIONS[:3])) == [(q, by_itself[i, q]) for i, q in pairs]
    one = QUESTIONS[1]
    assert plain(model.ask(images, one)) == [(one, by_itself[image, one]) for image in images]
    assert plain(model.ask(images[2], QUESTIONS[:3])) == [
        (question, by_itself[images[2], question]) for question in QUESTIONS[:3]
    ]
    listed = model.ask(images, QUESTIONS[:3], n_best=2)
    assert [reply.candidates[0][0] for reply in listed] == [by_itself[i, q] for i, q in pairs]
    for (image, question), reply in zip(pairs, listed, strict=True):
        text, confidence = model.ask(image, question, n_best=2).candidates[1]
        same = pytest.approx(
            confidence, rel=1e-3
        )  # batches may round the last of four digits otherwise
        assert reply.candidates[1] == (text, same)


def test_more_images_than_a_batch(model: VQAModel, images: list[Path]) -> None:
    many = [images[index % 3] for index in range(BATCH + 5)]
    answers = [reply.answer for reply in model.ask(many, QUESTIONS[0])]
    assert answers == [answers[index % 3] for index in range(BATCH + 5)]
    assert answers[:3] == [model.ask(image, QUESTIONS[0]).answer for image in images]


def test_an_image_is_encoded_once_for_all_its_questions(
    model: VQAModel, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = model.answerer.encode

    def counted(pictures: Any) -> Any:
        seen.append(len(pictures))
        return encode(pictures)

    monkeypatch.setattr(model.answerer, "encode", counted)
    model.ask(images[0], [QUESTIONS[0]] * (BATCH + 1))
    assert seen == [1]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16", "P"])
def test_a_picture_in_memory_is_that_of_the_file(
    mode: str, model: VQAModel, tmp_path: Path
) -> None:
    picture = tiny_models.make_image(1)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 200)
    elif mode != "RGB":
        picture = picture.convert(mode)
    if mode == "RGBA":
        picture.putalpha(tiny_models.make_image(2).convert("L"))
    picture.save(tmp_path / "picture.png")
    path = model.ask(tmp_path / "picture.png", QUESTIONS[0])
    memory = model.ask(picture, QUESTIONS[0])
    assert (memory.answer, memory.confidence) == (path.answer, path.confidence)


def test_a_turned_photograph_is_upright_from_memory_too(model: VQAModel, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tiny_models.make_image(1).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as picture:
        memory = model.ask(picture, QUESTIONS[0])
    assert memory.confidence == model.ask(tmp_path / "turned.png", QUESTIONS[0]).confidence
    upright = model.ask(tiny_models.make_image(1), QUESTIONS[0])
    assert memory.confidence != upright.confidence  # or turning would not show


def test_below_the_confidence_asked_for_there_is_no_answer(
    model: VQAModel, images: list[Path]
) -> None:
    reply = model.ask(images[0], QUESTIONS[0], min_confidence=1.0)
    assert (reply.answer, reply.abstained) == (None, True)
    assert str(reply) == f"(not sure enough: {reply.confidence:.2f})"


def test_the_attention_map_of_an_answer(
    model: VQAModel, images: list[Path], tmp_path: Path
) -> None:
    shown = model.attention_map(images[0], QUESTIONS[0])
    assert shown.answer == model.ask(images[0], QUESTIONS[0]).answer
    assert shown.values.sum() == pytest.approx(1)
    shown.save(str(tmp_path / "map.png"))
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size == shown.picture.size
    other = model.attention_map(images[0], QUESTIONS[0], method="language")
    assert not np.allclose(other.values, shown.values)
    with pytest.raises(InputError, match="is not the name of a picture"):
        shown.save(tmp_path / "map.txt")


@pytest.mark.parametrize(
    ("image", "question", "message"),
    [
        ([], "is it?", "there is no image"),
        ("x.png", [], "there is no question"),
        ("x.png", " ", "the question is empty"),
        ("x.png", 3, "a question is text, int given. The image comes first"),
        ("is it?", __file__, "'is it\\?' is not a file, and .* is one. The image comes first"),
        (["is it?"], [__file__], "'is it\\?' is not a file, and .* is one. The image comes first"),
        (["a.png", "b.png"], ["a?", "b?", "c?"], "2 images do not go with 3 questions"),
    ],
)
def test_what_does_not_go_together_is_an_input_error(
    image: Any, question: Any, message: str, model: VQAModel
) -> None:
    with pytest.raises(InputError, match=message):
        model.ask(image, question)


def test_what_is_not_an_image_is_an_image_error(model: VQAModel) -> None:
    with pytest.raises(ImageError, match="ndarray given, expected an image"):
        model.ask(np.zeros((8, 8)), QUESTIONS[0])  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="image not found"):
        model.ask("nothing.png", QUESTIONS[0])
    with pytest.raises(InputError, match="The image comes first, the question behind it"):
        model.attention_map("is it?", __file__)
    with pytest.raises(InputError, match="unknown method 'magic'"):
        model.attention_map(tiny_models.make_image(0), QUESTIONS[0], method="magic")
