"""Section 4.1: what each of the two stages trains and what it leaves bit for bit as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.model.backbones.adapters import lora_targets
from biod2c_core.model.losses import LOSSES
from biod2c_core.model.modeling import BioD2CForConditionalGeneration


def loss_weights(settings: StageSettings) -> dict[str, float]:
    """The weights of all losses but L_nll, by name; lambda of Eq. (5) is that of ``sem``.

    Raises:
        ConfigError: ``loss_weights`` names a loss that is not registered, or has a setting of its own.
    """
    own = {loss.name: getattr(settings, loss.setting) for loss in LOSSES.values() if loss.setting}
    free = [name for name in LOSSES if name not in own and name != "nll"]
    for name in settings.loss_weights:
        if name not in free:
            raise ConfigError(
                f"loss_weights names {name!r}",
                f"Registered by other packages: {', '.join(free) or 'none'}.",
            )
    return {**own, **dict.fromkeys(free, 0.0), **settings.loss_weights}


def check_stage(stage: int, settings: StageSettings) -> None:
    """Refuse what a stage cannot train, before anything is done.

    Raises:
        ConfigError: Stage 1 is asked to train the language model; or weights are to be trained that are
            held rounded, in which small updates are lost.
    """
    for name, default in (("train", "lora"), ("language_learning_rate", "auto")):
        value = getattr(settings, name)
        if stage == 1 and value != default:
            raise ConfigError(
                f"stage1.{name}={value}, but stage 1 leaves the language model as it is",
                f"Leave it out, or set stage2.{name}.",
            )
    if settings.train == "full" and settings.base_weights != "float32":
        raise ConfigError(
            f"train=full trains the language model's own weights, which base_weights="
            f"{settings.base_weights} would round",
            f"Add --set stage{stage}.base_weights=float32.",
        )


def prepare_stage(
    model: BioD2CForConditionalGeneration,
    stage: int,
    settings: StageSettings,
    lora: LoraSettings,
) -> None:
    """Freeze and thaw the parts of the model for a stage, in place.

    Stage 1 trains the fusion module (resampler, decoder, text MLP, projections, gate). Stage 2
    trains LoRA adapters of the language model as well, which it adds where there are none; or, if
    asked to, all weights of the language model, into which it folds adapters that are there. The
    vision tower is frozen in both, and so are otherwise the language model's own weights.

    Args:
        model: The model.
        stage: 1 or 2.
        settings: Of the stage: what it trains, and the weights of its losses, lambda of Eq. (5) among
            them.
        lora: The adapters of stage 2.
    """
    whole = stage == 2 and settings.train == "full"
    if whole:
        model.merge_lora()
    elif stage == 2 and not model.config.lora:
        model.add_lora(
            {
                "r": lora.r,
                "lora_alpha": lora.alpha,
                "lora_dropout": lora.dropout,
                "target_modules": lora_targets(model.language_model, lora.targets),
            }
        )
    model.loss_weights = loss_weights(settings)
    for name, parameter in model.named_parameters():
        adapts = stage == 2 and "lora_" in name
        part = ("fusion.", "language_model.") if whole else "fusion."
        parameter.requires_grad_(adapts or name.startswith(part))


def parameter_groups(
    model: BioD2CForConditionalGeneration, settings: StageSettings
) -> list[dict[str, Any]]:
    """What a stage trains as groups of AdamW: fusion, then language model; each what decays, then the rest.

    Matrices decay. Norms, biases, the gate beta and other scales do not, for which zero means nothing;
    nor do the learned queries, whose size is chosen beside that of what they see.

    Args:
        model: Prepared for its stage.
        settings: Of the stage: its learning rates and weight decay.

    Returns:
        ``params``, ``lr`` and ``weight_decay`` of each group that is not empty.
    """
    own = settings.language_learning_rate
    rates = {False: settings.learning_rate, True: settings.learning_rate if own == "auto" else own}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            language = name.startswith("language_model.")
            still = parameter.dim() < 2 or name == "fusion.queries"
            groups.setdefault((language, still), []).append(parameter)
    return [
        {
            "params": groups[language, still],
            "lr": rates[language],
            "weight_decay": 0.0 if still else settings.weight_decay,
        }
        for language, still in sorted(groups)
    ]


@contextmanager
def same_groups(checkpoint: object) -> Iterator[None]:
    """Name the checkpoint whose optimizer has other groups than :func:`parameter_groups` gives.

    Raises:
        CheckpointError: torch has refused its state.
    """
    try:
        yield
    except ValueError as error:
        raise CheckpointError(
            f"the optimizer of {checkpoint} had other groups of parameters ({error}): an earlier version "
            "has written it",
            "Go on with that version, or start anew in another folder.",
        ) from error


def set_rates(optimizer: Any, scheduler: Any, groups: Sequence[dict[str, Any]]) -> None:
    """Give a resumed optimizer the learning rates and decay of now, in place.

    Args:
        optimizer: As loaded from a checkpoint.
        scheduler: The same; torch's ``LambdaLR``.
        groups: Of :func:`parameter_groups`.
    """
    scheduler.base_lrs = [each["lr"] for each in groups]
    factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
    for group, own, factor in zip(optimizer.param_groups, groups, factors, strict=True):
        group["initial_lr"], group["lr"] = own["lr"], own["lr"] * factor
        group["weight_decay"] = own["weight_decay"]
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
