"""The frozen trunk: which maps it yields, cut where the paper cuts, never a changed statistic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model.vision import PixelScale, VisionTower, grid_shape


def tower(*levels: int, size: int = 64, **options: Any) -> VisionTower:
    torch.manual_seed(0)
    return VisionTower("timm", "test_efficientnet", levels, size, **options)


def pixels(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("level", "grid"), [(2, (8, 8, 32)), (3, (4, 4, 48)), (4, (2, 2, 64))])
def test_grid_of_each_level(level: int, grid: tuple[int, int, int]) -> None:
    model = tower(level)
    assert grid_shape(model) == grid
    assert model(pixels()).shape == (2, *grid)


def test_several_levels_are_brought_to_the_first_ones_grid() -> None:
    model = tower(3, 4)
    x_v = model(pixels())
    assert x_v.shape == (2, 4, 4, 48 + 64)
    fine, coarse = model.trunk(pixels())
    torch.testing.assert_close(x_v[..., :48], fine.permute(0, 2, 3, 1))
    stretched = F.interpolate(coarse, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(x_v[..., 48:], stretched.permute(0, 2, 3, 1))


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_levels_are_taken_in_the_order_given(library: str) -> None:
    name = {"timm": "test_efficientnet", "open_clip": "RN50"}[library]
    torch.manual_seed(0)
    fine_first = VisionTower(library, name, (2, 3), 64)
    coarse_first = VisionTower(library, name, (3, 2), 64)
    coarse_first.load_state_dict(fine_first.state_dict())
    fine, coarse = fine_first.trunk(pixels())
    height, width, channels = grid_shape(coarse_first)
    assert (height, width) == coarse.shape[-2:]
    assert channels == fine.shape[1] + coarse.shape[1]
    x_v = coarse_first(pixels())
    torch.testing.assert_close(x_v[..., : coarse.shape[1]], coarse.permute(0, 2, 3, 1))
    means = F.avg_pool2d(fine, 2)  # what resampling to half the size is
    torch.testing.assert_close(x_v[..., coarse.shape[1] :], means.permute(0, 2, 3, 1))


def test_normalized_levels_are_layer_normalized_over_their_channels() -> None:
    raw = tower(3)(pixels()).double().numpy()
    wanted = (raw - raw.mean(-1, keepdims=True)) / np.sqrt(raw.var(-1, keepdims=True) + 1e-5)
    got = tower(3, normalize=True)(pixels())
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4)


def test_it_stays_in_evaluation_mode_and_never_learns() -> None:
    model = tower(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert not any(module.training for module in model.modules())
    x_v = model(pixels().requires_grad_())
    assert not x_v.requires_grad
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_open_clip_resnet_is_cut_after_its_third_stage() -> None:
    """The paper's tower (section 4.1): stride 16, 1024 channels, 8.56 million parameters."""
    torch.manual_seed(0)
    model = VisionTower("open_clip", "RN50", (3,), 64)
    assert grid_shape(model) == (4, 4, 1024)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(8.56e6, rel=1e-3)
    trunk = model.trunk.model
    x = trunk.stem(pixels(1))
    by_hand = trunk.layer3(trunk.layer2(trunk.layer1(x)))
    torch.testing.assert_close(model(pixels(1)), by_hand.permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("library", "name", "levels", "message"),
    [
        ("keras", "resnet18", (3,), "unknown vision library 'keras'. Use one of: timm, open_clip"),
        ("timm", "resnet-18", (3,), "timm has no model 'resnet-18'"),
        ("open_clip", "RN-50", (3,), "open_clip has no model 'RN-50'"),
        ("timm", "test_efficientnet", (), "vision levels are []"),
        ("timm", "test_efficientnet", (-1,), "vision levels are [-1]"),
        ("timm", "test_efficientnet", (9,), "no feature map at levels [9]"),
    ],
)
def test_what_does_not_exist_is_named(
    library: str, name: str, levels: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_shape(VisionTower(library, name, levels, 64))
    assert message in str(caught.value)


def test_open_clip_level_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tower(3)

    def fail(*_: Any) -> None:
        raise AssertionError("feature index 9 is out of range (0 to 4)")

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(ConfigError, match=r"no feature map at levels .* feature index 9"):
        grid_shape(model)


def test_a_batch_gives_what_its_images_give_alone() -> None:
    torch.manual_seed(0)
    tower = VisionTower("timm", "test_efficientnet", (3,), image_size=64)
    pixels = torch.rand(9, 3, 64, 64)
    together = tower(pixels)
    alone = torch.cat([tower(each.unsqueeze(0)) for each in pixels])
    assert together.shape[0] == 9
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_give_the_bits_of_their_normalized_values(dtype: torch.dtype, folded: bool) -> None:
    """In whatever type the trunk is: the numbers are rounded once, as those that come as floats."""
    mean, std = (0.48, 0.45, 0.4), (0.27, 0.26, 0.275)
    model = tower(3)
    model.accept_bytes(mean, std)
    if folded:
        model.fold()
    model.to(dtype)
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randint(0, 256, (2, 64, 64, 3), generator=generator, dtype=torch.uint8)
    pictures = pictures.permute(0, 3, 1, 2)
    scaled = PixelScale(mean, std)(pictures)
    assert scaled.is_contiguous()
    assert torch.equal(model(pictures), model(scaled))
    assert not any("scale" in name for name in model.state_dict())


def test_bytes_are_refused_by_a_tower_that_cannot_normalize_them() -> None:
    """They would pass for numbers of 0 to 255."""
    with pytest.raises(InputError, match="mean and std"):
        tower(3)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
