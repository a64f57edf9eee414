"""``biod2c train``: one stage of the paper's two-stage training."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli import completion
from biod2c_cli.console import emit, emit_json
from biod2c_cli.options import AsJson, Device, say_hub_is_asked
from biod2c_cli.training_options import (
    DeepSpeed,
    DryRun,
    Fsdp,
    GpuMemory,
    Gpus,
    Hostfile,
    LaunchFlags,
    Master,
    NodeCount,
    NodeRank,
    Processes,
    TensorBoard,
    Wandb,
    Zero,
)
from biod2c_cli.training_run import plan_run

_FLAGS = (
    "epochs",
    "max_steps",
    "batch_size",
    "learning_rate",
    "seed",
    "bf16",
    "save_every",
    "keep",
)


def train(
    run_file: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN.yaml]",
            help="A preset's settings with data and output; flags win over it.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Record file (JSONL) or data set folder; repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder to write.")
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(
            min=1, max=2, metavar="1|2", help="1 aligns, 2 (default) fine-tunes with LoRA."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset name (paper; default: tiny) or a YAML file.",
            autocompletion=completion.presets,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Checkpoint to start from; default: the preset's parts.",
            autocompletion=completion.models,
            callback=say_hub_is_asked,
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Records on which the loss is measured every so often."),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Export the best checkpoint of the validation, not the last: loss, or a metric of "
            "evaluate for generated answers (COLUMN or PROFILE:COLUMN).",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any key of the preset: stage2.weight_decay=0.01; repeatable.",
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of order, dropout, new weights.")] = None,
    bf16: Annotated[
        bool | None,
        typer.Option("--bf16/--no-bf16", help="Mixed precision."),
    ] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints; 0: after each epoch.")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="Checkpoints to keep; 0: all.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from the run folder's newest checkpoint; start if it has none."
        ),
    ] = False,
    gpus: Gpus = None,
    processes: Processes = None,
    nodes: NodeCount = 1,
    node_rank: NodeRank = 0,
    master: Master = "",
    hostfile: Hostfile = None,
    zero: Zero = None,
    deepspeed: DeepSpeed = None,
    fsdp: Fsdp = False,
    dry_run: DryRun = False,
    gpu_memory: GpuMemory = None,
    tensorboard: TensorBoard = False,
    wandb: Wandb = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train one stage: 1 aligns the fusion module on captions, 2 adds LoRA on questions."""
    values = (epochs, max_steps, batch_size, learning_rate, seed, bf16, save_every, keep)
    flags = {key: value for key, value in zip(_FLAGS, values, strict=True) if value is not None}
    run = plan_run(run_file, stage, preset, model, data, validation, output, select)
    run = run.with_settings(settings or [], flags)
    run.check_paths()

    from biod2c_core.training.hardware.engines import EngineFlags

    launch_flags = LaunchFlags(gpus, processes, nodes, node_rank, master, hostfile)
    engine = EngineFlags(zero, deepspeed, fsdp)
    if dry_run:
        from biod2c_cli.training_plan import show_plan

        show_plan(run, launch_flags, engine, device, gpu_memory, as_json)
        return
    code = launch_flags.launch(engine, run.config.zero)
    if code is not None:
        raise typer.Exit(code)

    from biod2c_cli.training_progress import TrainingProgress
    from biod2c_core.training.hardware.launch import is_first, leave_process_group
    from biod2c_core.training.train import train as start

    with TrainingProgress() as reporter:
        result = start(
            run.config,
            run.stage,
            run.data,
            run.output,
            reporter,
            checkpoint=run.checkpoint,
            validation=run.validation,
            select=run.criterion,
            resume=resume,
            device="cpu" if processes else device,
            command=shlex.join(["biod2c", *sys.argv[1:]]),
            engine=engine,
            track=[name for name, on in (("tensorboard", tensorboard), ("wandb", wandb)) if on],
        )
    leave_process_group()
    if not is_first():
        return
    if as_json:
        emit_json(result.__dict__)
    else:
        emit(str(result.model_folder))
