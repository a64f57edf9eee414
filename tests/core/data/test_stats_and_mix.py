"""Counting a data set, and building one from several."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import layouts
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.mix import Part, is_in_biovgq, mix_data, parse_part
from biod2c_core.data.records import Record, write_records
from biod2c_core.data.split import split_data
from biod2c_core.data.stats import plot_stats, summarize
from biod2c_core.errors import InputError, RecordError

RECORDS = [
    Record(
        id=str(index),
        image=f"{index % 4}.png",
        question="Is it so?" if index % 2 else "What do you see here now?",
        answer=("yes" if index % 3 else "No") if index % 2 else f"thing {index}",
        answer_type="CLOSED" if index % 2 else "OPEN",
        source="mine",
        split="train" if index < 8 else "test",
        queue=("a",) if index == 0 else (),
        tags={"modality": "CT"} if index < 5 else {},
    )
    for index in range(12)
]


def test_counts_lengths_and_balance() -> None:
    plain = summarize(RECORDS).to_json()
    assert (plain["records"], plain["images"], plain["questions_per_image"]) == (12, 4, 3.0)
    assert plain["with_queue"] == 1
    assert plain["splits"] == {"train": 8, "test": 4}
    assert plain["modalities"] == {"(unknown)": 7, "CT": 5}
    assert plain["answer_types"] == {"OPEN": 6, "CLOSED": 6}
    assert plain["question_words"] == {"median": 3, "p95": 6, "longest": 6, "mean": 4.5}
    closed = Counter(record.answer.lower() for record in RECORDS if record.answer_type == "CLOSED")
    assert plain["closed_answers"] == {
        "answers": 6,
        "distinct": 2,
        "majority": round(max(closed.values()) / 6, 4),
        "top": dict(closed.most_common()),
    }
    assert (plain["open_answers"]["distinct"], plain["open_answers"]["majority"]) == (6, 0.1667)


def test_an_empty_set_can_be_counted() -> None:
    plain = summarize([]).to_json()
    assert plain["records"] == plain["question_words"]["longest"] == 0
    assert plain["closed_answers"]["majority"] == 0.0


def test_the_plot_is_a_picture_even_with_odd_labels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    odd = Record(id="x", image="x", question="q", answer="$\\frac{ 5 $", tags={"organ": "l_u$ng^"})
    plot_stats(summarize([*RECORDS, odd]), tmp_path / "a.png")
    picture = load_image(tmp_path / "a.png")
    assert picture.width > 800
    assert len(picture.getcolors(1 << 20) or []) > 20
    plot_stats(summarize([]), tmp_path / "empty.png")


def sources(folder: Path) -> tuple[Path, Path]:
    slake = layouts.slake(folder / "slake")
    for index in range(4):
        layouts.picture(folder / f"mine/{index}.png")
    write_records(folder / "mine/all.jsonl", RECORDS)
    return folder / "mine/all.jsonl", slake


@pytest.mark.parametrize("place", [".", "elsewhere"])
def test_a_mix_finds_its_images_and_has_unique_ids(tmp_path: Path, place: str) -> None:
    mine, slake = sources(tmp_path / "data")
    out = tmp_path / place / "mix.jsonl"
    report = mix_data([Part(mine), Part(slake), Part(mine, weight=2)], out)
    assert report.records == {"mine": 36, "slake": 2}
    assert report.images == {"mine": 4, "slake": 1}
    records = read_records(out)
    assert len({record.id for record in records}) == 38
    for image in {record.image for record in records}:
        load_image(image, root=image_root(out))


def test_a_fraction_takes_the_same_records_wherever_they_stand(tmp_path: Path) -> None:
    many = [Record(id=str(index), image="a", question="q") for index in range(2000)]
    taken = []
    for name, records in (("a", many), ("b", many[::-1]), ("c", many)):
        write_records(tmp_path / f"{name}.jsonl", records)
        seed = int(name == "c")
        mix_data([Part(tmp_path / f"{name}.jsonl", weight=0.25)], tmp_path / "out.jsonl", seed=seed)
        taken.append({record.id for record in read_records(tmp_path / "out.jsonl")})
    assert taken[0] == taken[1] != taken[2]
    assert [len(each) for each in taken] == [500] * 3


@given(size=st.integers(1, 150), hundredths=st.integers(1, 350), seed=st.integers(0, 9))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_weight_takes_exactly_its_share(
    size: int, hundredths: int, seed: int, tmp_path: Path
) -> None:
    records = [Record(id=f"r{index}", image="a", question="q") for index in range(size)]
    write_records(tmp_path / "a.jsonl", records)
    write_records(tmp_path / "b.jsonl", [Record(id="other", image="a", question="q")])
    parts = [Part(tmp_path / "a.jsonl", hundredths / 100), Part(tmp_path / "b.jsonl")]
    report = mix_data(parts, tmp_path / "out.jsonl", seed=seed)
    wanted = (hundredths * size + 50) // 100  # nearest, half a record upwards
    assert report.records == {"": wanted + 1}
    assert list(report.dropped) == ([] if wanted else [str(parts[0])])
    times = Counter(record.id.split("-")[0] for record in read_records(tmp_path / "out.jsonl"))
    assert times.pop("other") == 1
    assert sum(times.values()) == wanted
    assert set(times.values()) <= {hundredths // 100, hundredths // 100 + 1}


def test_a_larger_fraction_holds_the_smaller_one_and_records_stay_whole(tmp_path: Path) -> None:
    full = Record(
        id="full",
        image="a/b.png",
        question="q",
        answer="\u00e4",
        queue=("x", "y"),
        boxes=((0.1, 0.2, 0.3, 0.4),),
        tags={"k": "v"},
    )
    write_records(tmp_path / "in.jsonl", [*RECORDS, full])
    before: set[str] = set()
    for weight in (0.2, 0.5, 0.8, 0.97):
        mix_data([Part(tmp_path / "in.jsonl", weight)], tmp_path / "out.jsonl")
        taken = read_records(tmp_path / "out.jsonl")
        assert all(record in [*RECORDS, full] for record in taken)
        assert before <= (before := {record.id for record in taken})
    assert full in taken


def test_parts_of_which_nothing_is_taken_are_named(tmp_path: Path) -> None:
    mine, slake = sources(tmp_path / "data")
    parts = [
        Part(mine),
        Part(mine, split="validation"),
        Part(mine, weight=0.01),
        Part(slake, split="validation"),
    ]
    report = mix_data(parts, tmp_path / "mix.jsonl", keep=lambda record: record.source == "mine")
    assert report.records == {"mine": 12}
    assert report.dropped == {
        f"{mine}@validation": "none of its 12 records is of the split 'validation'",
        f"{mine}=0.01": "0.01 of 12 records is less than half a record",
        f"{slake}@validation": "none of its 1 records belongs in this composition",
    }


def test_biovgq_takes_training_splits_of_three_sources_and_all_of_the_rest(tmp_path: Path) -> None:
    mine, slake = sources(tmp_path / "data")
    report = mix_data([Part(mine), Part(slake)], tmp_path / "mix.jsonl", keep=is_in_biovgq)
    assert report.records == {"mine": 12, "slake": 1}


def test_ids_that_collide_with_numbered_ones_stay_unique(tmp_path: Path) -> None:
    names = ["a", "a-2", "a-3"]
    write_records(tmp_path / "x.jsonl", [Record(id=n, image="i", question="q") for n in names])
    mix_data([Part(tmp_path / "x.jsonl")] * 3, tmp_path / "out.jsonl")
    assert len({record.id for record in read_records(tmp_path / "out.jsonl")}) == 9


def test_parts_are_read_from_text(tmp_path: Path) -> None:
    assert parse_part("a/b.jsonl@train=0.5") == Part(Path("a/b.jsonl"), 0.5, "train")
    assert parse_part("a/b.jsonl=2") == Part(Path("a/b.jsonl"), 2.0)
    assert parse_part("b.jsonl@test") == Part(Path("b.jsonl"), 1.0, "test")
    odd = tmp_path / "x=1@train=2"
    odd.touch()
    assert parse_part(str(odd)) == Part(odd)
    for text in ("a=0", "a=-1", "a=nan", "a=inf", "a=much", "a@sometimes"):
        with pytest.raises(InputError, match="cannot read the part"):
            parse_part(text)


def test_bad_mixes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to mix"):
        mix_data([], tmp_path / "out.jsonl")
    mine, _ = sources(tmp_path)
    with pytest.raises(InputError, match="no record is left"):
        mix_data([Part(mine, split="validation")], tmp_path / "out.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"id": "1", "image": "a", "question": "q"}\n{}\n')
    with pytest.raises(RecordError, match=r"bad\.jsonl:2"):
        mix_data([Part(tmp_path / "bad.jsonl")], tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_split_file_keeps_its_images_together_and_found(tmp_path: Path) -> None:
    mine, _ = sources(tmp_path / "data")
    records = split_data(mine, tmp_path / "out/s.jsonl", {"train": 0.5, "test": 0.5})
    assert read_records(tmp_path / "out/s.jsonl") == records
    assert len({(record.image, record.split) for record in records}) == 4
    assert {record.split for record in records} == {"train", "test"}
    for record in records:
        load_image(record.image, root=image_root(tmp_path / "out/s.jsonl"))
    assert (tmp_path / "out/s_images").readlink() == tmp_path / "data/mine"
