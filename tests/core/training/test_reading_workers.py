"""Batches made in worker processes: the same bytes, whatever their number; see also test_resume.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from torch.utils.data import DataLoader

from biod2c_core import workers
from biod2c_core.data.read_ahead import Guarded, checked, loader_options
from biod2c_core.data.records import iter_records
from biod2c_core.errors import DivergenceError, ImageError
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.divergence import LossWatch
from biod2c_core.training.inputs.collate import Collator, VQADataset
from biod2c_core.training.train import train


def test_batches_have_the_same_bytes_for_any_number_of_workers(data: Path) -> None:
    processor = BioD2CProcessor(tiny_models.make_tokenizer(), image_size=16, max_question_tokens=8)
    records = list(iter_records(data))
    samples = VQADataset(records, [data.parent] * len(records), processor, 3, with_boxes=True)
    collate = Guarded(Collator(processor, keep_rows=True))
    runs = [
        [checked(each) for each in DataLoader(samples, 4, collate_fn=collate, **loader_options(n))]
        for n in (0, 1, 2)
    ]
    for run in runs[1:]:
        for ours, theirs in zip(runs[0], run, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {"pixel_values", "queue_ids", "boxes", "record_rows"} <= runs[0][0].keys()


def test_a_damaged_picture_in_a_worker_ends_the_run_in_its_own_line(
    llama: Path, tmp_path: Path
) -> None:
    records = tiny_models.write_data(tmp_path / "data")
    picture = tmp_path / "data" / "3.png"
    picture.write_bytes(picture.read_bytes()[:60])
    config = tiny_models.training_config(llama, workers=1)
    with pytest.raises(ImageError, match=r"3\.png is damaged") as caught:
        train(config, 2, [records], tmp_path / "run", tiny_models.Silent(), device="cpu")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("cores", "busy", "processes", "wanted"),
    [(1, 1, 1, 0), (2, 1, 1, 1), (64, 1, 4, 8), (16, 1, 4, 3), (2, 1, 4, 0), (4, 4, 1, 0)],
)
def test_unasked_a_worker_gets_a_core_of_its_own(
    cores: int, busy: int, processes: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    assert workers.spare_cores(busy, processes) == wanted


def test_losses_that_are_read_late_name_the_records_of_their_own_batch(
    data: Path, tmp_path: Path
) -> None:
    records = [replace(record, id=f"id{n}") for n, record in enumerate(iter_records(data))]
    watch = LossWatch(10)
    for loss, rows in ((1.0, [0, 1]), (11.0, [2, 3]), (float("nan"), [4])):
        watch.add(torch.tensor(loss), torch.tensor(rows))
    with pytest.raises(DivergenceError, match=r"11 at step 8.*id2, id3"):
        watch.check(records, tmp_path, 7)
    watch.add(torch.tensor(2.0), None)
    watch.check(records, tmp_path, 8)  # the others are forgotten
