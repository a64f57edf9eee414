"""What each stage trains; that nothing else moves is proved bit by bit in ``test_train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import ConfigError
from biod2c_core.training.stages import (
    check_stage,
    count_parameters,
    parameter_groups,
    prepare_stage,
)
from biod2c_core.training.start import check_changes

FUSION = {"beta", "decoder", "project", "project_gated", "queries", "text_mlp"}


def test_stage_1_trains_the_fusion_alone(llama: Path) -> None:
    model, _ = tiny_models.build(llama)
    prepare_stage(model, 1, StageSettings(semantic_weight=0.0), LoraSettings())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split(".")[1] for name in trained if name.startswith("fusion.")} == FUSION
    assert all(name.startswith("fusion.") for name in trained)
    assert model.loss_weights == {"sem": 0.0, "att": 0.0, "ans": 0.0}
    assert model.config.lora is None


def test_stage_2_adds_lora(llama: Path) -> None:
    model, _ = tiny_models.build(llama)
    prepare_stage(
        model,
        2,
        StageSettings(semantic_weight=1.0),
        LoraSettings(r=3, alpha=6, targets=("q_proj",)),
    )
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in trained if "lora_" in name}
    assert len(adapters) == 4  # two layers, A and B
    assert all("q_proj" in name for name in adapters)
    assert {n.split(".")[1] for n in trained - adapters if n.startswith("fusion.")} == FUSION
    assert all(name.startswith("fusion.") for name in trained - adapters)
    assert model.config.lora == {
        "r": 3,
        "lora_alpha": 6,
        "lora_dropout": 0.1,
        "target_modules": ["q_proj"],
    }
    assert model.loss_weights["sem"] == 1.0


def test_stage_2_keeps_adapters_that_are_there(llama: Path) -> None:
    model, _ = tiny_models.build(llama)
    prepare_stage(model, 2, StageSettings(semantic_weight=1.0), LoraSettings(r=3))
    before = dict(model.named_parameters())
    prepare_stage(model, 2, StageSettings(semantic_weight=0.5), LoraSettings(r=8))
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_what_a_checkpoint_has_decided_cannot_be_set(llama: Path, tmp_path: Path) -> None:
    model, processor = tiny_models.build(llama)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "plain")
    prepare_stage(model, 2, StageSettings(semantic_weight=1.0), LoraSettings(r=3))
    model.extend("mix_neighbours")
    model.extend("attention_readout")
    for part in (model, processor):
        part.save_pretrained(tmp_path / "adapted")
    open_still = [
        "model.semantic_loss=off",
        "model.fusion_dropout=0",
        "model.answer_vote=1",
        "stage2.epochs=2",
    ]
    beginning = ["model.lora.r=4", "model.mix_neighbours=true", "model.attention_readout=true"]
    check_changes(str(tmp_path / "plain"), [*open_still, *beginning])
    check_changes(str(tmp_path / "adapted"), open_still)
    for folder, change in (
        ("plain", "model.fusion=off"),
        ("adapted", "model.lora.r=4"),
        ("adapted", "model.mix_neighbours=false"),
        ("adapted", "model.attention_readout=false"),
    ):
        key = change.partition("=")[0]
        with pytest.raises(ConfigError, match=rf"{key} cannot be changed, .*{folder} has decided"):
            check_changes(str(tmp_path / folder), [*open_still, change])


FULL = StageSettings(
    train="full", learning_rate=2e-3, language_learning_rate=3e-4, weight_decay=0.25
)


def test_full_fine_tuning_folds_adapters_in_and_trains_all_but_the_tower(llama: Path) -> None:
    model, processor = tiny_models.build(llama)
    prepare_stage(model, 2, StageSettings(), LoraSettings(r=3, dropout=0.0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ids = torch.tensor([processor.tokenizer("is there a lesion?")["input_ids"]])
    before = model(input_ids=ids).logits
    prepare_stage(model, 2, FULL, LoraSettings())
    torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)
    plain, _ = tiny_models.build(llama)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert model.config.lora is None
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("vision.")}


def groups_by_name(model: Any, settings: StageSettings) -> list[tuple[set[str], float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        ({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"])
        for group in parameter_groups(model, settings)
    ]


BLOCK = "language_model.model.layers.{}."
MATRICES = ("self_attn.{}_proj", "qkvo"), ("mlp.{}_proj", ("gate", "up", "down"))
DECODER = "fusion.decoder.layers.{}."
MLPS = ("fusion.project", "fusion.project_gated", "fusion.text_mlp")
FUSION_DECAYS = {
    *(f"{mlp}.{place}.weight" for mlp in MLPS for place in (0, 2)),
    *(
        DECODER.format(layer) + name
        for layer in (0, 1)
        for name in (
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "multihead_attn.in_proj_weight",
            "multihead_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        )
    ),
}
FUSION_DOES_NOT = {
    *("fusion.beta", "fusion.queries"),
    *("fusion.decoder.norm.weight", "fusion.decoder.norm.bias"),
    *(f"{mlp}.{place}.bias" for mlp in MLPS for place in (0, 2)),
    *(
        DECODER.format(layer) + name
        for layer in (0, 1)
        for name in (
            "self_attn.in_proj_bias",
            "self_attn.out_proj.bias",
            "multihead_attn.in_proj_bias",
            "multihead_attn.out_proj.bias",
            "linear1.bias",
            "linear2.bias",
            *(f"norm{number}.{part}" for number in (1, 2, 3) for part in ("weight", "bias")),
        )
    ),
}
LANGUAGE_DECAYS = {
    *("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
    *(
        BLOCK.format(layer) + module.format(letter) + ".weight"
        for layer in (0, 1)
        for module, letters in MATRICES
        for letter in letters
    ),
}
LANGUAGE_DOES_NOT = {
    "language_model.model.norm.weight",
    *(
        BLOCK.format(layer) + f"{norm}_layernorm.weight"
        for layer in (0, 1)
        for norm in ("input", "post_attention")
    ),
}


def test_which_parameters_decay_and_how_fast_each_group_learns(llama: Path) -> None:
    model, _ = tiny_models.build(llama)
    prepare_stage(model, 1, StageSettings(), LoraSettings())
    fusion = [(FUSION_DECAYS, 2e-5, 1e-3), (FUSION_DOES_NOT, 2e-5, 0.0)]
    assert groups_by_name(model, StageSettings()) == fusion
    prepare_stage(model, 2, FULL, LoraSettings())
    assert groups_by_name(model, FULL) == [
        (FUSION_DECAYS, 2e-3, 0.25),
        (FUSION_DOES_NOT, 2e-3, 0.0),
        (LANGUAGE_DECAYS, 3e-4, 0.25),
        (LANGUAGE_DOES_NOT, 3e-4, 0.0),
    ]
    prepare_stage(model, 2, StageSettings(), LoraSettings(targets=("q_proj",)))
    adapters = {
        BLOCK.format(layer) + f"self_attn.q_proj.lora_{letter}.default.weight"
        for layer in (0, 1)
        for letter in "AB"
    }
    assert groups_by_name(model, StageSettings()) == [*fusion, (adapters, 2e-5, 1e-3)]


def test_scales_of_qk_norm_and_biases_of_another_language_model_do_not_decay(
    tmp_path: Path,
) -> None:
    gpt2 = tiny_models.save_language_model(tmp_path, "gpt2")
    model, _ = tiny_models.build(gpt2, qk_norm=True, qk_norm_queries=True)
    prepare_stage(model, 2, FULL, LoraSettings())
    for names, _, decay in groups_by_name(model, FULL):
        scales = ("bias", "beta", "queries", "ln_", "norm", "sharpness")
        assert all(any(part in name for part in scales) == (decay == 0) for name in names)


def test_a_step_with_the_groups_is_adamw_of_each_parameter(llama: Path) -> None:
    """Against AdamW as its authors write it, in float64, parameter by parameter."""
    model, _ = tiny_models.build(llama)
    prepare_stage(model, 2, FULL, LoraSettings())
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameter_groups(model, FULL), fused=True)
    expected = {name: p.detach().double() for name, p in trained.items()}
    first = {name: torch.zeros_like(value) for name, value in expected.items()}
    second = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in (1, 2):
        for name, parameter in trained.items():
            parameter.grad = torch.randn_like(parameter)
            rate = 2e-3 if name.startswith("fusion.") else 3e-4
            decay = 0.25 if name in FUSION_DECAYS | LANGUAGE_DECAYS else 0.0
            gradient = parameter.grad.double()
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            root = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            moved = first[name] / (1 - 0.9**step) / root
            expected[name] -= rate * (moved + decay * expected[name])
        optimizer.step()
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter.double(), expected[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (
            1,
            {"train": "full"},
            r"stage1\.train=full, but stage 1 leaves the language model as it is",
        ),
        (1, {"language_learning_rate": 1e-5}, r"stage1\.language_learning_rate=1e-05, but stage 1"),
        (
            2,
            {"train": "full", "base_weights": "bfloat16"},
            r"Add --set stage2\.base_weights=float32",
        ),
        (2, {"train": "full", "base_weights": "nf4"}, "which base_weights=nf4 would round"),
    ],
)
def test_what_a_stage_cannot_train_is_refused(
    stage: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_stage(stage, StageSettings(**changes))
    check_stage(2, FULL)
    check_stage(stage, StageSettings(base_weights="nf4"))


@pytest.mark.parametrize("stage", [1, 2])
def test_parameters_are_counted(llama: Path, stage: int) -> None:
    model, _ = tiny_models.build(llama)
    plain = sum(p.numel() for p in model.parameters())
    prepare_stage(model, stage, StageSettings(semantic_weight=0.0), LoraSettings(r=2))
    trained, total = count_parameters(model)
    fusion = sum(p.numel() for p in model.fusion.parameters())
    adapters = 2 * 2 * (32 + 32 + 32 + 16) if stage == 2 else 0  # q: 32 -> 32, v: 32 -> 16
    assert (trained, total) == (fusion + adapters, plain + adapters)
