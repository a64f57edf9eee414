"""Section 4.1: what each of the two stages trains and what it leaves bit for bit as it was."""

from __future__ import annotations

from torch import nn

from biod2c_core.config import LoraSettings
from biod2c_core.model.backbones.adapters import lora_targets
from biod2c_core.model.modeling import BioD2CForConditionalGeneration


def prepare_stage(
    model: BioD2CForConditionalGeneration,
    stage: int,
    semantic_weight: float,
    lora: LoraSettings,
    attention_weight: float = 0.0,
    answer_weight: float = 0.0,
) -> None:
    """Freeze and thaw the parts of the model for a stage, in place.

    Stage 1 trains the fusion module (resampler, decoder, text MLP, projections, gate). Stage 2
    trains LoRA adapters of the language model as well, which it adds where there are none. The
    vision tower and the language model's own weights are frozen in both.

    Args:
        model: The model.
        stage: 1 or 2.
        semantic_weight: lambda of Eq. (5).
        lora: The adapters of stage 2.
        attention_weight: Of L_att.
        answer_weight: Of L_ans.
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
    model.semantic_weight, model.attention_weight = semantic_weight, attention_weight
    model.answer_weight = answer_weight
    for name, parameter in model.named_parameters():
        trained = name.startswith("fusion.") or (stage == 2 and "lora_" in name)
        parameter.requires_grad_(trained)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
