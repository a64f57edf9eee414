"""Encoder and head: what they read, and that they are not mixed up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from biod2c_core.curation.filter_images.classifier import EMBEDDED, ImageFilter, train_head
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.errors import CheckpointError, ConfigError, InputError
from biod2c_core.model.checkpoints.folder import load_model, load_processor


def test_the_encoder_is_the_vision_tower_of_the_checkpoint(
    checkpoint: Path, encoder: ImageEncoder
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *2 * (encoder.side,), 3), dtype=np.uint8)
    model, processor = load_model(checkpoint), load_processor(checkpoint)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    normalized = (torch.from_numpy(pixels) / 255 - mean) / std
    grid = model.vision(normalized.permute(0, 3, 1, 2)).flatten(1, 2)
    expected = torch.cat((grid.mean(dim=1), grid.std(dim=1)), dim=1)
    np.testing.assert_allclose(encoder(pixels), expected.numpy(), atol=1e-4)


def test_the_identity_follows_the_trunk_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    weights = load_file(copy / "model.safetensors")
    identity = ImageEncoder.load(checkpoint).identity

    def identity_with(name: str) -> str:
        changed = {**weights, name: weights[name] + 1}
        save_file(changed, copy / "model.safetensors", {"format": "pt"})
        return ImageEncoder.load(copy).identity

    trunk = sorted(name for name in weights if name.startswith("vision."))
    other = sorted(name for name in weights if name.startswith("fusion."))
    assert identity_with(other[0]) == identity
    assert identity_with(trunk[0]) != identity


def test_a_damaged_encoder_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ImageEncoder.load(copy)


@pytest.mark.parametrize("std", [[0, 0, 0], [0.2, 0.2], [0.2, 0.2, float("nan")]])
def test_deviations_that_divide_nothing_are_refused(
    std: list[float], checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    settings = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(json.dumps({**settings, "image_std": std}))
    with pytest.raises(ConfigError, match="Expected three numbers each, the deviations above 0"):
        ImageEncoder.load(copy)


def test_a_head_separates_what_can_be_separated() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (600, 8)).astype(np.float32)
    polluted = features[:, 0] * features[:, 1] > 0  # not linear
    probabilities = ImageFilter(train_head(features, polluted), "").probabilities(features)
    assert ((probabilities > 0.5) == polluted).mean() > 0.9


def test_training_is_reproducible_and_does_not_depend_on_scale() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(0, 1, (200, 4)).astype(np.float32)
    polluted = features[:, 0] > 1
    plain = ImageFilter(train_head(features, polluted), "")
    again = ImageFilter(train_head(features, polluted), "")
    assert plain.identity == again.identity
    grown = ImageFilter(train_head(features * 64, polluted), "")
    np.testing.assert_allclose(
        grown.probabilities(features * 64), plain.probabilities(features), atol=1e-3
    )


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(InputError, match="same label"):
        train_head(np.zeros((20, 3), np.float32), np.ones(20, bool))


def test_a_saved_head_gives_the_same_probabilities(
    image_filter: ImageFilter, encoder: ImageEncoder, tmp_path: Path
) -> None:
    image_filter.save(tmp_path)
    loaded = ImageFilter.load(tmp_path, encoder.identity)
    width = loaded.head.layers[0].weight.shape[1]
    features = np.random.default_rng(0).normal(0, 1, (5, width)).astype(np.float32)
    np.testing.assert_allclose(
        loaded.probabilities(features), image_filter.probabilities(features), atol=0.02
    )
    assert loaded.identity == image_filter.identity


def test_a_head_of_another_encoder_or_layout_is_refused(
    image_filter: ImageFilter, encoder: ImageEncoder, tmp_path: Path
) -> None:
    image_filter.save(tmp_path)
    with pytest.raises(CheckpointError, match="trained on other features"):
        ImageFilter.load(tmp_path, "0" * 20)
    config = json.loads((tmp_path / "filter.json").read_text())
    (tmp_path / "filter.json").write_text(json.dumps({**config, "layout": 0}))
    with pytest.raises(CheckpointError, match="layout 0"):
        ImageFilter.load(tmp_path, encoder.identity)


def test_a_kill_while_saving_leaves_no_head_with_the_facts_of_another(
    image_filter: ImageFilter,
    encoder: ImageEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    image_filter.save(tmp_path)
    monkeypatch.setattr(f"{ImageFilter.__module__}.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        image_filter.save(tmp_path)
    with pytest.raises(CheckpointError, match="no image filter"):
        ImageFilter.load(tmp_path, encoder.identity)


@pytest.mark.parametrize("damage", ["{}", "[]", "not json", '{"width": "x"}'])
def test_a_damaged_head_is_one_line(
    image_filter: ImageFilter, encoder: ImageEncoder, tmp_path: Path, damage: str
) -> None:
    image_filter.save(tmp_path)
    (tmp_path / "filter.json").write_text(damage)
    with pytest.raises(CheckpointError, match="is damaged"):
        ImageFilter.load(tmp_path, encoder.identity)


def test_the_embedded_filter_belongs_to_the_embedded_encoder() -> None:
    encoder = ImageEncoder.load()
    assert ImageFilter.load(None, encoder.identity).encoder == encoder.identity
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 1 << 20


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"encoder": "e", "layout": 2, "width": 1000000000, "hidden": 1000000000}',
        '{"encoder": "e", "layout": 2, "width": 1e999, "hidden": 1}',
    ],
)
def test_a_configuration_of_a_stranger_builds_nothing(
    image_filter: ImageFilter, tmp_path: Path, text: str
) -> None:
    image_filter.save(tmp_path)
    (tmp_path / "filter.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        ImageFilter.load(tmp_path, "e")
    assert len(str(caught.value).splitlines()) == 1
