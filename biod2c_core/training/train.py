"""One training run from records to a checkpoint folder.

The run folder holds ``config.yaml`` (resolved), ``run.json`` (command, data, versions), ``log.jsonl``
(a line every ``log_every`` steps), ``checkpoints/`` to resume from, and at the end ``model/``, which
``ask``, ``evaluate`` and the next stage load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from biod2c_core.atomic import atomic_folder
from biod2c_core.config import StageSettings, TrainingConfig
from biod2c_core.data.formats import image_root
from biod2c_core.device import resolve_device
from biod2c_core.errors import TerminatedError
from biod2c_core.model.checkpoints.folder import save_checkpoint
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.checkpointing import (
    Termination,
    is_storage_failure,
    last_complete_checkpoint,
    storage_error,
)
from biod2c_core.training.choosing.criterion import Choice, Criterion, check_choice
from biod2c_core.training.hardware.base_weights import (
    base_dtype,
    hold_base_weights,
    unpack_base_weights,
)
from biod2c_core.training.hardware.engines import (
    Engine,
    EngineFlags,
    choose_engine,
    engine_arguments,
    fit_to_engine,
)
from biod2c_core.training.hardware.kernels import check_kernels, choose_kernels
from biod2c_core.training.hardware.launch import is_first
from biod2c_core.training.hardware.precision import fit_precision
from biod2c_core.training.inputs.collate import Collator
from biod2c_core.training.inputs.datasets import cached_features, load_or_open, shared_samples
from biod2c_core.training.logs.curves import draw_curves
from biod2c_core.training.logs.run_log import Reporter, SilentReporter
from biod2c_core.training.logs.trackers import check_trackers, start_trackers
from biod2c_core.training.run_folder import claim, note_chosen, write_run_files
from biod2c_core.training.run_lock import locked
from biod2c_core.training.stages import (
    check_stage,
    count_parameters,
    parameter_groups,
    prepare_stage,
)
from biod2c_core.training.start import resolve_config, start_model
from biod2c_core.training.trainer import BioD2CTrainer
from biod2c_core.workers import spare_cores


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave.

    Attributes:
        model_folder: The checkpoint folder.
        steps: Optimiser steps done in all.
        chosen_step: The step that the weights of the model are of.
        seconds: Wall time of this call.
        loss: Mean training loss of this call; 0 if no step was left to do.
        trainable: Parameters that were trained.
        parameters: All parameters.
    """

    model_folder: Path
    steps: int
    chosen_step: int
    seconds: float
    loss: float
    trainable: int
    parameters: int


@dataclass(frozen=True)
class _Run:
    """What a run was asked to be."""

    config: TrainingConfig
    stage: int
    settings: StageSettings
    data: Sequence[Path]
    output: Path
    checkpoint: str | None
    validation: Path | None
    criterion: Criterion | None
    resume: bool
    device: str
    command: str
    engine: Engine
    processes: int

    @property
    def on_cpu(self) -> bool:
        return resolve_device(self.device).type == "cpu"

    @property
    def select(self) -> str:
        return "" if self.criterion is None else self.criterion.name


def train(
    config: TrainingConfig,
    stage: int,
    data: Sequence[Path],
    output: Path,
    reporter: Reporter,
    *,
    checkpoint: str | None = None,
    validation: Path | None = None,
    select: Criterion | None = None,
    resume: bool = False,
    device: str = "auto",
    command: str = "",
    engine: EngineFlags | None = None,
    track: Sequence[str] = (),
) -> TrainingResult:
    """Train one stage, as one of the processes that torchrun's variables speak of, if they are set.

    Args:
        config: The resolved configuration.
        stage: 1 or 2.
        data: Record files or data set folders; only their training rows are used.
        output: The run folder.
        reporter: Told about progress, in the first process.
        checkpoint: The model to start from; by default it is built from the configuration's parts.
        validation: Records on which the loss is measured every so often.
        select: What checkpoints are compared by, so that the best is exported; by default the last is.
        resume: Go on from the newest complete checkpoint of the run folder; start where it has none.
        device: ``auto``, ``cpu`` or ``cuda``.
        command: The command line, for ``run.json``.
        engine: How several processes share the work.
        track: ``tensorboard`` and ``wandb``, to log there too.

    Raises:
        InputError: The run folder is in use, what a resumed run was started with has changed, no
            training record has an answer, or ``select`` has nothing to compare.
        DivergenceError: The loss is not finite, or above ``max_loss``.
        CheckpointError: A checkpoint cannot be written: the disk is full.
        TerminatedError: SIGTERM came; what was done is saved.
        ConfigError: A switch needs a GPU, or the stage cannot train what it is asked to.
        MissingDependencyError: A switch needs a package that is not installed.
    """
    flags = engine or EngineFlags()
    check_trackers(track)
    processes = processes_of_run()
    on_gpu = resolve_device(device).type == "cuda"
    check_stage(stage, config.stage(stage))
    check_kernels(config.stage(stage), not on_gpu)
    settings = fit_precision(config.stage(stage), not on_gpu)
    chosen = choose_engine(processes, on_gpu, flags, preset=config.zero)
    check_choice(settings, select, validation, chosen)
    run = _Run(
        config=resolve_config(config, checkpoint),
        stage=stage,
        settings=settings,
        data=data,
        output=output,
        checkpoint=checkpoint,
        validation=validation,
        criterion=select,
        resume=resume,
        device=device,
        command=command,
        engine=chosen,
        processes=processes,
    )
    holding = locked(output) if is_first() else nullcontext()
    with Termination() as termination, holding:
        return _train(run, reporter if is_first() else SilentReporter(), termination, track)


def processes_of_run() -> int:
    """Processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _train(
    run: _Run, reporter: Reporter, termination: Termination, track: Sequence[str]
) -> TrainingResult:
    started = time.monotonic()
    if is_first():
        claim(
            *(run.output, run.resume, run.config, run.stage, reporter),
            *(run.engine, run.processes, run.select),
        )
    if run.settings.bf16 != run.config.stage(run.stage).bf16:
        reporter.note("no bfloat16 arithmetic here: training in float32")
    transformers_logging.disable_progress_bar()
    language_dtype = base_dtype(run.settings)
    model, processor = start_model(run.config, run.checkpoint, run.settings.seed, language_dtype)
    model.vision.accept_bytes(processor.image_mean, processor.image_std)
    prepare_stage(model, run.stage, run.settings, run.config.model.lora)
    sizes = count_parameters(model)  # four bits and engines that split a model hide them later
    hold_base_weights(model, run.settings)
    choose_kernels(model, run.settings, run.on_cpu)
    if not run.settings.cache_features:
        model.vision.fold()
    arguments = _arguments(run, model)  # joins the other processes
    with shared_samples(run.output, arguments) as samples:
        parts = (run, model, processor, sizes, arguments, samples, reporter, termination, track)
        trainer = _trainer(*parts)
        last = last_complete_checkpoint(run.output / "checkpoints") if run.resume else None
        loss = trainer.fit(last)
    unfinished = trainer.state.global_step < trainer.state.max_steps
    if unfinished and not trainer.lost_patience(trainer.state):
        raise TerminatedError(
            f"stopped by SIGTERM after step {trainer.state.global_step}, which is saved",
            "Go on with --resume.",
        )
    folder = run.output / "model"
    step = trainer.take_chosen()
    weights = trainer.whole_weights()
    if is_first():
        if run.settings.base_weights == "nf4":
            unpack_base_weights(model)
        note_chosen(run.output, step, trainer.state.global_step)
        _save(folder, model, processor, weights)
        if not draw_curves(run.output / "log.jsonl", run.output / "curves.png"):
            reporter.note("curves.png is left out: pip install 'biod2c[plots]' draws it")
    return TrainingResult(
        model_folder=folder,
        steps=trainer.state.global_step,
        chosen_step=step,
        seconds=round(time.monotonic() - started, 1),
        loss=loss,
        trainable=sizes[0],
        parameters=sizes[1],
    )


def _trainer(
    run: _Run,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    sizes: tuple[int, int],
    arguments: TrainingArguments,
    samples: Path,
    reporter: Reporter,
    termination: Termination,
    track: Sequence[str],
) -> BioD2CTrainer:
    settings = run.settings
    sources = {"train": run.data}
    if run.validation is not None:
        sources["validation"] = [run.validation]
    parts = (model, processor, settings, run.stage, reporter.note)
    with arguments.main_process_first(desc="reading the records"):
        first = arguments.local_process_index == 0
        datasets = load_or_open(sources, samples, first, *parts)
    if run.criterion is not None:
        run.criterion.check(datasets[1].records)
    workers = _workers(run)
    features = cached_features(model, processor, datasets, reporter, settings, workers)
    if is_first():
        write_run_files(
            run.output,
            run.config,
            run.stage,
            run.checkpoint,
            sizes,
            run.data,
            datasets,
            run.command,
            run.engine,
            run.processes,
            run.settings.bf16,
            run.select,
            reporter.note,
        )
    return BioD2CTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets[0],
        eval_dataset=datasets[1] if run.validation is not None else None,
        callbacks=start_trackers(track, run.output) if is_first() else None,
        data_collator=Collator(processor, features, keep_rows=True),
        seed=settings.seed,
        questions_per_image=settings.questions_per_image,
        keep=settings.keep,
        max_loss=settings.max_loss,
        workers=0 if features else workers,
        choice=_choice(run, processor),
        reporter=reporter,
        log_file=run.output / "log.jsonl",
        termination=termination,
        groups=partial(parameter_groups, settings=settings),
        scalars=fit_to_engine(model, run.engine),
    )


def _choice(run: _Run, processor: BioD2CProcessor) -> Choice:
    return Choice(
        processor=processor,
        criterion=run.criterion,
        every=run.settings.validate_every,
        patience=run.settings.select_patience,
        decay=run.settings.ema_decay,
        image_root=None if run.validation is None else image_root(run.validation),
        answers=run.output / "validation",
    )


def _arguments(run: _Run, model: BioD2CForConditionalGeneration) -> TrainingArguments:
    transformers_logging.set_verbosity_error()  # our own log and progress say what matters
    settings, on_cpu = run.settings, run.on_cpu
    return TrainingArguments(
        **engine_arguments(run.engine, on_cpu, settings.bf16, model.language_model),
        output_dir=str(run.output / "checkpoints"),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bf16,
        activation_checkpointing=settings.gradient_checkpointing,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_every else "epoch",
        save_steps=settings.save_every or 500,
        prediction_loss_only=True,
        seed=settings.seed,
        use_cpu=on_cpu,
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        # from pinned memory; else each batch waits until the GPU has done all that it was given before
        accelerator_config={"non_blocking": not on_cpu},
    )


def _workers(run: _Run) -> int:
    """Processes that read pictures for this one."""
    asked = run.settings.workers
    if asked != "auto":
        return asked
    if run.on_cpu:
        return 0  # its cores are the model's: nothing would wait for a picture
    return spare_cores(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _save(
    folder: Path,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    weights: dict[str, Any] | None,
) -> None:
    """Write the final checkpoint, in the place of an earlier one if there is one."""
    try:
        with atomic_folder(folder, replace=True) as partial:
            save_checkpoint(partial, model, processor, weights)
    except Exception as error:
        if not is_storage_failure(error):
            raise
        raise storage_error("the model", folder.parent / "checkpoints", error) from error
