"""What slices say together, against counting every case; which slices, against Python's own lists."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.errors import ImageError, InputError
from biod2c_core.inference.volumes.slices import Slices
from biod2c_core.inference.volumes.whole import ranges, weigh

SAID = st.lists(
    st.tuples(st.sampled_from(["yes", "no", "left", None]), st.integers(0, 100)),
    min_size=1,
    max_size=8,
)


@given(SAID)
def test_the_evidence_is_the_chance_of_a_random_slice(said: list[tuple[str | None, int]]) -> None:
    """Of all (slice, one of 100 equal cases) those in which the slice says so and is right."""
    cases = [
        answer if case < right else None
        for answer, right in said
        for case in range(100)
        if answer is not None
    ]
    everything = 100 * len(said)
    wanted = {
        answer: Fraction(cases.count(answer), everything)
        for answer, _ in said
        if answer is not None
    }
    shares = weigh([answer for answer, _ in said], [right / 100 for _, right in said])
    assert {share.answer: share.confidence for share in shares} == {
        answer: pytest.approx(float(value), rel=1e-3) for answer, value in wanted.items()
    }
    assert [s.confidence for s in shares] == sorted((s.confidence for s in shares), reverse=True)
    for share in shares:
        assert [said[place][0] for place in share.places] == [share.answer] * len(share.places)
        assert share.confidence <= max(said[place][1] for place in share.places) / 100 + 1e-9
    twice = weigh([answer for answer, _ in said * 2], [right / 100 for _, right in said * 2])
    assert {s.answer: s.confidence for s in twice} == {
        s.answer: pytest.approx(s.confidence, rel=1e-3) for s in shares
    }


def test_words_of_the_surest_and_what_counts_as_the_same() -> None:
    first, second = weigh(["Left lung.", "left  LUNG", "right lung", None], [0.5, 0.7, 0.9, 0.99])
    assert (first.answer, first.confidence, first.places) == ("left  LUNG", 0.3, (0, 1))
    assert (second.answer, second.confidence) == ("right lung", 0.225)
    assert weigh([None], [0.2]) == []
    surer, _ = weigh(["a", "a", "b"], [0.4, 0.4, 0.8])
    assert surer.answer == "b"  # equal evidence: the surest slice
    with pytest.raises(ValueError, match="shorter"):
        weigh(["a", "b"], [0.5])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (":", list(range(10))),
        ("2:8:3", list(range(10))[2:8:3]),
        ("-3:", list(range(10))[-3:]),
        ("::-4", list(range(10))[::-4]),
        ("5:99", list(range(10))[5:99]),
        ("-1", [9]),
        ("3, 7,2:5", [3, 7, 2, 4]),
    ],
)
def test_slices_are_pythons(text: str, wanted: list[int]) -> None:
    assert Slices.parse(text).of(10, "v") == wanted


@pytest.mark.parametrize("text", ["", "a", "1,", "1:2:3:4", "::0", "1.5", "1-3"])
def test_what_is_no_choice_of_slices(text: str) -> None:
    with pytest.raises(InputError, match="is not a choice of slices"):
        Slices.parse(text)


def test_slices_that_are_not_there() -> None:
    with pytest.raises(ImageError, match="v has slices 0 to 9, not 10"):
        Slices.parse("10").of(10, "v")
    with pytest.raises(ImageError, match="'20:' leaves nothing of v, which has slices 0 to 9"):
        Slices.parse("20:").of(10, "v")


def test_runs_of_numbers() -> None:
    assert ranges([0, 2, 3, 4, 9]) == "0, 2-4, 9"
