"""What a least confidence leaves, by hand."""

from __future__ import annotations

from biod2c_core.inference.risk_coverage import recommend, risk_coverage

SURE = [i / 100 for i in range(100)]
RIGHT = [c >= 0.5 or i % 2 == 0 for i, c in enumerate(SURE)]  # half below .5, all above


def test_the_curve_by_hand() -> None:
    rows = {row["min_confidence"]: row for row in risk_coverage(SURE, RIGHT)}
    assert rows[0.0] == {"min_confidence": 0.0, "answers": 100, "coverage": 1.0, "accuracy": 0.75}
    assert rows[0.5] == {"min_confidence": 0.5, "answers": 50, "coverage": 0.5, "accuracy": 1.0}
    assert rows[0.99]["answers"] == 1
    assert 0.95 not in {row["min_confidence"] for row in risk_coverage([0.4], [True])}


def test_the_smallest_confidence_that_leaves_enough_right_answers() -> None:
    # from .44 on 53 of 56 are right (.946), from .45 on 52 of 55 (.945), from .46 on 52 of 54
    assert recommend(SURE, RIGHT) == 0.46
    assert recommend([0.9] * 30, [True] * 28 + [False] * 2) is None
    assert recommend([0.9] * 19, [True] * 19) is None  # too few to say
