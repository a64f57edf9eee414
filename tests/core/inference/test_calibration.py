"""Calibration: fits by hand, what they promise, and the file beside the weights."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from biod2c_core.data.records import Record, iter_records
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.inference.ask import ask
from biod2c_core.inference.calibrating import Group, calibrate
from biod2c_core.inference.calibration import (
    FILE,
    LEAST_RECORDS,
    METHODS,
    Answered,
    Curve,
    cross_fitted,
    expected_error,
    fit,
    fit_answers,
    load_calibration,
)
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import Question
from biod2c_core.inference.vqa_model import load
from biod2c_core.model.checkpoints.folder import fingerprint


def test_isotonic_by_hand() -> None:
    """Five blocks of four: 0, 2, 1, 3, 4 right; the second and third violate and are pooled."""
    right = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    confidences = [0.1] * 4 + [0.3] * 4 + [0.5] * 4 + [0.7] * 4 + [0.9] * 4
    fitted = fit(confidences, [bool(each) for block in right for each in block], "isotonic")
    assert fitted(0.4) == pytest.approx(3 / 8, abs=0.02)
    assert fitted(0.7) == pytest.approx(3 / 4, abs=0.02)
    assert fitted(0.0) == pytest.approx(1 / 22, abs=1e-4)  # not 0: 20 answers do not show that
    assert fitted(1.0) == pytest.approx(21 / 22, abs=1e-4)


def test_isotonic_falls_to_nothing_below_its_first_block() -> None:
    """Half of twenty answers of confidence .4 are right; of less confident ones nothing is known."""
    fitted = fit([0.4] * 20, [True, False] * 10, "isotonic")
    assert fitted(0.0) == pytest.approx(1 / 22, abs=1e-4)
    assert fitted(0.2) == pytest.approx((1 / 22 + 1 / 2) / 2, abs=1e-4)
    assert fitted(0.4) == fitted(1.0) == 0.5


def test_temperature_is_found_again() -> None:
    """Answers right with probability sigmoid(logit(c) / 2) ask for T = 2."""
    generator = random.Random(0)
    truth = Curve("temperature", temperature=2.0)
    confidences = [generator.uniform(0.02, 0.98) for _ in range(20_000)]
    right = [generator.random() < truth(c) for c in confidences]
    assert fit(confidences, right, "temperature").temperature == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_overconfidence_is_taken_back(method: str) -> None:
    generator = random.Random(1)
    chance = [generator.uniform(0.2, 0.9) for _ in range(2000)]
    right = [generator.random() < p for p in chance]
    confidences = [p**0.3 for p in chance]
    answers = [
        Answered(f"{index:04}", "", "lung", confidence, None, good)
        for index, (confidence, good) in enumerate(zip(confidences, right, strict=True))
    ]
    after = cross_fitted(answers, method)  # type: ignore[arg-type]
    assert expected_error(confidences, right) > 0.2
    assert expected_error(after, right) < 0.11


@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=20, max_size=60),
    method=st.sampled_from(METHODS),
)
def test_a_calibration_rises_and_stays_a_probability(
    pairs: list[tuple[float, bool]], method: str
) -> None:
    fitted = fit(*map(list, zip(*pairs, strict=True)), method)  # type: ignore[arg-type]
    values = [fitted(step / 50) for step in range(51)]
    assert values == sorted(values)
    assert 0 <= values[0] <= values[-1] <= 1


def test_expected_error_by_hand() -> None:
    """Bin .5-.6 holds two of .55, one right (gap .1 in sum); .9-1 one of 1.0, wrong (gap 1)."""
    assert expected_error([0.55, 0.55, 1.0], [True, False, False]) == pytest.approx(1.1 / 3)


def test_too_few_answers() -> None:
    with pytest.raises(InputError, match="3 answers are too few"):
        fit([0.5] * 3, [True] * 3, "isotonic")


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def odd(gold: str, given: str) -> bool:
    return len(given) % 2 > 0


def make_calibrated(own: Path, data: Path) -> dict[str, object]:
    records = [record for record in iter_records(data) for _ in range(4)]
    return calibrate(Group(records, data.parent), str(own), "cpu", "isotonic", odd)


def test_a_checkpoint_is_calibrated_and_used_so(own: Path, data: Path) -> None:
    written = make_calibrated(own, data)
    assert json.loads(json.dumps(written)) == json.loads((own / FILE).read_text())
    assert written["records"] == 48
    choice = ImageChoice(str(data.parent / "0.png"))
    (reply,) = ask(choice, [Question("is it?")], checkpoint=str(own), device="cpu")
    assert reply.calibrated
    (own / FILE).unlink()
    (plain,) = ask(choice, [Question("is it?")], checkpoint=str(own), device="cpu")
    assert not plain.calibrated
    assert plain.answer == reply.answer


def test_other_weights_do_not_use_it(own: Path, data: Path) -> None:
    make_calibrated(own, data)
    assert load_calibration(own, fingerprint(own)) is not None
    assert load_calibration(own, "0" * 16) is None


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", '{"weights": "x"}', '{"weights": "x", "method": "magic", "points": []}'],
)
def test_a_damaged_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged"):
        load_calibration(tmp_path, "x")


def test_unknown_method_and_too_few_records(own: Path, data: Path) -> None:
    records = list(iter_records(data))
    with pytest.raises(InputError, match="12 records with answers are too few"):
        calibrate(Group(records, data.parent), str(own), "cpu", "isotonic", odd)
    with pytest.raises(InputError, match="unknown method 'platt'"):
        calibrate(Group(records * 4, data.parent), str(own), "cpu", "platt", odd)


ANSWERS = st.lists(
    st.builds(
        Answered,
        image=st.sampled_from("abcd"),
        source=st.just(""),
        text=st.sampled_from(["yes", "No.", "lung", "ct"]),
        confidence=st.floats(0, 1),
        familiarity=st.one_of(st.just(0.0), st.floats(0, 1)),
        right=st.booleans(),
    ),
    min_size=20,
    max_size=60,
)


@settings(max_examples=20)  # each fits some twenty curves
@given(answers=ANSWERS, method=st.sampled_from(METHODS), text=st.sampled_from(["yes", "ct"]))
def test_confidence_rises_with_probability_and_with_familiarity(
    answers: list[Answered], method: str, text: str
) -> None:
    """So an unfamiliar picture never raises it, whatever it was fitted on."""
    curve = fit_answers(answers, method).curve(text)  # type: ignore[arg-type]
    levels = (0.0, 0.001, 0.02, 0.05, 0.2, 0.6, 1.0)
    table = [[curve(c / 20, f) for c in range(21)] for f in levels]
    for row in (*table, *zip(*table, strict=True)):
        assert list(row) == sorted(row)
        assert 0 <= row[0] <= row[-1] <= 1


def test_familiarity_counts_as_far_as_it_tells() -> None:
    """Two answers of probability .9: on familiar pictures right, on others wrong in nine of ten."""
    answers = [
        Answered(str(i), "", "ct", 0.9, 0.5 if i % 2 else 0.0, i % 2 > 0 or i % 20 == 0)
        for i in range(400)
    ]
    curve = fit_answers(answers, "isotonic").other
    assert curve(0.9, 0.5) > 0.95
    assert curve(0.9, 0.0) == pytest.approx(0.1, abs=0.02)
    assert curve.holds(0.0)
    blind = [replace(a, familiarity=i / 400) for i, a in enumerate(answers)]
    assert fit_answers(blind, "isotonic").other.familiarity_weight < 0.3


def test_nothing_is_claimed_below_the_least_familiarity_that_was_fitted() -> None:
    answers = [Answered(str(i), "", "ct", 0.9, 0.2 + i / 1000, i % 10 > 0) for i in range(200)]
    curve = fit_answers(answers, "isotonic").other
    assert curve.familiar_from == pytest.approx(0.2 + (LEAST_RECORDS - 1) / 1000)
    assert (curve.holds(0.3), curve.holds(0.1)) == (True, False)
    assert curve(0.9, 0.3) == pytest.approx(0.9, abs=0.03)
    assert curve(0.9, 0.1) < 0.5
    assert curve(0.9, 0.0) == 0.0
    said = [replace(answer, text="yes") for answer in answers]
    assert fit_answers(said, "isotonic").yes_no(0.9, 0.0) == 0.5  # a guess


def test_yes_and_no_are_calibrated_apart() -> None:
    answers = [
        Answered(str(i), "", "yes" if i % 2 else "lung", 0.9, None, i % 2 > 0) for i in range(100)
    ]
    fitted = fit_answers(answers, "isotonic")
    assert fitted.curve("Yes.")(0.9) > 0.95
    assert fitted.curve("lung")(0.9) < 0.05
    assert (
        fit_answers(answers[::2], "isotonic").yes_no(0.9) < 0.05
    )  # one kind alone serves for both


def test_no_source_tells_about_itself() -> None:
    """Each of two sources is judged by the other; all answers of one are right, none of the other."""
    answers = [
        Answered(str(i), "ab"[i % 2], "ct", 0.9 + i / 10_000, None, i % 2 > 0) for i in range(200)
    ]
    right = [answer.right for answer in answers]
    assert expected_error(cross_fitted(answers, "isotonic", by_source=True), right) > 0.9
    assert expected_error(cross_fitted(answers, "isotonic"), right) < 0.2
    alone = [replace(answer, source="a") for answer in answers]  # one source: by image
    assert expected_error(cross_fitted(alone, "isotonic", by_source=True), right) < 0.2


def test_a_file_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    old = {"method": "isotonic", "temperature": 1.0, "points": [[0, 0.1], [1, 0.7]], "weights": "x"}
    (tmp_path / FILE).write_text(json.dumps(old))
    loaded = load_calibration(tmp_path, "x")
    assert loaded is not None
    assert loaded.yes_no == loaded.other
    assert (loaded.other(0.5), loaded.other.holds(None)) == (pytest.approx(0.4), True)


@pytest.mark.parametrize(
    "change",
    [
        *({"familiarity_weight": -1}, {"familiarity_weight": float("inf")}, {"familiar_from": 2}),
        *({"points": [[0, 0.9], [1, 0.1]]}, {"points": [[0, 0.1], [1, float("nan")]]}),
        {"points": []},
    ],
)
def test_a_curve_that_does_not_rise_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    curve = {"method": "isotonic", "temperature": 1.0, "points": [[0, 0.1], [1, 0.7]]}
    content = {"weights": "x", "yes_no": curve, "other": {**curve, **change}}
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"calibration\.json is damaged"):
        load_calibration(tmp_path, "x")


def test_rows_of_training_are_not_fitted_on(own: Path, data: Path) -> None:
    records = [record for record in iter_records(data) for _ in range(4)]
    mixed = [*records, *(record.changed(split="train") for record in records)]
    written = calibrate(Group(mixed, data.parent), str(own), "cpu", "isotonic", odd)
    assert (written["records"], written["training_rows_left_out"]) == (48, 48)
    with pytest.raises(
        InputError, match=r"0 records .* too few .*\(48 more are of the split train\)"
    ):
        calibrate(Group(mixed[48:], data.parent), str(own), "cpu", "isotonic", odd)


def test_the_installed_model_is_not_written_to(data: Path) -> None:
    records = [record for record in iter_records(data) for _ in range(4)]
    with pytest.raises(InputError, match="part of the installed package"):
        calibrate(Group(records, data.parent), "biod2c-tiny", "cpu", "isotonic", odd)


def test_a_reference_tells_pictures_of_training_from_others(own: Path, tmp_path: Path) -> None:
    """Grey gradients are trained on and held out; a picture of loud noise is unlike them."""
    generator = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(60)]
    for name, low in zip(names, generator.permutation(60), strict=True):  # no two alike
        row = np.linspace(2 * low, 120 + 2 * low, 32).astype(np.uint8)
        Image.fromarray(np.tile(row, (32, 1))).convert("RGB").save(tmp_path / name)
    noise = generator.integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    records = [Record(name, name, "is there a lesion?", "yes") for name in names]
    held_out = [record.changed(id=f"{record.id}{i}") for record in records[30:] for i in range(2)]
    written = calibrate(
        *(Group(held_out, tmp_path), str(own), "cpu", "isotonic", odd),
        train=[Group(records[:30], tmp_path)],
    )
    assert written["reference"] == {"pictures": 30, "left_out_pictures": 30}
    model = load(own, "cpu")
    reply = model.ask(tmp_path / "noise.png", "is there a lesion?")
    assert (reply.familiarity, reply.calibrated) == (0.0, False)
    assert reply.warnings() == [f"this picture is unlike those that {own} was trained on"]
    assert reply.to_row()["familiarity"] == 0.0
    known = model.ask(tmp_path / names[0], "is there a lesion?")
    assert (known.familiarity, known.calibrated, known.warnings()) == (1.0, True, [])
    assert reply.confidence <= known.confidence
    shares = sorted(model.ask(tmp_path / name, "is it?").familiarity or 0 for name in names[30:])
    assert shares == pytest.approx(
        [i / 30 for i in range(30)], abs=0.04
    )  # a tie may fall either way
    shown = model.attention_map(tmp_path / "noise.png", "is there a lesion?").map
    assert (shown.confidence, shown.calibrated) == (reply.confidence, False)
    noise_rows = [Record(str(i), "noise.png", f"is it {i}?", "yes") for i in range(40)]
    elsewhere = [Group(noise_rows, tmp_path)]
    met = calibrate(
        Group(held_out, tmp_path), str(own), "cpu", "isotonic", odd, new_sources=elsewhere
    )
    assert (met["records"], met["new_sources"], met["reference"]) == (
        40,
        True,
        written["reference"],
    )
    assert load(own, "cpu").ask(tmp_path / "noise.png", "is it 3?").calibrated
    again = calibrate(Group(held_out, tmp_path), str(own), "cpu", "temperature", odd)
    assert again["reference"] == written["reference"]  # that of before goes on to be used
