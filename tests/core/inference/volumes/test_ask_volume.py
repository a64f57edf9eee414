"""``VQAModel.ask_volume``: each slice is asked about as a picture is, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from biod2c_core.data.images import Selection, Stack
from biod2c_core.errors import ImageError, InputError
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.volumes import ask
from biod2c_core.inference.vqa_model import VQAModel, load

QUESTIONS = list(tiny_models.QUESTIONS)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> VQAModel:
    return load(checkpoint, "cpu")


def test_a_volume_is_asked_slice_by_slice(model: VQAModel, volume: Path) -> None:
    whole = model.ask_volume(volume, QUESTIONS[1], "4,1:3")
    assert list(whole.slices) == [1, 2, 4]
    for index, reply in whole.slices.items():
        alone = model.ask(ImageChoice(str(volume), slice_index=index), QUESTIONS[1])
        assert reply.answer == alone.answer
        assert reply.confidence == pytest.approx(alone.confidence, rel=1e-2)
    assert whole.slices[1].answer != whole.slices[2].answer  # or mixing them up would not show
    best = whole.spread[0]
    assert str(whole) == whole.answer == best.answer == whole.slices[best.places[0]].answer
    evidence = sum(whole.slices[index].confidence for index in best.places) / 3
    assert whole.confidence == best.confidence == pytest.approx(evidence, rel=1e-3)
    listed = model.ask_volume(str(volume), QUESTIONS[:2])
    assert [(each.reply.question, len(each.slices)) for each in listed] == [
        (question, 6) for question in QUESTIONS[:2]
    ]
    other = model.ask_volume(ImageChoice(str(volume), axis=0), QUESTIONS[0], "-1")
    assert list(other.slices) == [tiny_models.make_image(0).width - 1]
    unsure = model.ask_volume(volume, QUESTIONS[0], min_confidence=1.0)
    assert (unsure.answer, unsure.spread) == (None, ())


def test_warnings_of_a_volume(checkpoint: Path, volume: Path, tmp_path: Path) -> None:
    strange = load(tiny_models.with_reference(checkpoint, tmp_path / "own"), "cpu")
    (line,) = strange.ask_volume(volume, QUESTIONS[0], "1:3").warnings()
    assert line.startswith("2 of 2 slices are unlike those that")
    assert line.endswith("the first slice 1")


def test_what_is_odd_about_a_series_is_told(
    model: VQAModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def odd(path: str, chosen: Selection) -> Iterator[Stack]:
        yield Stack(2, tiny_models.make_image, ("a slice may be missing",))

    monkeypatch.setattr(ask, "open_stack", odd)
    whole = model.ask_volume("series", QUESTIONS[0])
    assert len(whole.slices) == 2
    assert whole.warnings() == ["a slice may be missing"]


@pytest.mark.parametrize(
    ("question", "slices", "message"),
    [
        (QUESTIONS[0], "a", "'a' is not a choice of slices"),
        (QUESTIONS[0], range(3), r"range\(0, 3\) is not a choice of slices"),
        (QUESTIONS[0], "9", "has slices 0 to 5, not 9"),
        (" ", ":", "the question is empty"),
        ([], ":", "there is no question"),
    ],
)
def test_what_cannot_be_asked_of_a_volume(
    question: Any, slices: Any, message: str, model: VQAModel, volume: Path
) -> None:
    with pytest.raises(InputError, match=message):
        model.ask_volume(volume, question, slices)


def test_what_is_not_a_volume_is_an_input_error(
    model: VQAModel, volume: Path, tmp_path: Path
) -> None:
    tiny_models.make_image(0).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is a single picture and has no slices"):
        model.ask_volume(tmp_path / "a.png", QUESTIONS[0])
    with pytest.raises(ImageError, match="Image given, expected a volume"):
        model.ask_volume(tiny_models.make_image(0), QUESTIONS[0])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="is one slice, and slices of a volume are asked for"):
        model.ask_volume(ImageChoice(str(volume), slice_index=1), QUESTIONS[0])
    with pytest.raises(InputError, match="The image comes first, the question behind it"):
        model.ask_volume("is it?", str(volume))
