"""Each thing that can be wrong with a data set is found once, and a sound one has no finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_duplicates import as_jpeg, scene

from biod2c_core.data.formats import image_root, stream_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.data.validate import KINDS, Limits, ValidationReport, validate


def record(name: str, image: str, split: str = "train", **fields: str) -> Record:
    fields = {"question": f"What is {name}?", "answer": "yes", **fields}
    return Record(id=name, image=image, split=split, **fields)


def checked(folder: Path, records: list[Record], workers: int = 1) -> ValidationReport:
    for seed in range(3):
        scene(seed).save(folder / f"{seed}.png")
    write_records(folder / "data.jsonl", records)
    items = stream_records(folder / "data.jsonl")
    return validate(items, image_root(folder / "data.jsonl"), workers=workers)


SOUND = [record("a", "0.png"), record("b", "0.png"), record("c", "1.png", "test")]


def test_a_sound_set_has_no_finding(tmp_path: Path) -> None:
    report = checked(tmp_path, SOUND)
    assert (report.records, report.images, report.findings) == (3, 2, [])


@pytest.mark.parametrize("workers", [1, 2])
def test_every_kind_is_found(tmp_path: Path, workers: int) -> None:
    as_jpeg(scene(0)).save(tmp_path / "copy.jpg")
    as_jpeg(scene(1)).save(tmp_path / "other.jpg")
    (tmp_path / "text.png").write_text("no picture")
    bad = [
        record("missing", "none.png"),
        record("text", "text.png"),
        record("outside", "../x.png"),
        record("overlap", "1.png", "train"),
        record("copy", "copy.jpg"),
        record("moved", "other.jpg", "validation"),
        record("empty", "2.png", answer=""),
        record("long", "2.png", question="why " * 33),
        record("wordy", "2.png", answer="a " * 513),
        record("twice", "0.png", question="what is A?", answer="no"),
    ]
    report = checked(tmp_path, SOUND + bad, workers)
    found = {(finding.kind, tuple(finding.where)) for finding in report.findings}
    assert found == {
        ("missing image", ("none.png",)),
        ("unusable image", ("text.png",)),
        ("unusable image", ("../x.png",)),
        ("same image in two splits", ("1.png",)),
        ("same image in two splits", ("1.png", "other.jpg")),
        ("duplicate images", ("0.png", "copy.jpg")),
        ("empty answer", ("empty",)),
        ("long question", ("long",)),
        ("long answer", ("wordy",)),
        ("contradiction", ("twice",)),
    }
    assert set(report.counts()) == set(KINDS) - {"malformed row", "text in pixels"}
    plain = json.loads(json.dumps(report.to_json()))
    assert len(plain["findings"]) == len(report.findings) == sum(plain["counts"].values())


def test_malformed_rows_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    scene(0).save(tmp_path / "0.png")
    write_records(path, [record("a", "0.png", answer="one two three")])
    with path.open("a") as file:
        file.write('{"id": "b"}\nnot json\n')
    report = validate(stream_records(path, "jsonl"), tmp_path, limits=Limits(answer_words=2))
    assert [(finding.kind, finding.where) for finding in report.findings] == [
        ("long answer", ["a"]),
        ("malformed row", [f"{path}:2"]),
        ("malformed row", [f"{path}:3"]),
    ]


def test_endless_malformed_rows_end_in_a_bounded_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biod2c_core.data.validate.MOST_FINDINGS", 100)
    path = tmp_path / "data.jsonl"
    scene(0).save(tmp_path / "0.png")
    write_records(path, [record("a", "0.png", answer="")])
    with path.open("a") as file:
        file.write("x\n" * 5000 + json.dumps({"id": "b", "split": "y" * 50_000}) + "\n")
    report = validate(stream_records(path, "jsonl"), tmp_path)
    plain = report.to_json()
    assert plain["counts"] == {"malformed row": 5001, "empty answer": 1}
    assert plain["left_out"] == {"malformed row": 4901}
    assert [finding["where"] for finding in plain["findings"]][:2] == [["a"], [f"{path}:2"]]
    assert len(plain["findings"]) == 101


def test_no_detail_is_endless(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "0.png")
    items = [record("a", "0.png", question="q" * 50_000, answer="")]
    (finding,) = validate(items, tmp_path).findings
    assert finding.detail == "q" * 4000 + " ..."


@pytest.mark.real_data
def test_the_published_vqa_rad_shares_its_test_images(data_root: Path) -> None:
    """All 203 test images are in the training split; the reader finds the same set by path."""
    test, train = set(), set()
    for item in stream_records(data_root / "vqa_rad"):
        assert isinstance(item, Record)
        (test if item.split == "test" else train).add(item.image)
    wanted = sorted(test)[:25]
    items = [item for item in stream_records(data_root / "vqa_rad") if item.image in wanted]
    report = validate(items, data_root / "vqa_rad")
    assert len(test) == len(test & train) == 203
    assert report.counts()["same image in two splits"] == 25
