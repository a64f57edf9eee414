"""One update, one loss: however it is cut into micro-batches and processes, packed or padded."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from biod2c_core.data.records import Record, write_records
from biod2c_core.errors import ConfigError
from biod2c_core.model import losses
from biod2c_core.model.losses import LOSSES, count_items
from biod2c_core.training.train import train

ANSWERS = (
    "yes",
    "a lesion in the left lung with an effusion and a fracture of the right side, size normal",
    "no",
    "CT",
    "the heart is normal in size and there is no effusion, no fracture and no lesion in the lung",
    "MRI brain",
    "left",
    "right lung",
)
QUEUES = (("lesion in the lung", "no fracture"), (), (), ("an x-ray of the chest",), (), (), (), ())
BOXES = ((), (), ((0.1, 0.2, 0.6, 0.5),), (), (), ((0.0, 0.0, 0.3, 1.0),), (), ())


def records() -> list[Record]:
    """Eight records of very different length; few have a queue, few have a box."""
    return [
        Record(
            f"r{i}",
            f"{i % 5}.png",
            tiny_models.QUESTIONS[i % 4],
            ANSWERS[i],
            queue=QUEUES[i],
            boxes=BOXES[i],
        )
        for i in range(8)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_models.write_data(tmp_path_factory.mktemp("uneven")).parent
    write_records(folder / "records.jsonl", records())
    return folder


@pytest.fixture(scope="module")
def model_and_rows(llama: Path, written: Path) -> tuple[Any, list[dict[str, Tensor]]]:
    model, processor = tiny_models.build(llama, fusion_dropout=0.0)
    model.train()
    model.loss_weights = {"sem": 0.7, "att": 0.5, "ans": 0.25}
    dataset = tiny_models.VQADataset(records(), [written] * 8, processor, 4, True)
    collate = tiny_models.Collator(processor)
    return model, [collate, [dataset[i] for i in range(8)]]  # type: ignore[return-value]


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def cuts(order: list[int], pieces: int) -> list[list[int]]:
    """The records in some order, in so many pieces of any size."""
    edges = [0, *(round(8 * i / pieces) for i in range(1, pieces)), 8]
    return [order[a:b] for a, b in pairwise(edges) if a < b]


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 8), st.booleans())
def test_an_update_gives_one_loss_and_one_gradient_however_it_is_cut(
    model_and_rows: Any, order: list[int], pieces: int, packed: bool
) -> None:
    model, (collate, rows) = model_and_rows
    model.packing = False
    whole = collate(rows)
    expected = model(**whole)
    expected.loss.backward()
    wanted = gradients(model)
    batches = [collate([rows[i] for i in piece]) for piece in cuts(list(order), pieces)]
    counted = [count_items(batch) for batch in batches]
    counts = {
        name: sum((each[name] for each in counted if name in each), torch.tensor(0))
        for name in LOSSES
    }
    assert {name: int(count) for name, count in counts.items()} == {
        name: int(count) for name, count in count_items(whole).items()
    }
    model.packing = packed
    total = torch.tensor(0.0)
    for batch in batches:
        share = model(**batch, loss_counts=counts).loss
        share.backward()
        total = total + share.detach()
    got = gradients(model)
    torch.testing.assert_close(total, expected.loss.detach(), rtol=1e-5, atol=1e-6)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            got[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-7
        )


def first_step(folder: Path) -> dict[str, float]:
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize(("size", "accumulation"), [(1, 8), (2, 4), (3, 3)])
def test_accumulated_steps_are_those_of_the_whole_batch(
    size: int, accumulation: int, llama: Path, written: Path, tmp_path: Path
) -> None:
    """Through the trainer; 3 x 3 is an update whose last micro-batch is smaller."""
    values = {"max_steps": 1, "attention_weight": 0.5, "answer_weight": 0.5}
    rows = {}
    for name, batch, steps in (("whole", 8, 1), ("cut", size, accumulation)):
        config = tiny_models.training_config(
            llama, batch_size=batch, gradient_accumulation=steps, **values
        )
        lora = replace(config.model.lora, dropout=0.0)
        config = replace(config, model=replace(config.model, fusion_dropout=0.0, lora=lora))
        train(
            config,
            2,
            [written / "records.jsonl"],
            tmp_path / name,
            tiny_models.Silent(),
            device="cpu",
        )
        rows[name] = first_step(tmp_path / name)
    for key in ("loss", "loss_nll", "loss_sem", "loss_att", "loss_ans", "grad_norm"):
        assert rows["cut"][key] == pytest.approx(rows["whole"][key], rel=1e-5), key


def test_validation_is_averaged_over_all_of_it(llama: Path, written: Path, tmp_path: Path) -> None:
    """Not over the means of its batches, whose answers differ in length."""
    rows = []
    others = [
        replace(each, id=f"v{each.id}", question=f"{each.question} please") for each in records()
    ]
    write_records(written / "validation.jsonl", others)
    for name, size in (("a", 8), ("b", 3)):
        config = tiny_models.training_config(llama, batch_size=size, max_steps=1, learning_rate=0.0)
        train(
            config,
            2,
            [written / "records.jsonl"],
            tmp_path / name,
            tiny_models.Silent(),
            validation=written / "validation.jsonl",
            device="cpu",
        )
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        rows += [row for row in map(json.loads, lines) if "eval_loss" in row]
    whole, cut = rows
    for key in ("eval_loss", "eval_loss_nll", "eval_loss_sem"):
        assert cut[key] == pytest.approx(whole[key], rel=1e-5), key
    assert whole["eval_loss"] == pytest.approx(whole["eval_loss_nll"] + whole["eval_loss_sem"])


def test_boxes_and_a_queue_change_nothing_of_a_model_without_weights(
    model_and_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a checkpoint is when it is loaded and asked for its loss on guided rows."""
    model, (collate, rows) = model_and_rows
    monkeypatch.setattr(model, "loss_weights", {})
    monkeypatch.setattr(model, "packing", False)
    batch = collate(rows)
    assert batch["boxes"].shape[-1] == 4
    with torch.no_grad():
        guided = model(**batch)
        plain = model(**{name: value for name, value in batch.items() if name != "boxes"})
    assert guided.losses["att"] > 0  # measured, and not weighed
    torch.testing.assert_close(guided.loss, plain.loss)
    torch.testing.assert_close(guided.loss, guided.losses["nll"])


def test_a_loss_of_another_package_is_a_term_like_the_others(
    model_and_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered from outside: measured, weighed and averaged without a line elsewhere."""
    model, (collate, rows) = model_and_rows
    model.packing = False
    monkeypatch.setattr(losses, "LOSSES", dict(LOSSES))
    batch = collate(rows)
    plain = model(**batch)
    losses.register_loss(
        losses.Loss(
            "size",
            count=lambda batch: torch.tensor(len(batch["labels"])),
            total=lambda passed: passed.visual.tokens.square().mean((1, 2)).sum(),
            needs=("labels",),
        )
    )
    assert "loss_size" in losses.log_names()
    monkeypatch.setitem(model.loss_weights, "size", 2.0)
    output = model(**batch)
    torch.testing.assert_close(output.loss, plain.loss + 2.0 * output.losses["size"])
    with pytest.raises(ConfigError, match="a loss is called 'size' already"):
        losses.register_loss(losses.LOSSES["size"])
