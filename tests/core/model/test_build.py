"""A new model from its parts: whose weights stand where, and what does not fit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from biod2c_core.config import load_config
from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.model.backbones.language_kinds import check_language_model
from biod2c_core.model.build import build_model, load_trunk
from biod2c_core.model.checkpoints.folder import load_model, load_model_to_train


def test_the_language_model_keeps_its_weights_and_the_fusion_follows_the_seed(llama: Path) -> None:
    model, processor = build_model(tiny_models.model_settings(llama), seed=3)
    again, _ = build_model(tiny_models.model_settings(llama), seed=3)
    other, _ = build_model(tiny_models.model_settings(llama), seed=4)
    stored = AutoModelForCausalLM.from_pretrained(llama).state_dict()
    for name, value in model.language_model.state_dict().items():
        assert torch.equal(value, stored[name])
    for name, value in model.fusion.state_dict().items():
        assert torch.equal(value, again.fusion.state_dict()[name])
    assert not torch.equal(model.fusion.queries, other.fusion.queries)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert processor.image_size == tiny_models.IMAGE_SIZE
    assert processor.max_question_tokens == tiny_models.VISUAL_TOKENS


def test_the_language_model_is_built_once_and_read_in_its_type(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built_again(*_: object, **__: object) -> None:
        raise AssertionError("a second language model takes its memory once more")

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", built_again)
    model, _ = build_model(tiny_models.model_settings(llama), 3, torch.bfloat16)
    stored = load_file(llama / "model.safetensors")
    for name, value in model.language_model.named_parameters():
        assert value.dtype == torch.bfloat16
        if name in stored:
            assert torch.equal(value, stored[name].to(torch.bfloat16))
    for part in (model.fusion, model.vision):
        assert {value.dtype for value in part.parameters()} == {torch.float32}


def test_a_checkpoint_is_read_in_two_types(checkpoint: Path) -> None:
    whole = load_model(checkpoint)
    model = load_model_to_train(checkpoint, torch.bfloat16)
    assert type(model) is type(whole)
    for name, value in model.named_parameters():
        expected = torch.bfloat16 if name.startswith("language_model.") else torch.float32
        assert value.dtype == expected, name
        assert torch.equal(value, whole.get_parameter(name).to(expected))


def test_settings_reach_the_configuration(llama: Path) -> None:
    settings = tiny_models.model_settings(
        llama,
        fusion="off",
        semantic_loss="off",
        scales=2,
        beta_init=0.1,
        semantic_temperature=0.5,
        encode_positions=True,
        qk_norm=True,
        qk_norm_queries=True,
        mix_neighbours=True,
        attention_readout=True,
        prompt="Q {question}",
    )
    model, processor = build_model(settings, seed=0)
    config = model.config
    assert (config.fusion, config.semantic_loss, config.scales) == ("off", "off", 2)
    assert (config.beta_init, config.semantic_temperature) == (0.1, 0.5)
    assert config.encode_positions
    assert config.qk_norm
    assert config.qk_norm_queries
    assert config.mix_neighbours
    assert config.attention_readout
    assert model.fusion.decoder.cross
    assert model.fusion.decoder.among
    kinds = [type(each).__name__ for each in model.fusion.extensions]
    assert kinds == ["NeighbourMixing", "PositionCodes", "AttentionReadout"]
    assert not model.fusion.enabled
    assert model.fusion.scales == 2
    assert processor.prompt == "Q {question}"


def test_trunk_weights_come_from_a_file(llama: Path, tmp_path: Path) -> None:
    donor, _ = tiny_models.build(llama, seed=9)
    save_file(donor.vision.trunk.state_dict(), tmp_path / "trunk.safetensors")
    settings = tiny_models.model_settings(llama)
    vision = replace(settings.vision, weights=str(tmp_path / "trunk.safetensors"))
    model, _ = build_model(replace(settings, vision=vision), seed=0)
    for name, value in model.vision.state_dict().items():
        assert torch.equal(value, donor.vision.state_dict()[name])


def test_trunk_weights_that_do_not_fit_are_named(llama: Path, tmp_path: Path) -> None:
    tower = tiny_models.build(llama)[0].vision
    with pytest.raises(CheckpointError, match="no vision weights at"):
        load_trunk(tower, tmp_path / "nothing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(CheckpointError, match="not a weight file that can be read safely"):
        load_trunk(tower, tmp_path / "text")
    state = tower.trunk.state_dict()
    first = next(name for name, value in state.items() if value.ndim == 4)
    save_file({k: v for k, v in state.items() if k != first}, tmp_path / "short")
    with pytest.raises(CheckpointError, match=rf"missing \[{first}\] \(1\)"):
        load_trunk(tower, tmp_path / "short")
    save_file({**state, "head.weight": torch.zeros(2)}, tmp_path / "long")
    with pytest.raises(CheckpointError, match=r"unexpected \[head.weight\] \(1\)"):
        load_trunk(tower, tmp_path / "long")
    save_file({**state, first: torch.zeros(1, 2)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="size mismatch"):
        load_trunk(tower, tmp_path / "other")
    assert load_file(tmp_path / "other").keys() == state.keys()


def test_a_language_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match="no language model is named"):
        build_model(load_config("paper").model, seed=0)


def test_a_folder_that_is_no_language_model_is_one_error(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load the language model") as caught:
        build_model(tiny_models.model_settings(tmp_path), seed=0)
    assert "\n" not in str(caught.value)
    pickled = shutil.copytree(llama, tmp_path / "pickled")
    state = load_file(pickled / "model.safetensors")
    (pickled / "model.safetensors").unlink()
    torch.save(state, pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        build_model(tiny_models.model_settings(pickled), seed=0)


def test_an_encoder_decoder_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    config = {"model_type": "t5", "is_encoder_decoder": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="is an encoder-decoder model"):
        build_model(tiny_models.model_settings(tmp_path), seed=0)


@pytest.mark.parametrize(
    "kind", ["mamba", "mamba2", "rwkv", "xlstm", "recurrent_gemma", "minimax", "openai-gpt"]
)
def test_a_model_without_a_key_value_cache_is_refused_before_its_weights_are_read(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    refused = rf"is a state-space model or keeps no key-value cache \({kind}\)"
    with pytest.raises(ConfigError, match=refused) as caught:
        build_model(tiny_models.model_settings(tmp_path), seed=0)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["llama", "qwen3_5_text", "jamba", "falcon_h1", "bloom"])
def test_attention_beside_a_state_is_accepted(kind: str) -> None:
    check_language_model(AutoConfig.for_model(kind), kind)


def test_generation_also_stops_where_training_ends_an_answer(tmp_path: Path) -> None:
    """PMC-LLaMA's configuration names another end token than its tokenizer."""
    model, processor = build_model(
        tiny_models.model_settings(tiny_models.save_language_model(tmp_path, eos_token_id=5)), 0
    )
    assert model.generation_config.eos_token_id == [5, processor.tokenizer.eos_token_id]
    assert model.generation_config.pad_token_id == 0


def test_end_tokens_that_agree_are_left_alone(llama: Path) -> None:
    model, _ = build_model(tiny_models.model_settings(llama), 0)
    assert model.generation_config.eos_token_id == 2
