"""Confidences: risk against coverage by hand, ties, calibration, and sets that keep their level."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.report.confidence import confidence_section, confidence_table
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import ScoredQuestion, score
from biod2c_core.evaluation.statistics.abstention import (
    area_under,
    assess_confidence,
    calibration_bins,
    perfect_area,
    risk_coverage,
)
from biod2c_core.evaluation.statistics.conformal import (
    conformal_sets,
    coverage_over_splits,
    quantile,
)


def asked(
    number: int, sure: float | None, right: float, image: int | None = None
) -> ScoredQuestion:
    name = number if image is None else image
    record = Record(f"q{number:03}", f"{name}.png", "?", "yes")
    said = Prediction(record.id, "yes" if right else "no", sure)
    return ScoredQuestion(record, said, {"closed_accuracy": right})


def test_risk_and_coverage_by_hand() -> None:
    sure, right = np.array([0.9, 0.2, 0.6, 0.6]), np.array([1.0, 0.0, 1.0, 0.0])
    # from .9 on one answer, right; from .6 on three, one wrong; then all
    assert risk_coverage(sure, right) == [(0.25, 0), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    assert area_under(sure, right) == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 * 0.5)


def test_selective_accuracy_by_hand() -> None:
    questions = [asked(i, 0.95 - i / 20, float(i not in (5, 9))) for i in range(10)]
    found = assess_confidence([*questions, asked(10, None, 1)])
    assert found is not None
    assert (found.questions, found.without) == (10, 1)
    at_80, at_60 = found.selective
    assert (at_80.coverage, at_80.accuracy.value) == (0.8, pytest.approx(7 / 8))
    assert (at_60.coverage, at_60.accuracy.value) == (0.6, pytest.approx(5 / 6))
    assert at_60.threshold == pytest.approx(0.7)
    for estimate in (found.area, at_80.accuracy, at_60.accuracy):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.value is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert found.area_random == pytest.approx(0.2)
    # all eight right ones first, then one wrong one after the other
    assert found.area_perfect == pytest.approx((1 / 9 + 2 / 10) / 10)
    # risks of the ten thresholds
    risks = [0, 0, 0, 0, 0, 1 / 6, 1 / 7, 1 / 8, 1 / 9, 2 / 10]
    assert found.area.value == pytest.approx(sum(risks) / 10)


def test_answers_of_equal_confidence_are_accepted_together() -> None:
    found = assess_confidence([asked(i, 0.5, float(i % 2)) for i in range(10)])
    assert found is not None
    assert found.area.value == found.area_random == 0.5
    assert [each.coverage for each in found.selective] == [1, 1]
    assert "(ties: 100%)" in confidence_table(found.to_dict()).rows[1][0].text


def test_a_file_without_confidences_has_none() -> None:
    assert assess_confidence([asked(0, None, 1), asked(1, 0.5, 1)]) is None
    assert confidence_section(None) is None


rows = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=2,
    max_size=25,
)


@settings(max_examples=40)
@given(rows=rows)
@example(rows=[(0.0, 0.0), (0.2, 0.0), (0.4, 0.5)])  # two equally wrong ones are not one step
def test_areas_lie_between_the_perfect_one_and_the_worst(rows: list[tuple[float, float]]) -> None:
    sure, right = (np.array(column) for column in zip(*rows, strict=True))
    area, best = area_under(sure, right), perfect_area(right)
    assert best - 1e-12 <= area <= 1
    assert area_under(np.zeros(len(rows)), right) == pytest.approx(1 - right.mean())
    assert area_under(sure[::-1], right[::-1]) == pytest.approx(area)


def test_calibration_bins_by_hand() -> None:
    bins = calibration_bins(np.array([0.05, 0.95, 0.97, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert [(each.questions, each.accuracy) for each in bins] == [(1, 0), (3, pytest.approx(2 / 3))]
    assert bins[1].confidence == pytest.approx((0.95 + 0.97 + 1) / 3)


def test_the_calibrated_bound_by_hand() -> None:
    scores = np.arange(1, 10) / 10
    assert quantile(scores, 0.9) == 0.9  # the ninth of nine: (9 + 1) * .9
    assert quantile(scores, 0.5) == 0.5
    assert quantile(scores[:8], 0.9) == math.inf  # eight are too few


@settings(max_examples=15, deadline=None)
@given(
    answers=st.integers(2, 5),
    sharpness=st.floats(0.2, 5),
    level=st.sampled_from([0.6, 0.8, 0.9]),
    seed=st.integers(0, 1000),
)
def test_sets_hold_the_gold_answer_as_often_as_promised(
    answers: int, sharpness: float, level: float, seed: int
) -> None:
    """Whatever the confidences are worth; 4 standard errors of 400 questions may be missing."""
    generator = np.random.default_rng(seed)
    table = generator.dirichlet(np.full(answers, 1 / sharpness), size=400)
    gold_first = generator.random(400) < 0.5
    table[gold_first] = -np.sort(-table[gold_first], axis=1)
    found = coverage_over_splits(table, [str(i) for i in range(400)], level, splits=40)
    assert found is not None
    coverage, low, high, size, single = found
    assert coverage >= level - 4 * math.sqrt(level * (1 - level) / 400)
    assert low <= coverage <= high
    assert 0 <= single <= 1
    assert 0 <= size <= answers


def test_sets_of_closed_questions_and_of_choices() -> None:
    tags = {"choice_a": "lung", "choice_b": "liver", "choice_c": "heart", "answer_label": "B"}
    records = [Record(f"c{i}", f"{i}.png", "?", "yes") for i in range(40)]
    records += [Record(f"m{i}", f"{i}.png", "?", "liver", tags=tags) for i in range(40)]
    said = {
        r.id: Prediction(
            r.id, ("yes" if r.id[0] == "c" else "B") if int(r.id[1:]) % 4 else "-", 0.9
        )
        for r in records
    }
    closed, choice = conformal_sets(score(records, said, get_profile("pmc-vqa")).questions)
    assert (closed.kind, closed.questions, choice.kind, choice.questions) == (
        *("closed", 40),
        *("choice", 40),
    )
    # a quarter of the answers is none of these and gets all answers, the others get their own alone
    assert closed.coverage == choice.coverage == 1
    assert closed.size == pytest.approx(0.75 * 1 + 0.25 * 2, abs=0.02)
    assert choice.size == pytest.approx(0.75 * 1 + 0.25 * 3, abs=0.02)
    assert closed.single == pytest.approx(0.75, abs=0.02)
    assert conformal_sets([]) == ()


def test_the_result_and_its_section_have_it_all(tmp_path: Path) -> None:
    questions = [asked(i, i / 40, float(i % 3 > 0), image=i // 2) for i in range(40)]
    found = assess_confidence(questions)
    assert found is not None
    values = json.loads(json.dumps(found.to_dict()))
    section = confidence_section(values)
    assert section is not None
    risk, calibration = section["figures"]
    assert 'class="line"' in risk["svg"]
    assert calibration["svg"].count('class="dot"') == len(found.bins)
    assert any("closed questions: coverage" in row[0].text for row in section["table"].rows)
