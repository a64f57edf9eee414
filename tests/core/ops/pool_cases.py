"""Maps that are hard on multi-scale pooling, and the comparison with the float64 definition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biod2c_core.ops.multi_scale_pool.reference import multi_scale_pool_reference

KINDS = ("normal", "relu", "constant", "special")
LAYOUTS = ("channels last", "planes", "sliced", "flipped strides")
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,  # one rounding of the result: 2^-11 relative, values up to 4
    torch.bfloat16: 1.6e-2,
}


def make_map(shape: tuple[int, ...], kind: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A (B, H, W, D) map of unit-normal values, of many tied zeros, of one value, or with NaN and
    infinities of both signs."""
    values = torch.randn(shape)
    if kind == "relu":
        values = values.round().relu()
    elif kind == "constant":
        values = torch.full(shape, -1.5)
    elif kind == "special":
        flat = values.round().flatten()
        for i, value in enumerate((float("nan"), float("inf"), -float("inf"), float("inf"))):
            flat[i * 7 :: 61] = value
        values = flat.view(shape)
    return values.to(dtype)


def lay_out(values: Tensor, layout: str) -> Tensor:
    """The same values in other strides."""
    if layout == "planes":
        return values.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    if layout == "sliced":
        room = values.new_full([size + 2 for size in values.shape], float("nan"))
        view = room[1:-1, 1:-1, 1:-1, 1:-1]
        return view.copy_(values)
    if layout == "flipped strides":
        return values.permute(2, 1, 3, 0).contiguous().permute(3, 1, 0, 2)
    return values.contiguous()


def assert_matches_definition(
    pool: Callable[[Tensor, int], Tensor], features: Tensor, scales: int, gradient: bool = True
) -> None:
    """Values and gradients of ``pool`` against the float64 definition on the same numbers."""
    tolerance = TOLERANCE[features.dtype]
    features = features.detach().requires_grad_(gradient)
    exact = features.detach().double().requires_grad_(gradient)
    pooled, expected = pool(features, scales), multi_scale_pool_reference(exact, scales)
    assert pooled.dtype == features.dtype
    close = {"atol": tolerance, "rtol": tolerance, "equal_nan": True}
    torch.testing.assert_close(pooled.detach().double(), expected.detach(), **close)
    if gradient:
        weights = torch.randn_like(pooled)
        (found,) = torch.autograd.grad(pooled, features, weights)
        (wanted,) = torch.autograd.grad(expected, exact, weights.double())
        assert found.dtype == features.dtype
        assert found.shape == features.shape
        torch.testing.assert_close(found.double(), wanted, **close)
