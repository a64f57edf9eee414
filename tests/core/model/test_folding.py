"""The folded trunk gives the trunk's features, and leaves the trunk as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from biod2c_core.model.backbones.folding import fold_batch_norms
from biod2c_core.model.vision import VisionTower


def with_statistics(tower: VisionTower) -> VisionTower:
    """Running statistics far from 0 and 1, so that a norm that is left out is seen."""
    torch.manual_seed(0)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return tower


@pytest.mark.parametrize(
    ("library", "name", "levels"),
    [
        ("timm", "test_efficientnet", (2, 3)),
        ("timm", "test_resnet", (3,)),
        ("open_clip", "RN50", (3,)),
    ],
)
def test_the_folded_trunk_gives_the_same_features(
    library: str, name: str, levels: tuple[int, ...]
) -> None:
    tower = with_statistics(VisionTower(library, name, levels, image_size=64))
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    pixels = torch.rand(2, 3, 64, 64)
    wanted = tower(pixels)
    tower.fold()
    got = tower(pixels)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in tower._folded.trunk.modules())
    torch.testing.assert_close(got, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-5)
    after = tower.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_mixed_precision_computes_in_it() -> None:
    tower = with_statistics(VisionTower("timm", "test_resnet", (3,), image_size=64))
    pixels = torch.rand(1, 3, 64, 64)
    wanted = tower(pixels)
    tower.fold()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = tower(pixels)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, atol=0.05 * float(wanted.abs().max()), rtol=0.1)
    assert tower(pixels).dtype == torch.float32


class Shared(nn.Module):
    """A convolution whose output two others read: folding it would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        x = self.conv(pixels)
        return [x + self.norm(x)]


def test_what_cannot_be_folded_is_left() -> None:
    torch.manual_seed(0)
    trunk = Shared().eval()
    trunk.norm.running_mean.fill_(0.7)
    folded = fold_batch_norms(trunk, torch.rand(1, 3, 8, 8))
    assert isinstance(folded.norm, nn.BatchNorm2d)
    pixels = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(folded(pixels)[0], trunk(pixels)[0])


def test_a_trunk_without_batch_norm_stays() -> None:
    tower = VisionTower("timm", "test_vit", (5,), image_size=160)
    tower.fold()
    assert tower._folded is None
