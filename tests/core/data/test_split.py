"""The split is by group, deterministic, and keeps the shares of every kind of record."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.data.split import split_records
from biod2c_core.errors import InputError

RECORDS = [
    Record(
        id=str(index),
        image=f"{index // 3}.png",
        question="q",
        answer_type="CLOSED" if index % 5 < 3 else "OPEN",
        source="b" if index < 150 else "a",
        tags={"patient": str(index // 9)},
    )
    for index in range(900)
]


def by_id(records: list[Record]) -> dict[str, str]:
    return {record.id: record.split for record in records}


def test_shares_hold_for_every_kind() -> None:
    totals = Counter((record.source, record.answer_type) for record in RECORDS)
    dealt = Counter((r.source, r.answer_type, r.split) for r in split_records(RECORDS))
    for (source, kind), total in totals.items():
        for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert abs(dealt[source, kind, split] - share * total) <= 3  # one image


@pytest.mark.parametrize("group", ["image", "patient"])
def test_groups_stay_together(group: str) -> None:
    sides: dict[str, set[str]] = {}
    for record in split_records(RECORDS, group=group):
        key = record.image if group == "image" else record.tags[group]
        sides.setdefault(key, set()).add(record.split)
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}


def test_the_order_of_the_records_does_not_matter_but_the_seed_does() -> None:
    shuffled = random.Random(3).sample(RECORDS, len(RECORDS))
    assert by_id(split_records(RECORDS)) == by_id(split_records(shuffled))
    assert by_id(split_records(RECORDS)) != by_id(split_records(RECORDS, seed=1))


@given(
    images=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_every_record_gets_one_split_and_no_image_two(
    images: list[int], shares: tuple[float, float]
) -> None:
    records = [Record(id=str(i), image=str(image), question="q") for i, image in enumerate(images)]
    result = split_records(records, {"train": shares[0], "test": shares[1]})
    assert [record.id for record in result] == [record.id for record in records]
    sides = {(record.image, record.split) for record in result}
    assert len(sides) == len(set(images))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=40),
    shares=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 3),
)
def test_each_split_is_within_the_largest_group_of_its_share(
    sizes: list[int], shares: tuple[int, int, int], seed: int
) -> None:
    names = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    records = [Record(id=str(i), image=image, question="q") for i, image in enumerate(names)]
    wanted = dict(zip(("train", "validation", "test"), map(float, shares), strict=True))
    dealt = Counter(record.split for record in split_records(records, wanted, seed=seed))
    for split, share in wanted.items():
        assert abs(dealt[split] - share / sum(shares) * len(records)) <= 2 * max(sizes)


def test_bad_requests() -> None:
    with pytest.raises(InputError, match="no record"):
        split_records([])
    with pytest.raises(InputError, match="must be positive"):
        split_records(RECORDS, {"train": -1.0, "test": 2.0})
    with pytest.raises(InputError, match=r"no tag 'hospital'.*patient"):
        split_records(RECORDS, group="hospital")
