"""What attention of directions divides by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from biod2c_core.model.beyond.qk_norm import InverseRms


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_inverse_root_mean_square_is_that_of_rms_norm_and_so_is_its_gradient() -> None:
    x = random(0, 2, 3, 7).double().requires_grad_()
    eps = torch.finfo(torch.float64).eps
    wanted = nn.functional.rms_norm(x, x.shape[-1:], eps=eps)
    torch.testing.assert_close(x * InverseRms.apply(x).unsqueeze(-1), wanted)
    assert torch.autograd.gradcheck(InverseRms.apply, (x,))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_inverse_root_mean_square_of_bfloat16_is_computed_in_float32(size: float) -> None:
    x = (size * random(0, 2, 54)).bfloat16()
    wanted = (x.double().square().mean(-1) + torch.finfo(torch.float32).eps).rsqrt()
    inverse = InverseRms.apply(x)
    assert inverse.dtype == torch.float32
    torch.testing.assert_close(inverse.double(), wanted, rtol=1e-5, atol=0)
