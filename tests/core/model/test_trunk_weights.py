"""Where a trunk's weights come from: CLIP checkpoints, whole models, folders; and what does not fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from biod2c_core.errors import CheckpointError
from biod2c_core.model.backbones.open_clip_library import build_open_clip
from biod2c_core.model.backbones.trunk_weights import load_trunk
from biod2c_core.model.checkpoints.tensor_files import read_tensors
from biod2c_core.model.vision import VisionTower

DEFINITION = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}


def tower() -> VisionTower:
    return VisionTower("open_clip", "a small one", (3,), 64, definition=DEFINITION)


def clip_checkpoint(prefix: str = "") -> dict[str, Any]:
    """As PMC-CLIP's ``checkpoint.pt``: both halves, and what training leaves in it."""
    torch.manual_seed(1)
    visual = build_open_clip("a small one", 64, DEFINITION).state_dict()
    state = {f"{prefix}visual.{name}": value for name, value in visual.items()}
    state |= {
        f"{prefix}text_encoder.weight": torch.zeros(3),
        f"{prefix}logit_scale": torch.ones(()),
    }
    optimizer = {"state": {0: {"step": torch.ones(()), "lr": 0.1}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 7, "name": "pmc_clip", "state_dict": state, "optimizer": optimizer}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_pmc_clip_with_and_without_the_prefix_of_parallel_training(
    prefix: str, zipped: bool, tmp_path: Path
) -> None:
    checkpoint = clip_checkpoint(prefix)
    path = tmp_path / "checkpoint.pt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    model = tower()
    unused = load_trunk(model, path)
    for name, value in model.trunk.state_dict().items():
        stored = checkpoint["state_dict"][f"{prefix}visual.{name.removeprefix('model.')}"]
        assert torch.equal(value, stored)
    assert {name.split(".")[0] for name in unused} == {"visual", "text_encoder", "logit_scale"}
    cut = {name.split(".")[1] for name in unused if name.startswith("visual.")}
    assert cut == {"layer4", "attnpool"}


class Runs:
    """A pickle that would run a command when opened."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch it-ran",)


def test_a_pickle_with_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"visual.x": Runs()}}, tmp_path / "evil.pt")
    with pytest.raises(
        CheckpointError, match=r"a pickle with code in it \(\w+\.system\)"
    ) as caught:
        load_trunk(tower(), tmp_path / "evil.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"text"])
def test_files_that_hold_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "checkpoint.pt")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights. Expected one of: model.safeten"):
        read_tensors(tmp_path)
    with pytest.raises(CheckpointError, match="nothing at"):
        read_tensors(tmp_path / "none")


def test_shards_are_put_together(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "1.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    assert read_tensors(tmp_path).keys() == {"a", "b"}
    index.write_text('{"weight_map": {"a": "../1.safetensors"}}')
    with pytest.raises(CheckpointError, match="which is not a file of weights beside it"):
        read_tensors(tmp_path)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not an index of shards"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("name", "level"), [("test_efficientnet", 3), ("test_vit", 5), ("test_convnext", 2)]
)
def test_a_whole_timm_model_fills_its_trunk(name: str, level: int, tmp_path: Path) -> None:
    """Its own features equal the trunk's, whatever timm's wrappers do to the names."""
    torch.manual_seed(2)
    options = {"img_size": 64} if name == "test_vit" else {}
    whole = timm.create_model(name, pretrained=False, **options).eval()
    save_file(whole.state_dict(), tmp_path / "model.safetensors")
    model = VisionTower("timm", name, (level,), 64)
    unused = load_trunk(model, tmp_path)
    assert unused
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = whole.forward_intermediates(pixels, indices=[level], intermediates_only=True)[0]
    torch.testing.assert_close(model(pixels), wanted.permute(0, 2, 3, 1))


def test_weights_of_another_tower_list_what_differs(tmp_path: Path) -> None:
    other = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_trunk(tower(), tmp_path / "other.safetensors")
    message = str(caught.value)
    assert "missing [model.conv1.weight" in message
    assert "unexpected [blocks.0.0." in message
    assert "\n" not in message


def test_wrong_sizes_are_named(tmp_path: Path) -> None:
    state = clip_checkpoint()["state_dict"]
    state["visual.conv1.weight"] = torch.zeros(2, 3, 3, 3)
    del state["visual.bn1.weight"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError) as caught:
        load_trunk(tower(), tmp_path / "checkpoint.pt")
    assert "missing [model.bn1.weight] (1)" in str(caught.value)
    assert "model.conv1.weight (2, 3, 3, 3) instead of (4, 3, 3, 3)" in str(caught.value)
