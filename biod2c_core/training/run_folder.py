"""The run folder: whose it is, what it says about itself, and from where a run goes on."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from biod2c_core import __version__
from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.config import StageSettings, TrainingConfig, dump_config, load_config
from biod2c_core.errors import InputError
from biod2c_core.training.checkpointing import PARTIAL, last_complete_checkpoint
from biod2c_core.training.hardware.engines import Engine
from biod2c_core.training.inputs.collate import VQADataset
from biod2c_core.training.logs.run_log import Reporter
from biod2c_core.training.run_history import (
    changed_settings,
    check_kept,
    check_same_inputs,
    inputs_of,
    read_run,
    starts_of,
)

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "timm", "open_clip_torch", "deepspeed")
_BATCH_KEYS = ("batch_size", "gradient_accumulation")
_ORDER_KEYS = ("questions_per_image", "queue_size", "seed", "ema_decay")


def claim(
    output: Path,
    resume: bool,
    config: TrainingConfig,
    stage: int,
    reporter: Reporter,
    engine: Engine,
    processes: int,
    select: str,
) -> None:
    """Refuse to mix two runs in one folder; name damaged checkpoints. For the first process.

    Args:
        output: The run folder, which this process holds alone.
        resume: Go on with the run that it holds, if it holds one.
        config: The resolved configuration.
        stage: 1 or 2.
        reporter: Told about damaged checkpoints, and where there is none to go on from.
        engine: How the processes share the work.
        processes: Of the whole run.
        select: What checkpoints are compared by; empty if they are not.

    Raises:
        InputError: The folder holds another run.
    """
    used = (output / "run.json").exists()
    if used and not resume:
        raise InputError(
            f"{output} holds a run already",
            "Add --resume to go on with it, or choose another folder.",
        )
    if used:
        _check_same_run(output, config, stage, engine, processes)
        _check_same(output, "select", read_run(output).get("select", ""), select)
    shutil.rmtree(output / "checkpoints" / PARTIAL, ignore_errors=True)
    if resume and last_complete_checkpoint(output / "checkpoints", reporter.note) is None:
        reporter.note(f"{output} holds no checkpoint to go on from: the run starts")


def _check_same_run(
    output: Path, config: TrainingConfig, stage: int, engine: Engine, processes: int
) -> None:
    """Resume only with the model, the data order, the stage and what it trains, as at the start."""
    begun = read_run(output)
    if begun["stage"] != stage:
        raise InputError(
            f"{output} is a run of stage {begun['stage']}, not {stage}",
            f"Resume with --stage {begun['stage']}.",
        )
    before, now = load_config(str(output / "config.yaml")), config.stage(stage)
    section = f"stage{stage}"
    old = before.stage(stage)
    for key in vars(config.model):
        _check_same(output, f"model.{key}", getattr(before.model, key), getattr(config.model, key))
    for key in ("train", *_ORDER_KEYS):
        _check_same(output, f"{section}.{key}", getattr(old, key), getattr(now, key))
    engine_before, processes_before = begun.get("engine", "single"), begun.get("processes", 1)
    if processes_before == processes:
        for key in _BATCH_KEYS:
            _check_same(output, f"{section}.{key}", getattr(old, key), getattr(now, key))
        _check_same(output, "engine", engine_before, engine.name)
        return
    if not engine.any_number_resumes or engine_before not in ("single", "ddp"):
        _check_same(output, "engine", engine_before, engine.name)
        _check_same(output, "processes", processes_before, processes)
    _check_same(
        output,
        "batch_size x gradient_accumulation x processes",
        _whole_batch(old, processes_before),
        _whole_batch(now, processes),
    )


def _whole_batch(settings: StageSettings, processes: int) -> int:
    return settings.batch_size * settings.gradient_accumulation * processes


def _check_same(output: Path, name: str, was: Any, now: Any) -> None:
    if was != now:
        raise InputError(
            f"{output} was started with {name}={was!r}, not {now!r}",
            "Resume with the options in its run.json.",
        )


def write_run_files(
    output: Path,
    config: TrainingConfig,
    stage: int,
    checkpoint: str | None,
    sizes: tuple[int, int],
    data: Sequence[Path],
    datasets: Sequence[VQADataset],
    command: str,
    engine: Engine,
    processes: int,
    bf16: bool,
    select: str,
    note: Callable[[str], None],
) -> None:
    """Write ``config.yaml`` and ``run.json``, unless the run was started with something else.

    Args:
        output: The run folder.
        config: The configuration, with what a checkpoint has decided.
        stage: 1 or 2.
        checkpoint: The model that the run starts from, if any.
        sizes: Trainable and all parameters.
        data: Record files or data set folders.
        datasets: What was read of them, and of the validation records, if any.
        command: The command line.
        engine: How the processes share the work.
        processes: Of the whole run.
        bf16: Mixed precision.
        select: What checkpoints are compared by; empty if they are not.
        note: Told each setting that is no longer what the run was started with.

    Raises:
        InputError: Records, pictures or the weights to start from have changed.
    """
    inputs = inputs_of(config, checkpoint, datasets)
    check_same_inputs(output, inputs)
    changed: list[str] = []
    if read_run(output):
        changed = changed_settings(load_config(str(output / "config.yaml")), config, stage)
    for line in changed:
        note(f"changed since this run was started: {line}")
    last = last_complete_checkpoint(output / "checkpoints")
    step = int(last.name.rpartition("-")[2]) if last else 0
    described = {
        "command": command,
        "stage": stage,
        "checkpoint": checkpoint,
        "trainable": sizes[0],
        "parameters": sizes[1],
        "data": [str(path) for path in data],
        "records": len(datasets[0]),
        "images": len(datasets[0].images),
        "inputs": inputs,
        "select": select,
        "engine": engine.name,
        "zero_stage": engine.zero_stage,
        "processes": processes,
        "precision": "bfloat16" if bf16 else "float32",
        "versions": _versions(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "starts": starts_of(output, command, processes, step, changed),
    }
    with atomic_open(output / "config.yaml") as file:
        file.write(dump_config(config))
    write_json(output / "run.json", described)


def note_chosen(output: Path, step: int, steps: int) -> None:
    """Write into ``run.json`` of which step the weights of the model are, and how many were done.

    Raises:
        InputError: Somebody has removed the folder.
    """
    check_kept(output)
    write_json(output / "run.json", {**read_run(output), "chosen_step": step, "steps": steps})


def _versions() -> dict[str, str]:
    versions = {"biod2c": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
