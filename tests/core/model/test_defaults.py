"""What is left to the vision tower follows from it: levels, image size, normalization, weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import timm
import torch

from biod2c_core.config import VisionConfig
from biod2c_core.errors import CheckpointError, ConfigError, EndpointError
from biod2c_core.model.backbones.defaults import resolve_tower
from biod2c_core.model.vision import VisionTower

AUTO: dict[str, Any] = dict.fromkeys(("levels", "image_size", "mean", "std"), "auto")
CLIP = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("library", "name", "levels", "size", "normalization"),
    [
        ("open_clip", "RN50", [3], 224, CLIP),
        ("open_clip", "ViT-B-16", [11], 224, CLIP),
        ("open_clip", "ViT-B-32", [11], 224, CLIP),  # stride 32: no level is finer
        ("open_clip", "ViT-B-16-SigLIP", [11], 224, HALF),
        ("timm", "resnet18", [3], 224, IMAGENET),
        ("timm", "convnext_tiny", [2], 224, IMAGENET),
        ("timm", "vit_base_patch16_384", [11], 384, HALF),
    ],
)
def test_the_towers_own_settings(
    library: Any, name: str, levels: list[int], size: int, normalization: Any
) -> None:
    tower = resolve_tower(VisionConfig(library, name, **AUTO))
    assert tower.arguments["levels"] == levels
    assert tower.arguments["image_size"] == size
    assert (tower.mean, tower.std) == normalization
    assert "definition" not in tower.arguments


def test_what_is_set_stays(tmp_path: Path) -> None:
    settings = VisionConfig("open_clip", "RN50", weights="file")
    tower = resolve_tower(settings)
    assert tower.arguments["levels"] == [3]
    assert tower.arguments["image_size"] == 512
    assert (tower.mean, tower.std, tower.weights) == (settings.mean, settings.std, "file")


def write_folder(folder: Path) -> Path:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {}, "quick_gelu": True}
    preprocessing = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    content = {"model_cfg": model, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def test_a_folder_brings_its_definition_preprocessing_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    wanted = []

    def download(name: str, **_: Any) -> str:
        wanted.append(name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for name in (f"local-dir:{tmp_path}", "hf-hub:owner/model"):
        tower = resolve_tower(VisionConfig("open_clip", name, **AUTO))
        assert tower.arguments["definition"]["quick_gelu"] is True
        assert tower.arguments["image_size"] == 64
        assert (tower.mean, tower.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        assert tower.weights == f"local-dir:{tmp_path}"
    assert wanted == ["owner/model"]


def test_what_cannot_be_resolved_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(library: Any, name: str) -> str:
        with pytest.raises((ConfigError, CheckpointError)) as caught:
            resolve_tower(VisionConfig(library, name, **AUTO))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "timm has no model 'RN-50'" in fail("timm", "RN-50")
    assert "open_clip has no model 'RN-50'" in fail("open_clip", "RN-50")
    assert "no folder at nowhere" in fail("open_clip", "local-dir:nowhere")
    assert "has no open_clip_config.json" in fail("open_clip", f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("[]")
    assert "defines no vision tower" in fail("open_clip", f"local-dir:{tmp_path}")
    write_folder(tmp_path)
    assert "Hub names and folders are open_clip's" in fail("timm", f"local-dir:{tmp_path}")
    monkeypatch.setattr(timm, "create_model", lambda name, **_: torch.nn.Linear(1, 1))
    assert "gives no feature map" in fail("timm", "resnet18")
    with pytest.raises(ConfigError, match="'resnet18' gives no feature map at levels"):
        VisionTower("timm", "resnet18", (3,), 64)

    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("first line\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(EndpointError, match="the hub could not be used for 'a/b'") as caught:
        resolve_tower(VisionConfig("open_clip", "hf-hub:a/b", **AUTO))
    assert "(first line)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_building_a_tower_never_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments may come from the ``config.json`` of a stranger."""
    fetched: list[Any] = []
    monkeypatch.setattr(open_clip.factory, "_get_hf_config", fetched.append)
    monkeypatch.setattr(timm.models._factory, "load_model_config_from_hf", fetched.append)
    inner = {"vision_cfg": {"timm_model_name": "hf-hub:a/b"}, "embed_dim": 16}
    for library, name, definition in (
        ("open_clip", "hf-hub:a/b", None),
        ("open_clip", "local-dir:nowhere", None),
        ("open_clip", "x", inner),
        ("timm", "hf-hub:a/b", None),
    ):
        with pytest.raises(ConfigError, match=f"{library} (has no model|cannot build)") as caught:
            VisionTower(library, name, (3,), 64, definition=definition)
        assert "\n" not in str(caught.value)
    assert fetched == []
