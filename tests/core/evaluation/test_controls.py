"""Controls, other words and repetitions, on models whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_answerer import Said
from PIL import Image

from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import InputError
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.every_profile import evaluate_by_all
from biod2c_core.evaluation.predict.asking import Asking, Sampling, noise_picture
from biod2c_core.evaluation.predict.predictions_file import Prediction, read_predictions
from biod2c_core.evaluation.probes.controls import compare_controls
from biod2c_core.evaluation.report.leaderboard import make_boards
from biod2c_core.evaluation.report.profiles_table import profiles_table
from biod2c_core.evaluation.report.tables import score_table
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.statistics.analysis import Analysis

NAMES = ["red", "green", "blue", "cyan", "magenta", "yellow", "black", "white", "orange"]
COLOURS = {name: (25 * index, 250 - 25 * index, 0) for index, name in enumerate(NAMES)}


@dataclass
class Toy:
    """Asked for the colour: reads the picture, or answers from the question alone."""

    looks: bool
    patience: int = 1_000
    name: str = "toy"
    identity: str = "t0"
    needs_picture: bool = False
    asked: list[str] = field(default_factory=list)

    def answer_images(self, images: Sequence[Image.Image], questions: Sequence[Any]) -> list[Said]:
        return [self.say(images[index], text) for index, text in questions]

    def answer_blind(self, questions: Sequence[str]) -> list[Said]:
        return [self.say(None, text) for text in questions]

    def draw_answers(
        self, images: Any, questions: Any, *, temperature: float, repetition: int
    ) -> list[Said]:
        texts = [NAMES[i] if repetition % 2 else "red" for i, _ in questions]
        return [Said(text) for text in texts]

    def say(self, image: Image.Image | None, question: str) -> Said:
        if self.patience == 0:
            raise KeyboardInterrupt
        self.patience -= 1
        self.asked.append(question)
        if not self.looks:
            return Said("red")
        pixel = image.getpixel((3, 3)) if image else None
        return Said(next((name for name, c in COLOURS.items() if c == pixel), "I cannot tell"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Nine pictures of nine colours, two questions each."""
    records = []
    for index in range(9):
        name = NAMES[index]
        Image.new("RGB", (8, 8), COLOURS[name]).save(tmp_path / f"{index}.png")
        for text in ("What colour?", "Which colour is it?"):
            tags = {"question_type": text.split()[0]}
            records.append(
                Record(
                    f"{index} {text}", f"{index}.png", text, name, "OPEN", split="test", tags=tags
                )
            )
    write_records(tmp_path / "data.jsonl", records)
    return tmp_path / "data.jsonl"


def run(data: Path, toy: Any, **options: Any) -> Analysis:
    options = {"split": "test", "run": data.parent / "run", "model": "toy", **options}
    return evaluate(Request(data, **options), lambda *_: toy)


def test_a_model_that_answers_from_the_question_alone(data: Path) -> None:
    found = run(data, Toy(looks=False), controls=True).controls
    assert found is not None
    whole = found.groups[0]
    assert {estimate.value for estimate in whole.accuracy.values()} == {1 / 9}
    assert len(whole.accuracy) == 5
    for control in ("other", "blank", "noise", "none"):
        test, kept = whole.difference[control], whole.kept[control]
        assert (test.difference, test.low, test.high, test.p) == (0, 0, 0, 1)
        assert whole.changed[control].value == 0
        assert (kept.value, kept.low, kept.high) == (1, 1, 1)


def test_a_model_that_reads_the_colour(data: Path) -> None:
    analysis = run(data, Toy(looks=True), controls=True)
    assert analysis.controls is not None
    whole, result = analysis.controls.groups[0], analysis.to_dict()["controls"]
    assert whole.accuracy["own"].value == 1
    for control in ("other", "blank", "noise", "none"):
        assert whole.changed[control].value == whole.difference[control].difference == 1
        assert whole.kept[control].value == 0
    assert result["groups"][0]["reliance"]["difference"] == 1
    assert result["groups"][0]["sensitivity"]["value"] == 1
    assert [(g.tag, g.value, g.questions) for g in analysis.controls.groups] == [
        ("", "all questions", 18),
        ("question_type", "What", 9),
        ("question_type", "Which", 9),
    ]
    folder = data.parent / "run"
    assert "<svg xmlns" in (folder / "controls.svg").read_text()
    assert "Reliance +" in (folder / "report.md").read_text()
    assert "another question's image" in (folder / "report.html").read_text().replace("&#39;", "'")
    (board,) = make_boards([f"toy={folder}"])
    assert board.entries[0].control == "reliance +1.000, sensitivity 1.000"


def test_a_run_says_how_it_was_asked(data: Path) -> None:
    run(data, Toy(looks=True), controls=True)
    blank = data.parent / "run" / "predictions.blank-image.jsonl"
    scored = run(data, None, model=None, run=data.parent / "again", predictions=blank)
    title = score_table(scored.to_dict()).title
    assert "toy on records test, picture: blank, profile" in title


def test_killed_and_resumed_without_a_repeated_question(data: Path) -> None:
    whole = run(data, Toy(looks=True), run=data.parent / "whole", controls=True)
    for patience in (5, 40):
        folder = data.parent / str(patience)
        first, second = Toy(looks=True, patience=patience), Toy(looks=True)
        with pytest.raises(KeyboardInterrupt):
            run(data, first, run=folder, controls=True)
        assert run(data, second, run=folder, controls=True).controls == whole.controls
        # a batch that was cut off is asked again, what was written never
        assert 90 <= len(first.asked) + len(second.asked) < 90 + 18
    third = Toy(looks=True)
    assert run(data, third, run=folder, model=None, controls=True).controls == whole.controls
    assert third.asked == []


def test_the_answers_of_another_system_about_other_pictures(data: Path, tmp_path: Path) -> None:
    run(data, Toy(looks=True), controls=True)
    theirs = tmp_path / "theirs.jsonl"
    names = {"": "", ".other-image": ".other-image", ".blank-image": ".blank-image"}
    for ours, other in names.items():
        text = (tmp_path / "run" / f"predictions{ours}.jsonl").read_text()
        (tmp_path / f"theirs{other}.jsonl").write_text(text)
    found = run(data, None, model=None, predictions=theirs, controls=True).controls
    assert found is not None
    assert list(found.groups[0].accuracy) == ["own", "other", "blank"]
    assert found.missing["noise"] == "there is no theirs.noise-image.jsonl"
    (tmp_path / "theirs.blank-image.jsonl").unlink()
    (tmp_path / "theirs.other-image.jsonl").unlink()
    with pytest.raises(InputError, match="another system, who cannot be asked"):
        run(data, None, model=None, predictions=theirs, controls=True)


class Blindless(Toy):
    """Takes no question without a picture."""

    needs_picture = True


def test_a_model_that_needs_a_picture_is_asked_the_rest(data: Path) -> None:
    found = run(data, Blindless(looks=True, needs_picture=True), controls=True).controls
    assert found is not None
    assert "none" not in found.groups[0].accuracy
    assert found.missing["none"] == "toy takes no question without a picture"


# own, blank, other, gold: the eight answers of the conventions' published definition, worked by hand
PUBLISHED = [
    ("yes", "yes", "yes", "yes"),
    ("yes", "no", "no", "yes"),
    ("no", "no", "no", "yes"),
    ("no", "yes", "yes", "yes"),
    ("Yes.", "yes", "yes", "yes"),
    ("left lung", "liver", "right lung", "left lung"),
    ("x-ray", "ct", "X ray", "xray"),
    ("", "yes", "", "yes"),
]


def test_the_measures_by_their_definition() -> None:
    records = [Record(f"{i}", f"{i}.png", "?", row[3]) for i, row in enumerate(PUBLISHED)]

    def said(column: int) -> Any:
        answers = {f"{i}": Prediction(f"{i}", row[column]) for i, row in enumerate(PUBLISHED)}
        return score(records, answers, get_profile("lmms-slake"))

    whole = compare_controls(said(0), {"other": said(2), "blank": said(1)}).groups[0]
    assert whole.accuracy["own"].value == 5 / 8
    assert whole.difference["other"].difference == 0.125
    assert whole.changed["other"].value == 3 / 8
    assert whole.kept["blank"].value == pytest.approx(4 / 5)


def test_noise_is_the_same_for_the_same_picture() -> None:
    one, two = (Image.new("RGB", (8, 8), (i, 0, 0)) for i in (1, 2))
    assert noise_picture(one).tobytes() == noise_picture(one).tobytes()
    assert noise_picture(one).tobytes() != noise_picture(two).tobytes()


def test_repetitions_and_their_spread(data: Path) -> None:
    drawn = Asking(sampling=Sampling(0.7))
    found = run(data, Toy(looks=True), asking=drawn, repeat=3).repeats
    assert found is not None
    assert (found.repetitions, found.temperature) == (3, 0.7)
    (spread,) = [s for key, s in found.columns.items() if key == "open_accuracy"]
    assert spread.values == (1, 1 / 9, 1)
    assert spread.mean.value == pytest.approx((1 + 1 / 9 + 1) / 3)
    assert spread.deviation == pytest.approx((8 / 9) / 3**0.5)
    assert (found.same.value, found.always.value, found.ever.value) == (1 / 9, 1 / 9, 1)
    manifest = json.loads(
        (data.parent / "run/predictions.repeat-2.jsonl.manifest.json").read_text()
    )
    assert (manifest["temperature"], manifest["repetition"]) == (0.7, 2)
    with pytest.raises(InputError, match="was begun with temperature"):
        run(data, Toy(looks=True))
    with pytest.raises(InputError, match="every repetition gives the same answers"):
        run(data, Toy(looks=True), repeat=3)


def test_a_quick_look_goes_on_as_a_whole_run(data: Path) -> None:
    model = Toy(looks=True)
    looked = run(data, model, limit=5)
    assert (len(model.asked), len(looked.evaluation.questions), looked.quick_look_of) == (5, 5, 18)
    assert "only the first 5 of 18" in (data.parent / "run" / "report.md").read_text()
    request = Request(data, run=data.parent / "run", model="toy", limit=5)
    result = evaluate_by_all(request, lambda *_: model)
    assert "only the first 5 of 18" in profiles_table(result).notes[0]
    whole = run(data, model, model=None)
    assert len(model.asked) == 18
    assert whole.quick_look_of is None
    assert len(run(data, None, model=None, limit=4).evaluation.questions) == 4
    assert len(read_predictions(data.parent / "run" / "predictions.jsonl")) == 18
