"""Which rows a run takes: those meant for it, and none for both training and validation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models

from biod2c_core.data.records import Record, iter_records, write_records
from biod2c_core.errors import InputError
from biod2c_core.training.inputs.datasets import check_apart, load_dataset
from biod2c_core.training.train import train


def test_training_and_validation_take_their_own_rows_and_say_so(
    llama: Path, tmp_path: Path
) -> None:
    source = tiny_models.write_data(tmp_path, count=12)
    rows = list(iter_records(source))
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
    lines = [
        row.to_json()[:-1] + f', "split": "{split}", "scanner": "A"}}\n'
        for row, split in zip(rows, splits, strict=True)
    ]
    (tmp_path / "all.jsonl").write_text("".join(lines), "utf-8")
    model, processor = tiny_models.build(llama)
    settings, notes = tiny_models.training_config(llama).stage1, []
    counts = {}
    for split in ("train", "validation"):
        dataset = load_dataset(
            [tmp_path / "all.jsonl"], split, model, processor, settings, 1, notes.append
        )
        counts[split] = len(dataset)
        assert {record.split for record in dataset.records} == {split}
    assert counts == {"train": 6, "validation": 2}
    said = "(train 6, validation 2, test 4)"
    assert [note.split(": ", 1)[1] for note in notes] == [
        f"6 of 12 rows are for train {said}",
        "kept as tags: scanner (12 rows)",
        f"2 of 12 rows are for validation {said}",
        "kept as tags: scanner (12 rows)",
    ]


def test_validation_on_training_rows_is_refused(llama: Path, tmp_path: Path) -> None:
    data = tiny_models.write_data(tmp_path)
    config = tiny_models.training_config(llama, max_steps=1)
    with pytest.raises(InputError, match=r"12 of 12 validation rows are also trained on"):
        train(
            config, 1, [data], tmp_path / "run", tiny_models.Silent(), device="cpu", validation=data
        )


def dataset(*rows: tuple[str, str, str, Path]) -> SimpleNamespace:
    records = [
        Record(f"r{n}", "x.png", question, answer)
        for n, (_, question, answer, _) in enumerate(rows)
    ]
    return SimpleNamespace(records=records, paths=[folder / name for name, _, _, folder in rows])


@pytest.mark.parametrize(
    ("row", "both"),
    [
        (("a.png", "Is it?", "yes"), True),
        (("a.png", " is  IT? ", "Yes"), True),
        (("b.png", "Is it?", "yes"), False),
        (("a.png", "Is it?", "no"), False),
        (("a.png", "What is it?", "yes"), False),
    ],
)
def test_the_same_row_is_known_whatever_its_id_file_and_folder(
    row: tuple[str, str, str], both: bool, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png"):
        (images / name).touch()
    (tmp_path / "link").symlink_to(images)
    trained = dataset(("b.png", "?", "x", images), ("a.png", "Is it?", "yes", images))
    for folder in (images, tmp_path / "link"):
        validated = dataset((*row, folder))
        if both:
            with pytest.raises(InputError, match=r"'r0' \(in training: 'r1'\)"):
                check_apart(trained, validated)  # type: ignore[arg-type]
        else:
            check_apart(trained, validated)  # type: ignore[arg-type]


def test_rows_without_splits_are_all_meant(llama: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", [Record("a", "0.png", "is it?", "yes")])
    tiny_models.make_image(0).save(tmp_path / "0.png")
    model, processor = tiny_models.build(llama)
    settings, notes = tiny_models.training_config(llama).stage1, []
    for split in ("train", "validation"):
        found = load_dataset(
            [tmp_path / "a.jsonl"], split, model, processor, settings, 1, notes.append
        )
        assert len(found) == 1
    assert notes == []
