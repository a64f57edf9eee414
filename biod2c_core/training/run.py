"""One training run from records to a checkpoint folder.

The run folder holds ``config.yaml`` (resolved), ``run.json`` (command, data, versions), ``log.jsonl``
(a line every ``log_every`` steps), ``checkpoints/`` to resume from, and at the end ``model/``, which
``ask``, ``evaluate`` and the next stage load.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from biod2c_core import __version__
from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.config import StageSettings, TrainingConfig, dump_config, load_config
from biod2c_core.data.collate import Collator, VQADataset
from biod2c_core.data.formats import image_root, read_records
from biod2c_core.data.images import check_image_file
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError, TerminatedError
from biod2c_core.model.answering import resolve_device
from biod2c_core.model.build import build_model
from biod2c_core.model.checkpoints import load_model, load_processor, locate, save_checkpoint
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.checkpointing import (
    PARTIAL,
    Termination,
    is_storage_failure,
    last_complete_checkpoint,
    storage_error,
)
from biod2c_core.training.feature_cache import FeatureCache, default_cache_folder
from biod2c_core.training.logs import Reporter
from biod2c_core.training.stages import count_parameters, prepare_stage
from biod2c_core.training.trainer import BioD2CTrainer

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "timm", "open_clip_torch")

_ORDER_KEYS = ("batch_size", "questions_per_image", "gradient_accumulation", "queue_size", "seed")


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave.

    Attributes:
        model_folder: The checkpoint folder.
        steps: Optimiser steps done in all.
        seconds: Wall time of this call.
        loss: Mean training loss of this call; 0 if no step was left to do.
        trainable: Parameters that were trained.
        parameters: All parameters.
    """

    model_folder: Path
    steps: int
    seconds: float
    loss: float
    trainable: int
    parameters: int


def train(
    config: TrainingConfig,
    stage: int,
    data: Sequence[Path],
    output: Path,
    reporter: Reporter,
    *,
    checkpoint: str | None = None,
    validation: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    command: str = "",
) -> TrainingResult:
    """Train one stage.

    Args:
        config: The resolved configuration.
        stage: 1 or 2.
        data: Record files or data set folders; only their training rows are used.
        output: The run folder.
        reporter: Told about progress.
        checkpoint: The model to start from; by default it is built from the configuration's parts.
        validation: Records on which the loss is measured after each epoch.
        resume: Go on from the newest complete checkpoint of the run folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        command: The command line, for ``run.json``.

    Raises:
        InputError: The run folder is in use, or no training record has an answer.
        DivergenceError: The loss is not finite, or above ``max_loss``.
        CheckpointError: A checkpoint cannot be written: the disk is full.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    with Termination() as termination:
        return _train(
            config,
            stage,
            data,
            output,
            reporter,
            termination,
            checkpoint=checkpoint,
            validation=validation,
            resume=resume,
            device=device,
            command=command,
        )


def _train(
    config: TrainingConfig,
    stage: int,
    data: Sequence[Path],
    output: Path,
    reporter: Reporter,
    termination: Termination,
    *,
    checkpoint: str | None,
    validation: Path | None,
    resume: bool,
    device: str,
    command: str,
) -> TrainingResult:
    started = time.monotonic()
    settings = config.stage(stage)
    last = _claim(output, resume, config, stage, reporter)
    transformers_logging.disable_progress_bar()
    model, processor = _start_model(config, settings, checkpoint)
    prepare_stage(model, stage, settings.semantic_weight, config.model.lora)
    if resolve_device(device).type == "cpu":  # sequences are short: the plain attention is faster
        model.language_model.set_attn_implementation("eager")
    datasets = [_dataset(data, "train", model, processor, settings, stage)]
    if validation is not None:
        datasets.append(_dataset([validation], "", model, processor, settings, stage))
    features = _cached_features(model, processor, datasets, reporter, settings)
    _describe(output, config, stage, data, datasets[0], command)
    trainer = BioD2CTrainer(
        model=model,
        args=_arguments(settings, output, device, validation is not None),
        train_dataset=datasets[0],
        eval_dataset=datasets[1] if validation is not None else None,
        data_collator=Collator(processor, features, keep_rows=True),
        seed=settings.seed,
        questions_per_image=settings.questions_per_image,
        keep=settings.keep,
        max_loss=settings.max_loss,
        reporter=reporter,
        log_file=output / "log.jsonl",
        termination=termination,
    )
    loss = trainer.fit(last)
    if trainer.state.global_step < trainer.state.max_steps:
        raise TerminatedError(
            f"stopped by SIGTERM after step {trainer.state.global_step}, which is saved",
            "Go on with --resume.",
        )
    folder = output / "model"
    _save(folder, model, processor)
    trained, all_parameters = count_parameters(model)
    return TrainingResult(
        model_folder=folder,
        steps=trainer.state.global_step,
        seconds=round(time.monotonic() - started, 1),
        loss=loss,
        trainable=trained,
        parameters=all_parameters,
    )


def _claim(
    output: Path, resume: bool, config: TrainingConfig, stage: int, reporter: Reporter
) -> Path | None:
    """Refuse to mix two runs in one folder; find where to resume."""
    used = (output / "run.json").exists()
    if used and not resume:
        raise InputError(
            f"{output} holds a run already",
            "Add --resume to go on with it, or choose another folder.",
        )
    if used:
        _check_same_run(output, config, stage)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the run folder {output}: {error.strerror}", "Choose another --output."
        ) from error
    shutil.rmtree(output / "checkpoints" / PARTIAL, ignore_errors=True)
    return last_complete_checkpoint(output / "checkpoints", reporter.note) if resume else None


def _check_same_run(output: Path, config: TrainingConfig, stage: int) -> None:
    """Resume only with the model, the data order and the stage that the run was started with."""
    begun = json.loads((output / "run.json").read_text("utf-8"))["stage"]
    if begun != stage:
        raise InputError(
            f"{output} is a run of stage {begun}, not {stage}", f"Resume with --stage {begun}."
        )
    before = load_config(str(output / "config.yaml"))
    pairs = [("model", before.model, config.model, key) for key in vars(config.model)]
    order = (f"stage{stage}", before.stage(stage), config.stage(stage))
    for section, old, new, key in [*pairs, *((*order, key) for key in _ORDER_KEYS)]:
        was, now = getattr(old, key), getattr(new, key)
        if was != now:
            raise InputError(
                f"{output} was started with {section}.{key}={was!r}, not {now!r}",
                "Resume with the options in its run.json.",
            )


def _start_model(
    config: TrainingConfig, settings: StageSettings, checkpoint: str | None
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    if checkpoint is None:
        return build_model(config.model, settings.seed)
    folder = locate(checkpoint)
    model = load_model(folder)
    model.config.semantic_loss = config.model.semantic_loss
    return model, load_processor(folder)


def _dataset(
    sources: Sequence[Path],
    split: str,
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    settings: StageSettings,
    stage: int,
) -> VQADataset:
    records: list[Record] = []
    paths: list[Path] = []
    for source in sources:
        root = image_root(source)
        for record in read_records(source):
            if record.split in ("", split) or not split:
                records.append(record)
                paths.append(root)
    unanswered = [record.id for record in records if not record.answer]
    if unanswered or not records:
        reason = f"record {unanswered[0]!r} has no answer" if unanswered else "no training records"
        raise InputError(f"{', '.join(map(str, sources))}: {reason}", "Training needs answers.")
    wants_queue = stage == 2 and model.config.semantic_loss != "off" and settings.semantic_weight
    queue_size = settings.queue_size if wants_queue else 0
    dataset = VQADataset(records, paths, processor, queue_size)
    for path in dict.fromkeys(dataset.paths):
        check_image_file(path)  # a missing image stops the run now, not in the middle of an epoch
    _check_lengths(dataset, model)
    return dataset


def _check_lengths(dataset: VQADataset, model: BioD2CForConditionalGeneration) -> None:
    limit = getattr(model.config.text_config, "max_position_embeddings", None)
    for record, length in zip(dataset.records, dataset.lengths, strict=True):
        needed = model.config.num_visual_tokens + length
        if limit is not None and needed > limit:
            raise InputError(
                f"record {record.id!r} takes {needed} tokens with its image, and the language "
                f"model reads {limit}",
                "Shorten its question or answer, or leave it out.",
            )


def _cached_features(
    model: BioD2CForConditionalGeneration,
    processor: BioD2CProcessor,
    datasets: Sequence[VQADataset],
    reporter: Reporter,
    settings: StageSettings,
) -> FeatureCache | None:
    if not settings.cache_features:
        return None
    cache = FeatureCache(default_cache_folder(), model.vision, processor)
    paths = sorted({path for dataset in datasets for path in dataset.paths})
    reporter.encoding(len(paths))
    cache.fill(paths, reporter.encoded)
    return cache


def _arguments(
    settings: StageSettings, output: Path, device: str, validate: bool
) -> TrainingArguments:
    transformers_logging.set_verbosity_error()  # our own log and progress say what matters
    on_cpu = resolve_device(device).type == "cpu"
    return TrainingArguments(
        output_dir=str(output / "checkpoints"),
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
        eval_strategy="epoch" if validate else "no",
        prediction_loss_only=True,
        seed=settings.seed,
        use_cpu=on_cpu,
        optim="adamw_torch_fused",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
    )


def _describe(
    output: Path,
    config: TrainingConfig,
    stage: int,
    data: Sequence[Path],
    dataset: VQADataset,
    command: str,
) -> None:
    with atomic_open(output / "config.yaml") as file:
        file.write(dump_config(config))
    versions: dict[str, Any] = {"biod2c": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in _PACKAGES}
    write_json(
        output / "run.json",
        {
            "command": command,
            "stage": stage,
            "data": [str(path) for path in data],
            "records": len(dataset),
            "images": len(set(dataset.paths)),
            "versions": versions,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
    )


def _save(folder: Path, model: BioD2CForConditionalGeneration, processor: BioD2CProcessor) -> None:
    """Write the final checkpoint beside its place, then put it there in one step."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_checkpoint(partial, model, processor)
    except Exception as error:
        if not is_storage_failure(error):
            raise
        shutil.rmtree(partial, ignore_errors=True)
        raise storage_error("the model", folder.parent / "checkpoints", error) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
