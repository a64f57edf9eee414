"""A vision library from outside the package: the worked example of ``docs/extending.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import save_file
from worked_examples import new_module

from biod2c_core.config import VisionConfig, load_config, override
from biod2c_core.errors import ConfigError
from biod2c_core.model import backbones
from biod2c_core.model.backbones import get_vision_library, register_vision_library
from biod2c_core.model.backbones.defaults import resolve_tower
from biod2c_core.model.backbones.trunk_weights import load_trunk
from biod2c_core.model.build import build_model
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint
from biod2c_core.model.vision import VisionTower, grid_shape

AUTO: dict[str, Any] = dict.fromkeys(("levels", "image_size", "mean", "std"), "auto")
NAME = "8-16-32-48-64"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's class, registered for one test."""
    monkeypatch.setattr(backbones, "_VISION_LIBRARIES", dict(backbones._VISION_LIBRARIES))
    module = new_module("A vision library")
    register_vision_library(module.ConvolutionsLibrary())
    return module.ConvolutionsLibrary


def test_it_builds_saves_loads_and_answers(library: Any, llama: Path, tmp_path: Path) -> None:
    assignments = [f"model.vision.{key}={value}" for key, value in AUTO.items()]
    assignments += ["model.vision.library=convolutions", f"model.vision.name={NAME}"]
    vision = override(load_config("paper"), assignments).model.vision
    model, processor = build_model(tiny_models.model_settings(llama, vision=vision), seed=0)
    assert model.config.vision["levels"] == [3]  # stride 16, as the paper's
    assert grid_shape(model.vision) == (4, 4, 48)
    assert processor.image_mean == [0.5, 0.5, 0.5]
    save_checkpoint(tmp_path, model.eval(), processor)
    inputs = processor([tiny_models.make_image(0)], [tiny_models.QUESTIONS[0]])
    loaded = load_model(tmp_path)
    again = load_processor(tmp_path)([tiny_models.make_image(0)], [tiny_models.QUESTIONS[0]])
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**again).logits, model(**inputs).logits)


def test_pretrained_weights_of_the_uncut_model_fill_its_trunk(library: Any, tmp_path: Path) -> None:
    uncut = VisionTower("convolutions", NAME, (4,), 64).trunk.state_dict()
    save_file(uncut, tmp_path / "model.safetensors")
    tower = VisionTower("convolutions", NAME, (1, 2), 64)
    for tensor in tower.trunk.state_dict().values():
        tensor.zero_()
    unused = load_trunk(tower, tmp_path)
    assert {name[:9] for name in unused} == {"stages.3.", "stages.4."}
    assert all(torch.equal(uncut[name], t) for name, t in tower.trunk.state_dict().items())
    assert grid_shape(tower) == (16, 16, 16 + 32)
    pixels = torch.rand(2, 3, 64, 64)
    unfolded = tower(pixels)
    tower.fold()
    torch.testing.assert_close(tower(pixels), unfolded)


def test_what_it_does_not_have_is_named(library: Any) -> None:
    with pytest.raises(ConfigError, match=r"no network 'resnet'\. Give widths such as 8-16-32"):
        resolve_tower(VisionConfig("convolutions", "resnet", **AUTO))
    with pytest.raises(ConfigError, match=r"'8-16' has no level 2\. Its last is 1"):
        VisionTower("convolutions", "8-16", (2,), 64)


def test_without_it_a_checkpoint_of_it_is_refused(
    library: Any, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = VisionConfig("convolutions", NAME, **AUTO)
    save_checkpoint(
        tmp_path, *build_model(tiny_models.model_settings(llama, vision=vision), seed=0)
    )
    monkeypatch.delitem(backbones._VISION_LIBRARIES, "convolutions")
    with pytest.raises(ConfigError, match="unknown vision library 'convolutions'"):
        load_model(tmp_path)


def test_names_are_unique_and_near_ones_suggested(library: Any) -> None:
    register_vision_library(library())  # a module that is imported twice
    assert isinstance(get_vision_library("convolutions"), library)
    stranger = type("Stranger", (library,), {"name": "timm"})
    with pytest.raises(ConfigError, match="Stranger calls itself 'timm', which is TimmLibrary's"):
        register_vision_library(stranger())
    assert get_vision_library("timm").name == "timm"
    with pytest.raises(ConfigError, match=r"'open-clip'\. Did you mean 'open_clip'\? Use one of:"):
        get_vision_library("open-clip")
