"""What each stage trains; that nothing else moves is proved bit by bit in ``test_train``."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import ConfigError
from biod2c_core.training.stages import count_parameters, prepare_stage
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


@pytest.mark.parametrize("stage", [1, 2])
def test_parameters_are_counted(llama: Path, stage: int) -> None:
    model, _ = tiny_models.build(llama)
    plain = sum(p.numel() for p in model.parameters())
    prepare_stage(model, stage, StageSettings(semantic_weight=0.0), LoraSettings(r=2))
    trained, total = count_parameters(model)
    fusion = sum(p.numel() for p in model.fusion.parameters())
    adapters = 2 * 2 * (32 + 32 + 32 + 16) if stage == 2 else 0  # q: 32 -> 32, v: 32 -> 16
    assert (trained, total) == (fusion + adapters, plain + adapters)
