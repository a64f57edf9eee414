"""What a plan says is what the run is: parameters, switches, engine, and the files that tell of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny_models
import torch
from typer.testing import CliRunner

from biod2c_cli.app import app
from biod2c_core.config import TrainingConfig, dump_config, load_config, preset_names, switches
from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_model_config, save_checkpoint
from biod2c_core.training import dry_run
from biod2c_core.training import train as run
from biod2c_core.training.dry_run import Plan, estimate, host_weights, make_plan, measure
from biod2c_core.training.hardware import engines
from biod2c_core.training.hardware.base_weights import base_dtype
from biod2c_core.training.hardware.engines import Engine, EngineFlags
from biod2c_core.training.stages import count_parameters, parameter_groups, prepare_stage
from biod2c_core.training.start import describe_model, start_model


def plan(config: TrainingConfig, stage: int, data: Path, checkpoint: Path | None = None) -> Plan:
    start = None if checkpoint is None else str(checkpoint)
    return make_plan(config, stage, [data], start, 1, Engine(), None)


def switches_of(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in switches()}


def assert_built_as_planned(config: TrainingConfig, stage: int, data: Path) -> None:
    planned = plan(config, stage, data)
    model, _ = start_model(config, None, seed=0)
    prepare_stage(model, stage, config.stage(stage), config.model.lora)
    assert (planned.trainable, planned.parameters) == count_parameters(model)
    assert switches_of(planned.config.model) == switches_of(model.config)
    assert switches_of(describe_model(planned.config, None)) == switches_of(model.config)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_built_as_planned(name: str, stage: int, llama: Path, data: Path) -> None:
    assert_built_as_planned(tiny_models.at_toy_size(load_config(name), llama), stage, data)


FLAGS = [name for name in switches() if getattr(TrainingConfig().model, name) is False]


@pytest.mark.parametrize("name", FLAGS)
def test_no_switch_is_forgotten_in_a_plan(name: str, llama: Path, data: Path) -> None:
    config = tiny_models.training_config(llama)
    switched = replace(config, model=replace(config.model, **{name: True}))
    assert_built_as_planned(switched, 2, data)
    parameters = {plan(each, 2, data).parameters for each in (config, switched)}
    assert len(parameters) == (1 if name == "encode_positions" else 2)  # it alone learns nothing


def test_a_run_from_a_checkpoint_is_as_planned_and_says_what_the_checkpoint_has(
    data: Path, tmp_path: Path
) -> None:
    config = load_config("tiny")
    assert not config.model.attention_readout
    work = {"max_steps": 1, "batch_size": 1, "cache_features": False, "attention_weight": 0.0}
    config = replace(config, stage2=replace(config.stage2, **work))
    planned = plan(config, 2, data, EMBEDDED)
    result = run.train(
        config, 2, [data], tmp_path, tiny_models.Silent(), checkpoint=str(EMBEDDED), device="cpu"
    )
    told = json.loads((tmp_path / "run.json").read_text())
    written = load_config(str(tmp_path / "config.yaml"))
    assert planned.config == written
    assert written.model.attention_readout
    assert written.model.mix_neighbours
    assert switches_of(written.model) == switches_of(load_model_config(result.model_folder))
    assert written.stage2 == config.stage2
    assert told["checkpoint"] == str(EMBEDDED)
    counted = (planned.trainable, planned.parameters)
    assert counted == (result.trainable, result.parameters)
    assert counted == (told["trainable"], told["parameters"])
    assert (planned.engine, planned.zero_stage) == (told["engine"], told["zero_stage"])


def test_a_checkpoints_adapters_and_prompt_are_told(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, max_steps=1)
    lora = replace(config.model.lora, r=3, alpha=7, dropout=0.25, targets=("q_proj",))
    own = replace(config.model, lora=lora, prompt="Q: {question} A:", fusion_layers=1)
    first = run.train(
        replace(config, model=own), 2, [data], tmp_path / "1", tiny_models.Silent(), device="cpu"
    )
    planned = plan(config, 2, data, first.model_folder)
    assert planned.config.model == own
    assert planned.parameters == first.parameters
    second = run.train(
        *(config, 2, [data], tmp_path / "2", tiny_models.Silent()),
        checkpoint=str(first.model_folder),
        device="cpu",
    )
    assert load_config(str(tmp_path / "2" / "config.yaml")).model == own
    assert (planned.trainable, planned.parameters) == (second.trainable, second.parameters)


PLACES = [
    pytest.param([], 1, True, id="one"),
    pytest.param(["--gpus", 1, "--nodes", 2], 2, True, id="nodes"),
    pytest.param(["--processes", 2], 2, False, id="cpu"),
    pytest.param(["--gpus", 4, "--zero", 3], 4, True, id="zero"),
    pytest.param(["--gpus", 4, "--zero", 0], 4, True, id="ddp"),
    pytest.param(["--gpus", 2, "--fsdp"], 2, True, id="fsdp"),
    pytest.param(["--gpus", 1, "--fsdp"], 1, True, id="fsdp-one"),
    pytest.param(["--gpus", 2, "--deepspeed", "ds.json"], 2, True, id="file"),
]


@pytest.mark.parametrize("name", ["paper", "paper-zero3"])
@pytest.mark.parametrize(("flags", "processes", "on_gpu"), PLACES)
def test_a_plan_takes_the_engine_that_the_run_takes(
    name: str,
    flags: list[Any],
    processes: int,
    on_gpu: bool,
    llama: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ds.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    Path("toy.yaml").write_text(dump_config(tiny_models.at_toy_size(load_config(name), llama)))
    line = ["train", "-d", data, "-o", "run", "--preset", "toy.yaml", "--dry-run", "--json", *flags]
    result = CliRunner().invoke(app, [str(each) for each in line])
    assert result.exit_code == 0, result.stderr
    planned = json.loads(result.stdout)

    runs: list[Any] = []
    monkeypatch.setattr(run, "_train", lambda asked, *rest: runs.append(asked))
    device = torch.device("cuda" if on_gpu else "cpu")
    monkeypatch.setattr(run, "resolve_device", lambda name: device)
    monkeypatch.setattr(run, "fit_precision", lambda settings, on_cpu: settings)
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    given = dict(zip(flags[::2], flags[1::2], strict=False))
    file = Path(given["--deepspeed"]) if "--deepspeed" in given else None
    asked = EngineFlags(given.get("--zero"), file, "--fsdp" in flags)
    reporter = tiny_models.Silent()
    run.train(load_config("toy.yaml"), 2, [data], tmp_path, reporter, engine=asked)
    engine = runs[0].engine
    assert (planned["engine"], planned["zero_stage"]) == (engine.name, engine.zero_stage)
    assert planned["processes"] == processes


def test_a_plan_counts_the_rows_that_training_takes(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """Training rows with an answer; of a file without any splits, all of them."""
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()][:8]
    for row, split in zip(rows, ["train"] * 4 + ["", "test", "validation", "train"], strict=True):
        row["split"] = split
    rows[7]["answer"] = ""
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config = tiny_models.training_config(llama)
    assert plan(config, 2, mixed).records == 5
    for row in rows:
        row["answer"] = ""
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(InputError, match="no training records"):
        plan(config, 2, mixed)


@pytest.mark.parametrize(
    ("base", "trained"),
    [("float32", "lora"), ("bfloat16", "lora"), ("nf4", "lora"), ("float32", "full")],
)
def test_a_plan_knows_what_the_weights_take_on_the_host(
    base: str, trained: Literal["lora", "full"], llama: Path
) -> None:
    config = tiny_models.training_config(llama)
    settings = replace(config.stage2, base_weights=base, bf16=True, train=trained)
    config = replace(config, stage2=settings)
    model, _ = start_model(config, None, 0, base_dtype(settings))
    prepare_stage(model, 2, settings, config.model.lora)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    sizes = measure(describe_model(config, None), config, 2)
    assert host_weights(sizes, settings) == pytest.approx(held, rel=0.01)


@pytest.mark.parametrize("trained", ["lora", "full"])
def test_weights_gradients_and_optimizer_are_those_of_a_step(
    trained: Literal["lora", "full"], llama: Path
) -> None:
    config = tiny_models.training_config(llama, train=trained)
    settings = config.stage2
    model, _ = tiny_models.build(llama)
    prepare_stage(model, 2, settings, config.model.lora)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    held = {
        "weights": list(model.parameters()),
        "gradients": [each.grad for each in model.parameters() if each.grad is not None],
        "optimiser": [
            each for state in optimizer.state.values() for each in state.values() if each.dim()
        ],
    }
    sizes = measure(describe_model(config, None), config, 2)
    planned = estimate(sizes, settings, 20, 1, 0)
    for name, tensors in held.items():
        size = sum(each.numel() * each.element_size() for each in tensors)
        assert planned[name] == pytest.approx(size, rel=0.01), name


def test_a_plan_of_full_fine_tuning_counts_all_weights_wherever_it_starts(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    adapted, processor = tiny_models.build(llama)
    config = tiny_models.training_config(llama, train="full", max_steps=1)
    prepare_stage(adapted, 2, replace(config.stage2, train="lora"), config.model.lora)
    save_checkpoint(tmp_path / "adapted", adapted, processor)
    plain, _ = tiny_models.build(llama)
    vision = sum(parameter.numel() for parameter in plain.vision.parameters())
    whole = sum(parameter.numel() for parameter in plain.parameters())
    for start in (None, tmp_path / "adapted"):
        planned = plan(config, 2, data, start)
        assert (planned.trainable, planned.parameters) == (whole - vision, whole)
    with pytest.raises(ConfigError, match=r"Add --set stage2\.base_weights=float32"):
        plan(replace(config, stage2=replace(config.stage2, base_weights="nf4")), 2, data)


def test_what_full_fine_tuning_splits_and_what_helps_it(llama: Path, data: Path) -> None:
    """Sixteen bytes a weight and mixed precision's copies; split, a part of them. Four bits do not help."""
    config = tiny_models.training_config(llama, train="full", bf16=True)
    sizes = measure(describe_model(config, None), config, 2)
    trained, vision = sizes.trainable, sizes.vision * 4

    def state(zero: int, processes: int) -> float:
        planned = estimate(sizes, config.stage2, 20, processes, zero)
        return sum(planned[part] for part in ("weights", "gradients", "optimiser"))

    assert state(0, 1) == trained * 16 + sizes.language_model * 2 + vision
    assert state(2, 8) == trained * (2 + 16 / 8) + vision
    assert state(3, 8) == (trained * 16 + vision) / 8
    planned = make_plan(config, 2, [data], None, 4, Engine("ddp"), available=0.5)
    assert planned.help == [
        *("stageN.gradient_checkpointing=true", "--zero 3"),
        "stageN.train=lora: nothing less is enough",
    ]


@pytest.mark.parametrize(("kind", "size"), [("float16", 2), ("bfloat16", 2), ("float8", 1)])
def test_a_plan_tells_the_disk_that_cached_features_take(
    kind: Any, size: int, llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The five images of 12 records; in all else the plan stays as it was."""
    monkeypatch.setattr(dry_run, "GIB", 1)
    planned = plan(tiny_models.training_config(llama), 1, data)
    assert (planned.records, planned.images, planned.features) == (12, 5, 0.0)
    config = tiny_models.training_config(llama, cache_features=True, feature_type=kind)
    planned = plan(config, 1, data)
    scales = 5 * 4 if size == 1 else 0
    assert planned.features == 5 * math.prod(tiny_models.GRID) * size + scales
    assert planned.features_free > planned.features


def test_the_dry_run_says_where_there_is_no_room_for_features(
    llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text(dump_config(tiny_models.training_config(llama, cache_features=True)))
    command = ["train", "--dry-run", "--preset", str(preset), "--data", str(data), "-o", "run"]
    words = "disk for the features of 5 images, GiB: 0.00"
    assert words not in CliRunner().invoke(app, command).stdout  # too little to speak of
    monkeypatch.setattr(dry_run, "row_bytes", lambda shape, kind: 2**31)
    monkeypatch.setattr(dry_run, "free_space", lambda folder: 2**33)
    result = CliRunner().invoke(app, command)
    assert "disk for the features of 5 images, GiB: 10.00 (8.00 free): NOT enough" in result.stdout
    assert result.exit_code == 0
