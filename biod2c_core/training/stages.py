"""Section 4.1: what each of the two stages trains and what it leaves bit for bit as it was."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import ConfigError
from biod2c_core.model.backbones.adapters import lora_targets
from biod2c_core.model.checkpoints.folder import load_model_config, locate
from biod2c_core.model.losses import LOSSES
from biod2c_core.model.modeling import BioD2CForConditionalGeneration

_OPEN = ("model.semantic_loss", "model.fusion_dropout", "model.answer_vote")


def check_changes(checkpoint: str, assignments: Sequence[str]) -> None:
    """Refuse assignments to what the checkpoint that training starts from has decided.

    Still open are the form of L_sem, the dropout of the fusion module, the weight of the visual tokens
    in an answer, and LoRA, the mixing of neighbours and the reading of the map where the checkpoint has
    none.

    Args:
        checkpoint: Its folder or hub name.
        assignments: As given by hand, for example ``["model.scales=3"]``.

    Raises:
        ConfigError: One of them would have no effect.
        CheckpointError: There is no such checkpoint.
    """
    keys = [each.partition("=")[0].strip() for each in assignments]
    decided = [key for key in keys if key.startswith("model.") and key not in _OPEN]
    if decided:
        config = load_model_config(locate(checkpoint))
        parts = {
            "model.lora.": config.lora,
            "model.mix_neighbours": config.mix_neighbours,
            "model.read_map": config.read_map,
        }
        may_begin = tuple(key for key, there in parts.items() if not there)
        decided = [key for key in decided if not key.startswith(may_begin)]
    if decided:
        raise ConfigError(
            f"{decided[0]} cannot be changed, the checkpoint {checkpoint} has decided it",
            "Leave it out, or leave out --model.",
        )


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
    model.loss_weights = {
        loss.name: getattr(settings, loss.setting) for loss in LOSSES.values() if loss.setting
    }
    for name, parameter in model.named_parameters():
        trained = name.startswith("fusion.") or (stage == 2 and "lora_" in name)
        parameter.requires_grad_(trained)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
