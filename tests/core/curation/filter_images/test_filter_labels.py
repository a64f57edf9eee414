"""Label files are checked row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from biod2c_core.curation.filter_images.labels import (
    read_label_names,
    read_labels,
    write_label_names,
)
from biod2c_core.errors import InputError, RecordError

ROWS = [f"{label}{n}.png,{label},{label}+x" for label in ("clean", "polluted") for n in range(10)]


def write(path: Path, *more: str) -> Path:
    file = path / "labels.csv"
    file.write_text("\n".join(["image,label,source", *ROWS, *more]) + "\n")
    return file


def test_rows_have_label_path_and_sources(tmp_path: Path) -> None:
    rows = read_labels(write(tmp_path, "u.png,unsure,"))
    assert len(rows) == 21
    assert rows[0].label == "clean"
    assert rows[0].path == tmp_path / "clean0.png"
    assert rows[0].sources == {"clean", "x"}
    assert rows[-1].sources == frozenset()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,dirty,", "has label 'dirty'"),
        (",clean,", "image ''"),
        ("clean0.png,polluted,", "labelled twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        read_labels(write(tmp_path, row))
    assert caught.value.line == 22


def test_both_labels_are_needed(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text("\n".join(["image,label", *(row.rpartition(",")[0] for row in ROWS[:15])]))
    with pytest.raises(InputError, match="5 images labelled 'polluted'"):
        read_labels(file)


def test_test_rows_do_not_count_as_training_rows(tmp_path: Path) -> None:
    file = write(tmp_path)
    split = ["image,label,split", *(f"{row.rpartition(',')[0]},test" for row in ROWS)]
    file.write_text("\n".join(split))
    with pytest.raises(InputError, match="0 images labelled 'clean' to train on"):
        read_labels(file)


def test_with_a_root_images_cannot_leave_it(tmp_path: Path) -> None:
    file = write(tmp_path, "../a.png,clean,")
    assert read_labels(file)[-1].path == tmp_path.parent / "a.png"
    with pytest.raises(RecordError, match="outside the image root"):
        read_labels(file, tmp_path)


def test_a_growing_label_file_is_read_as_written(tmp_path: Path) -> None:
    odd = {
        "caf\udce9.png": "clean",
        "caf\u00e9, 2.png": "polluted",
    }  # the first is not UTF-8 on disk
    write_label_names(tmp_path / "odd.csv", odd.items())
    assert read_label_names(tmp_path / "odd.csv") == odd
    path = tmp_path / "labels.csv"
    assert read_label_names(path) == {}
    given = {'with "quotes", comma.png': "clean", "ä.png": "unsure"}
    write_label_names(path, given.items())
    assert read_label_names(path) == given
    path.write_text("image,label\na.png,perhaps\n")
    with pytest.raises(RecordError, match=r"labels\.csv:2"):
        read_label_names(path)


def test_names_that_a_spreadsheet_would_run_are_quoted_and_read_again(tmp_path: Path) -> None:
    names = ["=1+1.png", "+a.png", "-a.png", "@a.png", "'=a.png", "''-a.png", "'a.png", "a=b.png"]
    path = tmp_path / "labels.csv"
    write_label_names(path, [(name, "clean") for name in names])
    cells = [line.rpartition(",")[0] for line in path.read_text().splitlines()[1:]]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert cells[-2:] == names[-2:]
    assert list(read_label_names(path)) == names
    file = write(tmp_path, "'=1+1.png,clean,")
    assert read_labels(file)[-1].name == "=1+1.png"
