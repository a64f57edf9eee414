"""The run folder: whose it is, what it says about itself, and from where a run goes on."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Sequence
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

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "timm", "open_clip_torch", "deepspeed")
_BATCH_KEYS = ("batch_size", "gradient_accumulation")
_ORDER_KEYS = ("questions_per_image", "queue_size", "seed")


def claim(
    output: Path,
    resume: bool,
    config: TrainingConfig,
    stage: int,
    reporter: Reporter,
    engine: Engine,
    processes: int,
) -> None:
    """Refuse to mix two runs in one folder; name damaged checkpoints. For the first process.

    Raises:
        InputError: The folder holds another run, or cannot be made.
    """
    used = (output / "run.json").exists()
    if used and not resume:
        raise InputError(
            f"{output} holds a run already",
            "Add --resume to go on with it, or choose another folder.",
        )
    if used:
        _check_same_run(output, config, stage, engine, processes)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the run folder {output}: {error.strerror}", "Choose another --output."
        ) from error
    shutil.rmtree(output / "checkpoints" / PARTIAL, ignore_errors=True)
    if resume:
        last_complete_checkpoint(output / "checkpoints", reporter.note)


def _check_same_run(
    output: Path, config: TrainingConfig, stage: int, engine: Engine, processes: int
) -> None:
    """Resume only with the model, the data order and the stage that the run was started with."""
    begun = json.loads((output / "run.json").read_text("utf-8"))
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
    for key in _ORDER_KEYS:
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
    dataset: VQADataset,
    command: str,
    engine: Engine,
    processes: int,
    bf16: bool,
) -> None:
    """Write ``config.yaml`` and ``run.json``.

    Args:
        output: The run folder.
        config: The configuration, with what a checkpoint has decided.
        stage: 1 or 2.
        checkpoint: The model that the run starts from, if any.
        sizes: Trainable and all parameters.
        data: Record files or data set folders.
        dataset: What was read of them.
        command: The command line.
        engine: How the processes share the work.
        processes: Of the whole run.
        bf16: Mixed precision.
    """
    with atomic_open(output / "config.yaml") as file:
        file.write(dump_config(config))
    versions: dict[str, Any] = {"biod2c": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    write_json(
        output / "run.json",
        {
            "command": command,
            "stage": stage,
            "checkpoint": checkpoint,
            "trainable": sizes[0],
            "parameters": sizes[1],
            "data": [str(path) for path in data],
            "records": len(dataset),
            "images": len(set(dataset.paths)),
            "engine": engine.name,
            "zero_stage": engine.zero_stage,
            "processes": processes,
            "precision": "bfloat16" if bf16 else "float32",
            "versions": versions,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
    )
