"""Calibration: fits by hand, what they promise, and the file beside the weights."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.records import iter_records
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.inference.ask import ask
from biod2c_core.inference.calibration import (
    FILE,
    METHODS,
    Calibration,
    calibrate,
    cross_fitted,
    expected_error,
    fit,
    load_calibration,
)
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.questions import Question
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
    truth = Calibration("temperature", temperature=2.0)
    confidences = [generator.uniform(0.02, 0.98) for _ in range(20_000)]
    right = [generator.random() < truth(c) for c in confidences]
    assert fit(confidences, right, "temperature").temperature == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_overconfidence_is_taken_back(method: str) -> None:
    generator = random.Random(1)
    chance = [generator.uniform(0.2, 0.9) for _ in range(2000)]
    right = [generator.random() < p for p in chance]
    confidences = [p**0.3 for p in chance]
    after = cross_fitted(confidences, right, method)  # type: ignore[arg-type]
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


def make_calibrated(own: Path, data: Path) -> dict[str, object]:
    records = [record for record in iter_records(data) for _ in range(4)]
    return calibrate(records, data.parent, str(own), "cpu", "isotonic", lambda a, b: len(b) % 2 > 0)


def test_a_checkpoint_is_calibrated_and_used_so(own: Path, data: Path) -> None:
    written = make_calibrated(own, data)
    assert written == json.loads((own / FILE).read_text()) | {"points": written["points"]}
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
        calibrate(records, data.parent, str(own), "cpu", "isotonic", str.__eq__)
    with pytest.raises(InputError, match="unknown method 'platt'"):
        calibrate(records * 4, data.parent, str(own), "cpu", "platt", str.__eq__)
