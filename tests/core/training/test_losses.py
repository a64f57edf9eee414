"""One update, one loss: however it is cut into micro-batches and processes, packed or padded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import tiny_models
import torch
import update_cuts
from hypothesis import given, settings
from hypothesis import strategies as st
from update_cuts import Update

from biod2c_core.data.records import write_records
from biod2c_core.errors import ConfigError
from biod2c_core.model import losses
from biod2c_core.model.losses import LOSSES, count_items
from biod2c_core.training.train import train


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return update_cuts.write(tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="module")
def update(llama: Path, written: Path) -> Update:
    return Update(llama, written)


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_an_update_gives_one_loss_and_one_gradient_however_it_is_cut(
    update: Update, random: Random
) -> None:
    cut = update_cuts.draw(random)
    expected = update.whole(cut.chosen)
    batches = [update.batch(piece) for [piece] in cut.pieces]
    counted = [count_items(batch) for batch in batches]
    counts = {
        name: sum((each[name] for each in counted if name in each), torch.tensor(0))
        for name in LOSSES
    }
    update.model.packing = cut.packed
    total = torch.tensor(0.0)
    for batch in batches:
        share = update.model(**batch, loss_counts=counts).loss
        share.backward()
        total = total + share.detach()
    update_cuts.assert_same(float(total), update.take_gradients(), expected)


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
        replace(each, id=f"v{each.id}", question=f"{each.question} please")
        for each in update_cuts.records()
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
    update: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a checkpoint is when it is loaded and asked for its loss on guided rows."""
    model, batch = update.model, update.batch(list(range(8)))
    monkeypatch.setattr(model, "loss_weights", {})
    monkeypatch.setattr(model, "packing", False)
    assert batch["boxes"].shape[-1] == 4
    with torch.no_grad():
        guided = model(**batch)
        plain = model(**{name: value for name, value in batch.items() if name != "boxes"})
    assert guided.losses["att"] > 0  # measured, and not weighed
    torch.testing.assert_close(guided.loss, plain.loss)
    torch.testing.assert_close(guided.loss, guided.losses["nll"])


def test_a_loss_of_another_package_is_a_term_like_the_others(
    update: Update, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered from outside: measured, weighed and averaged without a line elsewhere."""
    model, batch = update.model, update.batch(list(range(8)))
    monkeypatch.setattr(model, "packing", False)
    monkeypatch.setattr(losses, "LOSSES", dict(LOSSES))
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
