"""Section 4.1: what each of the two stages trains and what it leaves bit for bit as it was."""

from __future__ import annotations

from torch import nn

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import ConfigError
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


def prepare_stage(
    model: BioD2CForConditionalGeneration,
    stage: int,
    settings: StageSettings,
    lora: LoraSettings,
) -> None:
    """Freeze and thaw the parts of the model for a stage, in place.

    Stage 1 trains the fusion module (resampler, decoder, text MLP, projections, gate). Stage 2
    trains LoRA adapters of the language model as well, which it adds where there are none. The
    vision tower and the language model's own weights are frozen in both.

    Args:
        model: The model.
        stage: 1 or 2.
        settings: Of the stage: the weights of its losses, lambda of Eq. (5) among them.
        lora: The adapters of stage 2.
    """
    if stage == 2 and not model.config.lora:
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
        trained = name.startswith("fusion.") or (stage == 2 and "lora_" in name)
        parameter.requires_grad_(trained)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
