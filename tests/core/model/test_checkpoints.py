"""Checkpoint folders: what is written is read again, from safetensors alone, adapters included."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from timm.models import register_model
from timm.models.swin_transformer import _create_swin_transformer
from torch import Tensor, nn

from biod2c_core.config import VisionConfig
from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.model.checkpoints.folder import (
    fingerprint,
    load_model,
    load_processor,
    locate,
    save_checkpoint,
)
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor

LORA = {"r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
IMAGES = [tiny_models.make_image(index) for index in range(2)]
QUESTIONS = list(tiny_models.QUESTIONS[:2])


def logits(model: BioD2CForConditionalGeneration, processor: BioD2CProcessor) -> Tensor:
    with torch.no_grad():
        return model(**processor(IMAGES, QUESTIONS)).logits


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(checkpoint, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
def test_what_is_saved_is_loaded(kind: str, tmp_path: Path) -> None:
    """GPT-2 and OPT tie their head to the embedding; both must stay one tensor."""
    parts = tiny_models.save_language_model(tmp_path / "parts", kind)
    model, processor = tiny_models.build(parts, fusion_layers=1, prompt="Q: {question} A:")
    save_checkpoint(tmp_path / "model", model, processor)
    assert {path.suffix for path in (tmp_path / "model").iterdir()} <= {".json", ".safetensors"}
    loaded, again = load_model(tmp_path / "model"), load_processor(tmp_path / "model")
    assert same_weights(model, loaded)
    assert not loaded.training
    assert {**loaded.config.to_dict(), "_name_or_path": ""} == model.config.to_dict()
    assert again.prompt == "Q: {question} A:"
    assert torch.equal(logits(model, processor), logits(loaded, again))
    tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    assert tied == (kind != "llama")


def test_a_checkpoint_does_not_say_where_it_was_made(tmp_path: Path, llama: Path) -> None:
    model, processor = tiny_models.build(llama, fusion_layers=1)
    save_checkpoint(tmp_path / "made", model, processor)
    for file in (tmp_path / "made").glob("*.json"):
        assert str(llama) not in file.read_text("utf-8")


def test_bfloat16_on_request(checkpoint: Path) -> None:
    model = load_model(checkpoint, torch.bfloat16)
    floating = {p.dtype for p in model.parameters()}
    assert floating == {torch.bfloat16}
    answer = model.generate(
        **load_processor(checkpoint)(None, QUESTIONS),
        pixel_values=torch.zeros(2, 3, 64, 64),
        max_new_tokens=2,
    )
    assert answer.shape[0] == 2


def test_auto_classes_know_the_model(checkpoint: Path) -> None:
    assert type(transformers.AutoConfig.from_pretrained(checkpoint)) is BioD2CConfig
    assert type(transformers.AutoProcessor.from_pretrained(checkpoint)) is BioD2CProcessor
    for auto in (transformers.AutoModel, transformers.AutoModelForImageTextToText):
        model = auto.from_pretrained(checkpoint)
        assert type(model) is BioD2CForConditionalGeneration
        assert same_weights(model, load_model(checkpoint))


class Bomb:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.place,))


@pytest.mark.parametrize(
    "load", [load_model, BioD2CForConditionalGeneration.from_pretrained], ids=["ours", "theirs"]
)
def test_pickled_weights_are_never_opened(
    copy: Path, tmp_path: Path, load: Callable[[Path], Any]
) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"weight": Bomb(tmp_path / "exploded")}, copy / "pytorch_model.bin")
    with pytest.raises((CheckpointError, OSError), match=r"model\.safetensors"):
        load(copy)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(CheckpointError, match=r"has no weights \(\*\.safetensors\)"):
        locate(copy)


def test_use_safetensors_cannot_be_switched_off(copy: Path) -> None:
    state = load_model(copy).state_dict()
    (copy / "model.safetensors").unlink()
    torch.save(state, copy / "pytorch_model.bin")  # harmless, and refused all the same
    with pytest.raises(OSError, match=r"model\.safetensors"):
        BioD2CForConditionalGeneration.from_pretrained(copy, use_safetensors=False)


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        locate(copy)


@pytest.mark.parametrize("name", ["no-such-folder", "./a/b", "/a/b"])
def test_missing_folder_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint folder at"):
        locate(name)


def test_hub_name_offline_is_one_clear_error() -> None:
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(CheckpointError, match="no folder 'nobody/nothing' here") as caught:
        locate("nobody/nothing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"PK\x03\x04 not safetensors"),
        ("model.safetensors", b""),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "llama"}'),
        ("config.json", b'{"model_type": "biod2c"}'),
        ("config.json", b"[]"),
    ],
)
def test_damaged_file_is_a_checkpoint_error(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        load_model(copy)


def test_truncated_weights_are_a_checkpoint_error(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(copy)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_damaged_processor_is_a_checkpoint_error(copy: Path, name: str) -> None:
    (copy / name).write_text("[")
    with pytest.raises(CheckpointError, match="processor"):
        load_processor(copy)


@pytest.mark.parametrize(
    ("key", "value"), [("fusion_layers", 3), ("fusion_layers", 1), ("fusion_feed_forward", 16)]
)
def test_weights_of_another_configuration_are_refused(copy: Path, key: str, value: int) -> None:
    """Missing, left over, of another shape."""
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(CheckpointError):
        load_model(copy)


def test_fingerprint_tells_checkpoints_apart(copy: Path, checkpoint: Path) -> None:
    assert fingerprint(copy) == fingerprint(checkpoint)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "beta_init": 0.3}))
    changed = fingerprint(copy)
    assert changed != fingerprint(checkpoint)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert fingerprint(copy) not in (changed, fingerprint(checkpoint))


def test_fingerprint_knows_every_byte_of_the_weights(tmp_path: Path) -> None:
    """Also those in the middle of a large file, and those changed without a new size or time."""
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(5 * 2**20))
    os.utime(weights, (1_000_000_000, 1_000_000_000))
    before = fingerprint(tmp_path)
    with weights.open("r+b") as file:
        file.seek(5 * 2**19)
        file.write(b"1")
    os.utime(weights, (1_000_000_000, 1_000_000_000))
    assert fingerprint(tmp_path) != before


def adapted(llama: Path) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """A model whose adapters do something."""
    model, processor = tiny_models.build(llama)
    model.add_lora(LORA)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model.eval(), processor


def test_lora_is_saved_loaded_and_merged_to_the_same_outputs(llama: Path, tmp_path: Path) -> None:
    plain, processor = tiny_models.build(llama)
    model, _ = adapted(llama)
    wanted = logits(model, processor)
    assert not torch.allclose(wanted, logits(plain, processor), atol=1e-2)

    save_checkpoint(tmp_path / "adapted", model, processor)
    loaded = load_model(tmp_path / "adapted")
    assert same_weights(model, loaded)
    assert torch.equal(logits(loaded, processor), wanted)

    loaded.merge_lora()
    assert loaded.config.lora is None
    assert not [name for name in loaded.state_dict() if "lora_" in name or "base_layer" in name]
    torch.testing.assert_close(logits(loaded, processor), wanted, atol=1e-4, rtol=1e-4)

    save_checkpoint(tmp_path / "merged", loaded, processor)
    merged = load_model(tmp_path / "merged")
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits(merged, processor), wanted, atol=1e-4, rtol=1e-4)


def test_new_lora_changes_nothing_at_first(llama: Path) -> None:
    model, processor = tiny_models.build(llama)
    before = logits(model, processor)
    model.add_lora(LORA)
    assert torch.equal(logits(model.eval(), processor), before)
    assert sum("lora_" in name for name, _ in model.named_parameters()) == 8  # 2 x 2 x 2


@pytest.mark.parametrize("change", [{"target_modules": ["nope"]}, {"rank": 3}, {"r": 0}])
def test_lora_that_does_not_fit_is_a_config_error(llama: Path, change: dict[str, Any]) -> None:
    model, _ = tiny_models.build(llama)
    with pytest.raises(ConfigError, match="does not fit"):
        model.add_lora({**LORA, **change})


@register_model
def one_stage_swin(pretrained: bool = False, **options: Any) -> nn.Module:
    """A Swin transformer with windows of 7 x 7 cells."""
    sizes = {"patch_size": 4, "window_size": 7, "embed_dim": 12, "depths": (2,), "num_heads": (2,)}
    return _create_swin_transformer("one_stage_swin", pretrained=pretrained, **sizes, **options)


def test_tables_that_no_checkpoint_stores_are_computed_again(llama: Path, tmp_path: Path) -> None:
    """Swin derives the index of its relative positions from its shape alone."""
    vision = VisionConfig("timm", "one_stage_swin", levels=(0,), image_size=56)
    model, processor = tiny_models.build(llama, vision=vision)
    stored = model.state_dict().keys()
    derived = {n: b for n, b in model.vision.named_buffers() if f"vision.{n}" not in stored}
    assert derived
    save_checkpoint(tmp_path / "model", model, processor)
    loaded = load_model(tmp_path / "model")
    again = dict(loaded.vision.named_buffers())
    assert all(torch.equal(buffer, again[name]) for name, buffer in derived.items())
    assert torch.equal(logits(model, processor), logits(loaded, processor))
