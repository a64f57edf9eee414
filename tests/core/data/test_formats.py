"""Every published layout: detected, read field by field, and imported so that the images are found."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_layouts as made
import layouts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biod2c_core.data import importing
from biod2c_core.data.formats import FORMATS, ReadOptions, find_format, image_root, read_records
from biod2c_core.data.formats.plain_pickle import load_plain_pickle
from biod2c_core.data.images import load_image
from biod2c_core.data.importing import import_records
from biod2c_core.data.records import Record, parse_record, write_records
from biod2c_core.errors import InputError, RecordError

LAYOUTS = {
    **layouts.LAYOUTS,
    made.vqa_med_2019: ("vqa-med", 7),
    made.vqa_med_2020: ("vqa-med", 4),
    made.vqa_med_2021: ("vqa-med", 3),
    made.omnimedvqa: ("omnimedvqa", 3),
    made.medxpertqa: ("medxpertqa", 3),
    made.probmed: ("probmed", 18),
    made.mmmu: ("mmmu", 8),
    made.gmai_mmbench: ("vlmevalkit", 4),
    made.pmc_vqa_release: ("pmc-vqa", 4),
}
BUILDERS = [pytest.param(builder, id=builder.__name__) for builder in LAYOUTS]


def build(builder: Callable[[Path], Path], folder: Path) -> Path:
    if builder in (layouts.hub_parquet, made.mmmu):
        pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    return builder(folder / "set")


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("place", [".", "elsewhere"])
def test_detect_import_and_find_every_image(
    builder: Callable[[Path], Path], place: str, tmp_path: Path
) -> None:
    source = build(builder, tmp_path)
    name, count = LAYOUTS[builder]
    assert find_format(source).name == name
    out = tmp_path / place / "out.jsonl"
    report = import_records(source, out)
    assert (report.format, report.accepted, report.rejected) == (name, count, 0)
    records = read_records(out)
    assert len(records) == count
    for record in records:
        assert load_image(record.image, root=image_root(out)).size == (8, 8)
        assert record.source or builder is layouts.canonical
    again = import_records(out, tmp_path / place / "again.jsonl")
    assert again.accepted == count
    assert read_records(tmp_path / place / "again.jsonl") == records
    assert not list(tmp_path.rglob("*.partial"))


def test_every_format_has_a_layout_here() -> None:
    assert {name for name, _ in LAYOUTS.values()} == set(FORMATS)


def test_slake(tmp_path: Path) -> None:
    source = layouts.slake(tmp_path)
    first, second = read_records(source)
    assert first == Record(
        id="slake-train-7",
        image="imgs/xmlab1/source.jpg",
        question="Is this a CT?",
        answer="Yes",
        answer_type="CLOSED",
        source="slake",
        split="train",
        tags={
            "organ": "Lung",
            "modality": "CT",
            "question_type": "Modality",
            "base_type": "vqa",
            "language": "en",
        },
    )
    assert second.split == "validation"
    assert [r.answer for r in read_records(source, options=ReadOptions(language="zh"))] == ["是"]
    assert len(read_records(source, options=ReadOptions(language="all"))) == 3
    with pytest.raises(InputError, match=r"unknown language 'de'.*en, zh, all"):
        read_records(source, options=ReadOptions(language="de"))


def test_vqa_rad_osf_takes_the_split_from_the_phrase_type(tmp_path: Path) -> None:
    train, test = read_records(layouts.vqa_rad_osf(tmp_path))
    assert (train.id, train.answer, train.answer_type) == ("vqa-rad-osf-train-3", "2", "OPEN")
    assert (test.id, test.split, test.answer_type) == ("vqa-rad-osf-test-4", "test", "CLOSED")
    assert test.image == "VQA_RAD Image Folder/synpic1.jpg"


def test_path_vqa_from_its_parent_its_folder_and_one_file(tmp_path: Path) -> None:
    source = layouts.path_vqa(tmp_path)
    records = read_records(source)
    assert [(r.id, r.image, r.answer_type) for r in records[2:4]] == [
        ("path-vqa-validation-1", "images/val/val_0001.jpg", "CLOSED"),
        ("path-vqa-validation-2", "images/val/val_0001.jpg", "OPEN"),
    ]
    assert read_records(source / "pvqa") == records
    file = source / "pvqa/qas/test/test_qa.pkl"
    assert read_records(file) == records[4:]
    assert image_root(file) == image_root(source) == tmp_path / "pvqa"


@pytest.mark.parametrize("builder", [layouts.pmc_vqa, layouts.pmc_vqa_old])
def test_pmc_vqa_with_both_headers(builder: Callable[[Path], Path], tmp_path: Path) -> None:
    (record,) = read_records(builder(tmp_path))
    assert record.answer == "Focal, left"
    assert record.tags == {
        "choice_a": "Diffuse",
        "choice_b": "Focal, left",
        "choice_c": "None",
        "choice_d": "Unknown",
        "answer_label": "B",
    }
    old = builder is layouts.pmc_vqa_old
    assert (record.caption, record.split) == (("A figure.", "test") if old else ("", "train"))


def test_llava_med_captions_and_conversations(tmp_path: Path) -> None:
    (caption,) = read_records(layouts.llava_med(tmp_path / "a"))
    assert caption.question == "Describe."
    assert caption.answer == caption.caption == "A chest film."
    first, second = read_records(layouts.llava_med_turns(tmp_path / "b"))
    assert (first.id, first.answer, first.caption) == ("llava-med-a1-1", "A chest film.", "")
    assert (second.id, second.question, second.answer_type) == (
        "llava-med-a1-2",
        "Normal?",
        "CLOSED",
    )


def test_queues_captions_and_tags_of_the_plain_layouts(tmp_path: Path) -> None:
    text, items = read_records(layouts.biovgq(tmp_path / "biovgq"))
    assert text.queue == ("lung", "left lobe")
    assert items.queue == ("lung, left", "lobe")
    (caption,) = read_records(layouts.pmc_oa(tmp_path / "oa"))
    assert (caption.question, caption.answer) == ("Describe the image.", "A lung.")
    (mine,) = read_records(layouts.plain_csv(tmp_path / "csv"))
    assert (mine.queue, mine.split, mine.tags) == (("a", "b"), "test", {"Patient": "p1"})
    assert (mine.source, mine.answer_type) == ("csv", "CLOSED")
    sidecars = read_records(layouts.image_folder_text(tmp_path / "folder"))
    assert [(r.image, r.caption) for r in sidecars] == [
        ("b.png", "Caption of b."),
        ("a/c.png", "Caption of a/c."),
    ]


def test_hub_parquet_writes_each_image_once(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    source = layouts.hub_parquet(tmp_path / "vqa-rad")
    with pytest.raises(InputError, match="Import it first"):
        read_records(source)
    import_records(source, tmp_path / "out.jsonl")
    records = read_records(tmp_path / "out.jsonl")
    assert Counter(record.split for record in records) == {"train": 3, "test": 1}
    assert len({record.image for record in records}) == 3
    assert len(list((tmp_path / "out_images").iterdir())) == 3
    assert {record.source for record in records} == {"vqa-rad"}


class Boom:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("boom"),))  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_a_function_is_refused(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pvqa/qas/train/train_qa.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps([{**layouts.PATH_ROW, "answer": Boom()}], protocol=protocol))
    with pytest.raises(InputError, match="It could run code"):
        read_records(tmp_path)
    assert not Path("boom").exists()
    pickle.loads(file.read_bytes())  # noqa: S301 (shows that it would have run)
    assert Path("boom").exists()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.integers(0, 5))
@settings(max_examples=100)
def test_plain_values_survive_the_restricted_unpickler(
    value: object, protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("pickle") / "a.pkl"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain_pickle(file) == value


def test_memory_bombs_in_pickles_are_harmless(tmp_path: Path) -> None:
    file = tmp_path / "a.pkl"
    file.write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")  # memo slot 4,294,967,295
    assert load_plain_pickle(file) == []
    for opcode in (b"\x8d", b"T", b"X"):
        file.write_bytes(b"\x80\x04" + opcode + b"\xff\xff\xff\x7f" * 2 + b"abc.")
        with pytest.raises(InputError, match=r"not a readable pickle|could run code"):
            load_plain_pickle(file)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.strip)
FILLED = TEXT.filter(bool)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted)
BOXES = st.builds(lambda x, y: (x[0], y[0], x[1], y[1]), SHARES, SHARES)


@given(
    rows=st.lists(
        st.builds(
            Record,
            id=st.uuids().map(str),
            image=FILLED.filter(lambda text: "\0" not in text),
            question=FILLED,
            answer=TEXT,
            answer_type=st.sampled_from(["CLOSED", "OPEN", ""]),
            caption=TEXT,
            queue=st.lists(TEXT, max_size=3).map(tuple),
            boxes=st.lists(BOXES, max_size=3).map(tuple),
            source=TEXT,
            split=st.sampled_from(["train", "validation", "test", ""]),
            tags=st.dictionaries(TEXT, TEXT, max_size=3),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda record: record.id,
    )
)
@settings(max_examples=60)
def test_records_round_trip(rows: list[Record], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    write_records(path, rows)
    assert read_records(path) == rows


@pytest.mark.parametrize(
    "boxes",
    [
        "left",
        [0.1, 0.1, 0.2, 0.2],
        [[0.1, 0.1, 0.2]],
        [[0.3, 0.1, 0.2, 0.2]],
        [[0.1, 0.2, 0.2, 0.2]],
        [[0.1, 0.1, 0.2, 1.2]],
        [[-0.1, 0.1, 0.2, 0.2]],
        [[False, 0, True, True]],
        [[0, 0, float("nan"), 1]],
    ],
)
def test_boxes_that_are_none_are_refused(boxes: object) -> None:
    row = {"id": "1", "image": "a.png", "question": "Where?", "boxes": boxes}
    with pytest.raises(ValueError, match=r"'boxes' must be .* got"):
        parse_record(row)


def test_bad_rows_are_set_aside_or_stop_a_strict_import(tmp_path: Path) -> None:
    rows = [
        layouts.SLAKE_ROW,
        {**layouts.SLAKE_ROW, "qid": 8, "question": ""},
        {**layouts.SLAKE_ROW, "qid": 9},
    ]
    source, out = tmp_path / "set", tmp_path / "out.jsonl"
    layouts.write(source / "train.json", json.dumps(rows, indent=0))
    report = import_records(source, out)
    assert (report.accepted, report.rejected) == (2, 1)
    assert report.rejected_file == tmp_path / "out.rejected.jsonl"
    (line,) = report.rejected_file.read_text().splitlines()
    rejection = json.loads(line)
    assert rejection["reason"] == "field 'question' is missing or empty"
    bad = (source / "train.json").read_text().splitlines()[rejection["line"] - 1]
    assert bad == "{"
    before = out.read_bytes()
    with pytest.raises(RecordError, match=r"train\.json:\d+: field 'question'"):
        import_records(source, out, strict=True)
    assert out.read_bytes() == before
    layouts.write(source / "train.json", rows[:1])
    assert import_records(source, out).rejected_file is None
    assert not (tmp_path / "out.rejected.jsonl").exists()


def test_an_import_without_a_good_row_fails_and_writes_nothing(tmp_path: Path) -> None:
    layouts.write(tmp_path / "set/train.json", [{**layouts.SLAKE_ROW, "question": ""}])
    with pytest.raises(InputError, match=r"no usable row.*field 'question'.*slake is:"):
        import_records(tmp_path / "set", tmp_path / "out/o.jsonl")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_images_outside_the_root_are_rejected_unless_allowed(image: str, tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "image": name, "question": "q"} for n, name in enumerate(["ok.png", image])
    ]
    layouts.write_lines(tmp_path / "set/in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    report = import_records(tmp_path / "set/in.jsonl", out)
    assert (report.accepted, report.rejected) == (1, 1)
    rejected = json.loads((tmp_path / "out.rejected.jsonl").read_text())
    assert rejected["line"] == 2
    assert "outside the image root" in rejected["reason"]
    assert import_records(tmp_path / "set/in.jsonl", out, allow_outside=True).accepted == 2


def test_a_folder_in_the_way_of_the_image_link_is_kept(tmp_path: Path) -> None:
    source = layouts.slake(tmp_path / "set")
    (tmp_path / "x/out_images").mkdir(parents=True)
    with pytest.raises(InputError, match="is not a link to the images"):
        import_records(source, tmp_path / "x/out.jsonl")


@pytest.mark.real_data
def test_the_published_slake_texts(data_root: Path) -> None:
    records = read_records(data_root / "slake_text")
    counts = Counter(record.split for record in records)
    assert counts == {"train": 4919, "validation": 1053, "test": 1061}
    test = [record for record in records if record.split == "test"]
    assert Counter(record.answer_type for record in test) == {"OPEN": 645, "CLOSED": 416}
    assert sum(record.answer.lower() in ("yes", "no") for record in test) == 355


def test_an_import_does_not_miss_what_another_at_once_has_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": "1", "image": "a.png", "question": "q", "answer": "a"}\n')
    out.with_suffix(".rejected.jsonl").write_text("")  # of an import before
    write = importing._write

    def and_the_other_ends(*arguments: Any) -> tuple[int, int]:
        counts = write(*arguments)
        out.with_suffix(".rejected.jsonl").unlink()
        return counts

    monkeypatch.setattr(importing, "_write", and_the_other_ends)
    assert import_records(source, out).accepted == 1
