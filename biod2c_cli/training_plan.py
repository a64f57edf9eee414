"""``biod2c train --dry-run``: what a run would take, for the person and for scripts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from biod2c_cli.console import emit, emit_json, note
from biod2c_cli.training_options import LaunchFlags
from biod2c_cli.training_run import TrainingRun

if TYPE_CHECKING:
    from biod2c_core.training.hardware.engines import EngineFlags


def show_plan(
    run: TrainingRun,
    launch_flags: LaunchFlags,
    flags: EngineFlags,
    device: str,
    gpu_memory: float | None,
    as_json: bool,
) -> None:
    """Print :class:`biod2c_core.training.dry_run.Plan`; its configuration in JSON alone.

    Raises:
        typer.Exit: With code 2, if it will not fit.
    """
    from biod2c_core.training.dry_run import make_plan
    from biod2c_core.training.hardware.engines import choose_engine

    if gpu_memory is None and not launch_flags.processes:
        gpu_memory = _memory_here()
    on_gpu = not launch_flags.processes and (bool(launch_flags.gpus) or _is_gpu(device))
    engine = choose_engine(
        launch_flags.total_processes, on_gpu, flags, preset=run.config.zero, elsewhere=True
    )
    plan = make_plan(
        *(run.config, run.stage, run.data, run.checkpoint),
        *(launch_flags.total_processes, engine, gpu_memory),
    )
    verdict = _verdict(plan.fits, plan.available, plan.help, run.stage)
    if as_json:
        emit_json({**asdict(plan), "unit": "GiB"})
    else:
        emit(f"stage {run.stage} of {run.checkpoint or run.source}")
        emit(f"trainable parameters: {plan.trainable:,} of {plan.parameters:,}")
        emit(f"steps: {plan.steps:,} of {plan.whole_batch} samples; records: {plan.records:,}")
        emit(f"longest sample: {plan.tokens} positions")
        emit(f"engine: {plan.engine}")
        emit(f"memory of each of {plan.processes} process(es), estimated, GiB:")
        for name, size in plan.memory.items():
            emit(f"  {name}: {size:.2f}")
        emit(f"  in all, with allocator overhead: {plan.total:.2f}")
        emit(f"memory of the machine for each while it starts, GiB: {plan.host_memory:.2f}")
        if plan.features:
            lacking = ": NOT enough, unless an earlier run has left them there"
            emit(
                f"disk for the features of {plan.images:,} images, GiB: {plan.features:,.2f} "
                f"({plan.features_free:,.2f} free)"
                + (lacking if plan.features > plan.features_free else "")
            )
        emit(verdict)
        note("all settings of the run: --json")
    if plan.fits is False:
        if as_json:
            note(verdict)
        raise typer.Exit(2)


def _verdict(fits: bool | None, available: float | None, switches: list[str], stage: int) -> str:
    if fits is None:
        return "no GPU is here to compare with; name its GiB with --gpu-memory"
    if fits:
        return f"fits in {available:.1f} GiB"
    named = ", ".join(each.replace("stageN", f"--set stage{stage}") for each in switches)
    return f"does NOT fit in {available:.1f} GiB; what helps: {named}"


def _is_gpu(device: str) -> bool:
    from biod2c_core.device import resolve_device

    return resolve_device(device).type == "cuda"


def _memory_here() -> float | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory / 2**30
