"""What a run will take, computed before it starts: parameters, steps, memory of each GPU.

The memory is an estimate from shapes and data types. It counts what stays during a step (weights,
their copies in another type, gradients, AdamW's two moments) and the largest activations of the
backward pass; it cannot know what the allocator wastes, for which ten per cent and one GiB are added.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from biod2c_core.config import StageSettings, TrainingConfig
from biod2c_core.data.formats import image_root
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.model.backbones.language_model import pretrained_arguments
from biod2c_core.model.checkpoints.folder import locate
from biod2c_core.model.checkpoints.pretrained import loading, pretrained_tokenizer
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.vision import grid_shape
from biod2c_core.training.hardware.base_weights import base_dtype
from biod2c_core.training.hardware.engines import Engine
from biod2c_core.training.inputs.datasets import meant_for
from biod2c_core.training.inputs.feature_cache import default_cache_folder, free_space, row_bytes
from biod2c_core.training.stages import check_stage, prepare_stage
from biod2c_core.training.start import describe_model, resolve_config

GIB = 2**30
_CONTEXT = 1.0 * GIB  # of CUDA and its libraries
_SLACK = 1.1
_PROCESS = 0.5 * GIB  # of Python with torch and transformers, before there is a model
_DEFAULT_TOKENS = 64  # of a question and its answer, where no tokenizer is at hand
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.56}  # nf4: 4 bits and its scales


@dataclass(frozen=True)
class Sizes:
    """What the estimate needs to know of a model.

    Attributes:
        language_model: Parameters of the language model without adapters.
        vision: Parameters of the frozen trunk.
        fusion: Parameters of the fusion module.
        adapters: Parameters of the LoRA adapters.
        trainable: Parameters that the stage trains.
        width: d.
        layers: Layers of the language model.
        inner: Width of its feed-forward layers.
        heads: Its attention heads.
        vocabulary: Its tokens.
        visual_tokens: V.
        cells: M, what the fusion decoder attends to.
        fusion_layers: Layers of the decoder.
        fusion_heads: Its heads.
        grid: Height, width and channels of X_v.
        pixels: Of an image.
    """

    language_model: int
    vision: int
    fusion: int
    adapters: int
    trainable: int
    width: int
    layers: int
    inner: int
    heads: int
    vocabulary: int
    visual_tokens: int
    cells: int
    fusion_layers: int
    fusion_heads: int
    grid: tuple[int, int, int]
    pixels: int


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        config: The configuration, with what a checkpoint has decided.
        engine: How the processes share the work; see :class:`~.hardware.engines.Engine`.
        zero_stage: What they split; see there.
        trainable: Parameters that are trained.
        parameters: All parameters.
        records: Training records.
        images: Files that they name.
        tokens: Of the longest record, with the visual tokens.
        steps: Optimiser steps.
        whole_batch: Samples of an optimizer step.
        processes: GPUs or CPU processes.
        memory: GiB of each, by part.
        total: Their sum with the slack.
        host_memory: GiB that each process takes of its machine's memory while it starts, before its
            weights move to the GPU. Processes share the pages of weight files that are stored in the
            type in which they are read.
        features: GiB of disk that the features of these images take, if they are kept.
        features_free: GiB that are free where they are kept; what an earlier run has left there need
            not be written again.
        available: GiB of a GPU, if known.
        fits: Whether the sum is available; None if unknown.
        help: Switches with which it would fit, cheapest first.
    """

    config: TrainingConfig
    engine: str
    zero_stage: int
    trainable: int
    parameters: int
    records: int
    images: int
    tokens: int
    steps: int
    whole_batch: int
    processes: int
    memory: dict[str, float]
    total: float
    host_memory: float
    features: float
    features_free: float
    available: float | None
    fits: bool | None
    help: list[str] = field(default_factory=list)


def make_plan(
    config: TrainingConfig,
    stage: int,
    data: Sequence[Path],
    checkpoint: str | None,
    processes: int,
    engine: Engine,
    available: float | None,
) -> Plan:
    """Compute what a run will take; no weights are read.

    Args:
        config: From preset and flags.
        stage: 1 or 2.
        data: Record files or data set folders.
        checkpoint: The model to start from; by default the configuration's parts.
        processes: Of the whole run.
        engine: How the processes share the work.
        available: GiB of a GPU; None if it is not known.

    Raises:
        InputError: The model's configuration or the data cannot be read.
        ConfigError: The stage cannot train what it is asked to.
    """
    config = resolve_config(config, checkpoint)
    settings, zero = config.stage(stage), engine.zero_stage
    check_stage(stage, settings)
    sizes = measure(describe_model(config, checkpoint), config, stage)
    source = config.model.language_model if checkpoint is None else str(locate(checkpoint))
    records, images, tokens = _count(data, source, config.model.prompt)
    tokens = min(tokens, 4096) + sizes.visual_tokens
    memory = estimate(sizes, settings, tokens, processes, zero)
    total = _total(memory)
    whole = settings.batch_size * settings.gradient_accumulation * processes
    steps = settings.max_steps or math.ceil(math.ceil(records / whole) * settings.epochs)
    fits = None if available is None else total <= available
    return Plan(
        config=config,
        engine=engine.name,
        zero_stage=zero,
        trainable=sizes.trainable,
        parameters=sizes.language_model + sizes.vision + sizes.fusion + sizes.adapters,
        records=records,
        images=images,
        tokens=tokens,
        steps=steps,
        whole_batch=whole,
        processes=processes,
        memory={name: round(size / GIB, 2) for name, size in memory.items()},
        total=round(total, 2),
        host_memory=round((host_weights(sizes, settings) + _PROCESS) / GIB, 2),
        features=round(images * row_bytes(sizes.grid, settings.feature_type) / GIB, 2)
        if settings.cache_features
        else 0.0,
        features_free=round(free_space(default_cache_folder()) / GIB, 2),
        available=available,
        fits=fits,
        help=[]
        if fits is not False or available is None
        else _switches(sizes, settings, tokens, processes, zero, available),
    )


def _total(memory: dict[str, float]) -> float:
    return (sum(memory.values()) * _SLACK + _CONTEXT) / GIB


def estimate(
    sizes: Sizes, settings: StageSettings, tokens: int, processes: int, zero: int
) -> dict[str, float]:
    """Bytes of one GPU by part, at the largest moment of a step.

    Args:
        sizes: Of the model.
        settings: Of the stage.
        tokens: Positions of the language model for the longest sample.
        processes: GPUs that share what ZeRO splits.
        zero: :attr:`~.hardware.engines.Engine.zero_stage`.
    """
    trainable, language = sizes.trainable, sizes.language_model
    whole = settings.train == "full"
    apart = zero in (1, 2)  # the optimizer has weights of its own, in float32 beside bf16
    each = 2 if apart and settings.bf16 else 4
    base = min(_BYTES[settings.base_weights], each)
    weights = language * base + sizes.vision * 4 + (trainable - language * whole) * each
    if settings.bf16 and zero == 0 and base == 4 and (whole or not settings.gradient_checkpointing):
        weights += language * 2  # mixed precision keeps rounded copies for the backward pass
    return {
        "weights": weights / processes if zero == 3 else weights,
        "gradients": trainable * 4 / (processes if zero >= 2 else 1),
        "optimiser": trainable * (12 if apart else 8) / (processes if zero >= 1 else 1),
        **({"average": trainable * 4.0} if settings.ema_decay else {}),
        "language model activations": _language_activations(sizes, settings, tokens),
        "fusion activations": _fusion_activations(sizes, settings),
        "logits": 3 * 4.0 * settings.batch_size * (tokens - sizes.visual_tokens) * sizes.vocabulary,
        "trunk": 0.0 if settings.cache_features else settings.batch_size * sizes.pixels * 64 * 4.0,
    }


def host_weights(sizes: Sizes, settings: StageSettings) -> float:
    """Bytes of the weights as they are read: four bits are made of bfloat16, on the GPU."""
    language = sizes.language_model * base_dtype(settings).itemsize
    return language + (sizes.vision + sizes.fusion + sizes.adapters) * 4.0


def _language_activations(sizes: Sizes, settings: StageSettings, tokens: int) -> float:
    each = 2 if settings.bf16 else 4
    positions = settings.batch_size * tokens
    # of one layer: two norms, q, k, v, attention's output, two residual sums; the feed-forward's
    # gate, up, their product; and the scores of attention, where they are kept
    layer = positions * (9 * sizes.width + 4 * sizes.inner) * each
    layer += 2 * positions * tokens * sizes.heads * each
    if settings.gradient_checkpointing:
        return sizes.layers * positions * sizes.width * each + layer
    return sizes.layers * layer


def _fusion_activations(sizes: Sizes, settings: StageSettings) -> float:
    each = 2 if settings.bf16 else 4
    queries = sizes.visual_tokens
    channels = sizes.grid[2]
    memory = sizes.cells * channels * 3  # the blocks, their keys and their values
    queries_only = queries * channels * 16 + queries * sizes.cells * sizes.fusion_heads * 2
    twice = 2  # once for the image's own tokens, once for the question
    return float(twice * settings.batch_size * sizes.fusion_layers * (memory + queries_only) * each)


def _switches(
    sizes: Sizes,
    settings: StageSettings,
    tokens: int,
    processes: int,
    zero: int,
    available: float,
) -> list[str]:
    """The switches that help, added one by one, the one that costs least time first."""
    taken: list[str] = []

    def enough() -> bool:
        return _total(estimate(sizes, settings, tokens, processes, zero)) <= available

    whole = settings.train == "full"
    changes: list[tuple[str, dict[str, Any]]] = [
        ("stageN.bf16=true", {"bf16": True}),
        ("stageN.base_weights=bfloat16", {} if whole else {"base_weights": "bfloat16"}),
        ("stageN.gradient_checkpointing=true", {"gradient_checkpointing": True}),
        ("--zero 3", {}),
        ("stageN.base_weights=nf4", {} if whole else {"base_weights": "nf4"}),
    ]
    for name, change in changes:
        stage = 3 if name == "--zero 3" and processes > 1 else zero
        before = _total(estimate(sizes, settings, tokens, processes, zero))
        changed = replace(settings, **change)
        if _total(estimate(sizes, changed, tokens, processes, stage)) < before:
            settings, zero = changed, stage
            taken.append(name)
        if enough():
            return taken
    while settings.batch_size > 1 and not enough():
        settings = replace(settings, batch_size=settings.batch_size // 2)
    if enough():
        return [*taken, f"--batch-size {settings.batch_size}"]
    if whole:
        return [*taken, "stageN.train=lora: nothing less is enough"]
    return [*taken, "more GPUs or a smaller language model: none of these is enough"]


def measure(described: BioD2CConfig, config: TrainingConfig, stage: int) -> Sizes:
    """Count the parts of the model that a stage trains, built without memory for its weights.

    Args:
        described: The model's configuration, from :func:`~.start.describe_model`.
        config: The resolved configuration.
        stage: 1 or 2.

    Raises:
        ConfigError: The adapters do not fit the language model.
    """
    settings, text, vision = config.stage(stage), described.text_config, described.vision
    if settings.train == "full":
        described.lora = None  # to fold adapters in needs their weights
    with torch.device("meta"):
        model = BioD2CForConditionalGeneration(described)
        prepare_stage(model, stage, settings, config.model.lora)
    counted: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        part = "adapters" if "lora_" in name else name.partition(".")[0]
        counted[part] += parameter.numel()
        counted["trainable"] += parameter.numel() * parameter.requires_grad
    width = cast("nn.Embedding", model.get_input_embeddings()).embedding_dim
    return Sizes(
        language_model=counted["language_model"],
        vision=counted["vision"],
        fusion=counted["fusion"],
        adapters=counted["adapters"],
        trainable=counted["trainable"],
        width=width,
        layers=text.num_hidden_layers,
        inner=getattr(text, "intermediate_size", None) or 4 * width,
        heads=text.num_attention_heads,
        vocabulary=text.vocab_size,
        visual_tokens=described.num_visual_tokens,
        cells=sum(4**scale for scale in range(model.fusion.scales)),
        fusion_layers=described.fusion_layers,
        fusion_heads=described.fusion_heads,
        grid=grid_shape(model.vision),
        pixels=vision["image_size"] ** 2,
    )


def _count(data: Sequence[Path], source: str, prompt: str) -> tuple[int, int, int]:
    """The rows that training takes, the images that they name, and the tokens of the longest."""
    records, images = 0, set[tuple[Path, str]]()
    texts: set[str] = set()
    for path in data:
        root = image_root(path)
        for each in meant_for(path, "train", lambda _: None):
            if each.answer:
                records += 1
                images.add((root, each.image))
                texts.add(prompt.replace("{question}", each.question) + " " + each.answer)
    if not records:
        raise InputError(
            f"{', '.join(map(str, data))}: no training records", "Training needs answers."
        )
    try:
        place, options = pretrained_arguments(source)
        with loading("", ""):
            tokenizer = pretrained_tokenizer(place, **options)
    except CheckpointError:
        return records, len(images), _DEFAULT_TOKENS
    longest = sorted(texts, key=len)[-100:]  # characters tell where the most tokens are
    tokens = max(len(tokenizer(text)["input_ids"]) for text in longest) + 1
    return records, len(images), tokens
