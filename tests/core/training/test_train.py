"""``train`` from records to a checkpoint: what moves, what does not, and what the run folder says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from biod2c_core.config import TrainingConfig, load_config
from biod2c_core.data.records import Record, iter_records, write_records
from biod2c_core.errors import ConfigError, DivergenceError, ImageError, InputError
from biod2c_core.model.build import build_model
from biod2c_core.model.checkpoints.folder import load_model, save_checkpoint
from biod2c_core.model.generation import Answerer
from biod2c_core.training.hardware import precision
from biod2c_core.training.inputs.datasets import load_dataset
from biod2c_core.training.train import TrainingResult, train


def run(
    config: TrainingConfig, stage: int, data: Path, output: Path, **options: Any
) -> TrainingResult:
    return train(config, stage, [data], output, tiny_models.Silent(), device="cpu", **options)


def log(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def steps(output: Path) -> list[dict[str, Any]]:
    return [row for row in log(output) if "loss" in row]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_model(folder).state_dict()


def without_dropout(config: TrainingConfig) -> TrainingConfig:
    lora = replace(config.model.lora, dropout=0.0)
    return replace(config, model=replace(config.model, fusion_dropout=0.0, lora=lora))


@pytest.fixture(scope="module")
def stage_1(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of stage 1: 4 steps from a model whose trunk has statistics of its own."""
    folder = tmp_path_factory.mktemp("stage1")
    save_checkpoint(folder / "start", *tiny_models.build(llama))
    config = tiny_models.training_config(llama, max_steps=4)
    run(config, 1, data, folder / "run", checkpoint=str(folder / "start"))
    return folder


def test_stage_1_leaves_vision_and_language_model_bit_identical(stage_1: Path) -> None:
    before, after = weights(stage_1 / "start"), weights(stage_1 / "run" / "model")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {name for name in before if not name.startswith("fusion.")}
    assert not moved & frozen
    assert any("running_var" in name for name in frozen)
    assert any("num_batches_tracked" in name for name in frozen)
    parts = {"beta", "decoder", "project", "project_gated", "queries", "text_mlp"}
    assert {name.split(".")[1] for name in moved} == parts


def test_stage_2_changes_lora_and_fusion_only(
    stage_1: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, max_steps=4)
    start = stage_1 / "run" / "model"
    result = run(config, 2, data, tmp_path, checkpoint=str(start))
    before, after = weights(start), weights(result.model_folder)
    adapters = {name for name in after if "lora_" in name}
    renamed = {name.replace(".base_layer.", "."): name for name in after if name not in adapters}
    assert renamed.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[renamed[name]])}
    assert moved
    assert all(name.startswith("fusion.") for name in moved)
    assert "fusion.beta" in moved
    assert all(after[name].abs().sum() > 0 for name in adapters if "lora_B" in name)


def test_stage_2_from_a_checkpoint_gives_the_same_weights_again(
    stage_1: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, max_steps=2)
    start = str(stage_1 / "run" / "model")
    made = []
    for state in (1, 2):  # of the generator, as another process has another
        torch.manual_seed(state)
        made.append(
            weights(run(config, 2, data, tmp_path / str(state), checkpoint=start).model_folder)
        )
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    other = replace(config, stage2=replace(config.stage2, seed=config.stage2.seed + 1))
    differs = weights(run(other, 2, data, tmp_path / "other", checkpoint=start).model_folder)
    assert any(not torch.equal(made[0][n], differs[n]) for n in differs if "lora_A" in n)


def test_lambda_is_zero_in_stage_1_and_one_in_stage_2(
    stage_1: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    for row in steps(stage_1 / "run"):
        assert "loss_sem" not in row
        assert row["loss"] == pytest.approx(row["loss_nll"], rel=1e-5)
    config = tiny_models.training_config(llama, max_steps=2, semantic_weight=0.5)
    run(config, 2, data, tmp_path)
    for row in steps(tmp_path):
        assert row["loss_sem"] > 0
        assert row["loss"] == pytest.approx(row["loss_nll"] + 0.5 * row["loss_sem"], rel=1e-5)


def test_the_run_folder_tells_what_was_done(stage_1: Path, llama: Path, data: Path) -> None:
    folder = stage_1 / "run"
    described = json.loads((folder / "run.json").read_text())
    assert described["stage"] == 1
    assert described["data"] == [str(data)]
    assert (described["records"], described["images"]) == (12, 5)
    assert {"biod2c", "python", "torch", "transformers", "peft"} <= described["versions"].keys()
    assert load_config(str(folder / "config.yaml")) == tiny_models.training_config(
        llama, max_steps=4
    )
    assert [row["step"] for row in steps(folder)] == [1, 2, 3, 4]
    assert {"loss", "loss_nll", "beta", "learning_rate", "grad_norm"} <= steps(folder)[0].keys()
    answerer = Answerer.load(str(folder / "model"), "cpu")
    (answer,) = answerer.answer([tiny_models.make_image(0)], ["is it?"], max_new_tokens=3)
    assert 0 < answer.confidence <= 1


def test_training_lowers_the_loss(llama: Path, data: Path, tmp_path: Path) -> None:
    config = tiny_models.training_config(
        llama, max_steps=15, batch_size=12, learning_rate=2e-2, schedule="constant"
    )
    result = run(without_dropout(config), 2, data, tmp_path)
    losses = [row["loss"] for row in steps(tmp_path)]
    assert result.steps == len(losses) == 15
    assert losses[-1] < 0.7 * losses[0]
    assert result.loss == pytest.approx(sum(losses) / 15, rel=1e-4)
    assert result.trainable < result.parameters


def test_accumulated_batches_are_one_batch(llama: Path, data: Path, tmp_path: Path) -> None:
    """Two batches of two give the loss and, but for rounding, the gradient of one of four."""
    write_records(
        data.parent / "alike.jsonl",  # one length, so that a mean of means is the mean
        [Record(f"r{i}", f"{i % 5}.png", "is it?", "yes") for i in range(8)],
    )
    rows = []
    for batch, accumulation in ((4, 1), (2, 2)):
        config = without_dropout(
            tiny_models.training_config(
                llama, max_steps=2, batch_size=batch, gradient_accumulation=accumulation
            )
        )
        output = tmp_path / f"{batch}"
        run(config, 1, data.parent / "alike.jsonl", output)
        rows.append([(row["loss"], row["loss_nll"], row["grad_norm"]) for row in steps(output)])
    torch.testing.assert_close(torch.tensor(rows[0]), torch.tensor(rows[1]), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"cache_features": True}, 1e-3),  # half precision of the features
        ({"gradient_checkpointing": True}, 1e-5),
        ({"bf16": True}, 0.05),
        ({"questions_per_image": 2, "batch_size": 12}, None),
    ],
)
def test_what_saves_time_or_memory_keeps_the_losses(
    changes: dict[str, Any],
    tolerance: float | None,
    llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "computes_in_bf16", lambda on_cpu: True)
    losses = []
    for name, options in (("plain", {}), ("saving", changes)):
        shared = {k: v for k, v in changes.items() if k == "batch_size"}
        config = tiny_models.training_config(llama, max_steps=3, **{**shared, **options})
        if tolerance is None:  # another order in the batch draws another dropout
            config = without_dropout(config)
        run(config, 2, data, tmp_path / name)
        losses.append([row["loss"] for row in steps(tmp_path / name)])
    torch.testing.assert_close(*map(torch.tensor, losses), atol=0, rtol=tolerance or 1e-4)
    assert (tmp_path / "cache").exists() == ("cache_features" in changes)


def other_questions(data: Path) -> Path:
    """Other questions about the images of ``data``."""
    path = data.with_name("other.jsonl")
    write_records(path, [replace(each, question="what else?") for each in iter_records(data)])
    return path


def test_the_trunk_runs_once_an_image_with_the_cache(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOD2C_CACHE", str(tmp_path / "cache"))
    config = tiny_models.training_config(llama, max_steps=1, cache_features=True)
    reporter, other = tiny_models.Silent(), other_questions(data)
    train(config, 1, [data], tmp_path / "run", reporter, device="cpu", validation=other)
    assert reporter.images == 5


def test_dropout_and_vote_of_a_run_are_its_configurations_not_its_checkpoints(
    llama: Path, data: Path, stage_1: Path, tmp_path: Path
) -> None:
    config = without_dropout(tiny_models.training_config(llama, max_steps=1))
    start = str(stage_1 / "run" / "model")
    losses = {}
    for dropout in (0.0, 0.5):
        model = replace(config.model, fusion_dropout=dropout, answer_vote=dropout)
        result = run(
            replace(config, model=model), 2, data, tmp_path / str(dropout), checkpoint=start
        )
        trained = load_model(result.model_folder).config
        assert (trained.fusion_dropout, trained.answer_vote) == (dropout, dropout)
        losses[dropout] = result.loss
    assert load_model(Path(start)).config.fusion_dropout not in losses
    assert losses[0.0] != losses[0.5]


@pytest.mark.parametrize(
    ("switch", "weight"), [("mix_neighbours", "mixing.mix"), ("attention_readout", "reading.read")]
)
def test_part_of_the_fusion_can_begin_in_a_checkpoint(
    switch: str, weight: str, llama: Path, data: Path, stage_1: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, max_steps=2)
    start = str(stage_1 / "run" / "model")
    wider = replace(config, model=replace(config.model, **{switch: True}))
    begun = run(wider, 2, data, tmp_path / "begun", checkpoint=start)
    model = load_model(begun.model_folder)
    assert getattr(model.config, switch)
    assert model.fusion.get_submodule(weight).weight.abs().sum() > 0
    again = run(wider, 2, data, tmp_path / "again", checkpoint=start)
    weights = load_model(again.model_folder).fusion.state_dict()
    for name, value in model.fusion.state_dict().items():
        assert torch.equal(value, weights[name])
    kept = run(config, 2, data, tmp_path / "kept", checkpoint=str(begun.model_folder))
    assert getattr(load_model(kept.model_folder).config, switch)


@pytest.mark.parametrize("switch", ["fusion", "semantic_loss"])
def test_ablations_train(switch: str, llama: Path, data: Path, tmp_path: Path) -> None:
    config = tiny_models.training_config(llama, max_steps=2)
    config = replace(config, model=replace(config.model, **{switch: "off"}))
    result = run(config, 2, data, tmp_path)
    model = load_model(result.model_folder)
    assert getattr(model.config, switch) == "off"
    assert all(("loss_sem" in row) == (switch == "fusion") for row in steps(tmp_path))
    assert all(("beta" in row) == (switch == "semantic_loss") for row in steps(tmp_path))


def test_only_training_rows_are_trained_on_and_validation_is_measured(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    splits = ["train", "train", "", "validation", "test"]
    records = [
        Record(f"r{i}", f"{i % 5}.png", "is it?", "yes", split=splits[i % 5]) for i in range(20)
    ]
    write_records(data.parent / "splits.jsonl", records)
    config = tiny_models.training_config(llama, epochs=2.0)
    result = run(config, 1, data.parent / "splits.jsonl", tmp_path, validation=data)
    assert result.steps == 6  # 12 rows in batches of 4, twice
    assert json.loads((tmp_path / "run.json").read_text())["records"] == 12
    measured = [row for row in log(tmp_path) if "eval_loss" in row]
    assert [row["step"] for row in measured] == [3, 6]
    assert all(row["eval_loss"] > 0 for row in measured)


def test_several_sources_are_put_together(llama: Path, data: Path, tmp_path: Path) -> None:
    other = tiny_models.write_data(tmp_path / "other", count=4, images=1)
    config = tiny_models.training_config(llama, max_steps=1)
    train(config, 1, [data, other], tmp_path / "run", tiny_models.Silent(), device="cpu")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (described["records"], described["images"]) == (16, 6)


@pytest.mark.parametrize("keep", [1, 2, 0])
def test_as_many_checkpoints_are_kept_as_asked_for(
    keep: int, llama: Path, data: Path, tmp_path: Path
) -> None:
    run(tiny_models.training_config(llama, max_steps=3, save_every=1, keep=keep), 1, data, tmp_path)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["checkpoint-1", "checkpoint-2", "checkpoint-3"][-keep:]


def test_nothing_in_the_run_folder_of_a_model_is_pickled_weights(stage_1: Path) -> None:
    for folder in (stage_1 / "run" / "model", *(stage_1 / "run" / "checkpoints").iterdir()):
        assert (folder / "model.safetensors").is_file()
        assert not list(folder.glob("*.bin*.index.json"))
        assert not (folder / "pytorch_model.bin").exists()


def rejected(tmp_path: Path, *records: Record) -> Path:
    write_records(tmp_path / "records.jsonl", records)
    tiny_models.make_image(0).save(tmp_path / "0.png")
    return tmp_path / "records.jsonl"


def test_rows_without_an_answer_are_left_out_and_told(llama: Path, tmp_path: Path) -> None:
    good, bad = Record("a", "0.png", "is it?", "yes"), Record("b", "0.png", "is it?")
    model, processor = tiny_models.build(llama)
    settings, notes = tiny_models.training_config(llama).stage1, []
    data = rejected(tmp_path, good, bad)
    dataset = load_dataset([data], "train", model, processor, settings, 1, notes.append)
    assert [record.id for record in dataset.records] == ["a"]
    assert notes == ["left out for want of an answer: 'b', records in all: 1"]


def test_no_row_with_an_answer_is_named(llama: Path, tmp_path: Path) -> None:
    bad = Record("b", "0.png", "is it?")
    with pytest.raises(InputError, match="record 'b' has no answer"):
        run(tiny_models.training_config(llama), 1, rejected(tmp_path, bad), tmp_path / "run")


def test_no_training_rows_is_an_error(llama: Path, tmp_path: Path) -> None:
    data = rejected(tmp_path, Record("a", "0.png", "is it?", "yes", split="test"))
    with pytest.raises(InputError, match="no training records"):
        run(tiny_models.training_config(llama), 1, data, tmp_path / "run")


def test_a_missing_image_stops_the_run_before_it_starts(llama: Path, tmp_path: Path) -> None:
    records = [
        Record(f"r{i}", "0.png" if i < 9 else "gone.png", "is it?", "yes") for i in range(10)
    ]
    with pytest.raises(ImageError, match=r"image not found: .*gone\.png"):
        run(tiny_models.training_config(llama), 1, rejected(tmp_path, *records), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_two_runs_are_not_mixed_in_one_folder(stage_1: Path, llama: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"holds a run already\. Add --resume"):
        run(tiny_models.training_config(llama), 1, data, stage_1 / "run")


def test_a_run_folder_that_cannot_be_made_is_an_input_error(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the run folder"):
        run(tiny_models.training_config(llama), 1, data, tmp_path / "file" / "run")


def test_a_loss_that_is_not_finite_stops_the_run(llama: Path, data: Path, tmp_path: Path) -> None:
    model, processor = build_model(tiny_models.model_settings(llama), 0)
    with torch.no_grad():
        model.fusion.queries.fill_(float("nan"))
    save_checkpoint(tmp_path / "broken", model, processor)
    with pytest.raises(DivergenceError, match="the loss is nan at step 1"):
        run(
            tiny_models.training_config(llama, max_steps=2),
            1,
            data,
            tmp_path / "run",
            checkpoint=str(tmp_path / "broken"),
        )


def test_lora_targets_that_do_not_exist_are_a_config_error(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """Also one of several, which would not be adapted."""
    config = tiny_models.training_config(llama)
    lora = replace(config.model.lora, targets=("q_proj", "query"))
    refused = r"adapt query, and LlamaForCausalLM has no layer .*targets=auto, which here is q_proj, v_proj;"
    with pytest.raises(ConfigError, match=refused):
        run(replace(config, model=replace(config.model, lora=lora)), 2, data, tmp_path)
