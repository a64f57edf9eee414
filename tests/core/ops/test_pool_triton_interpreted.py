"""The Triton kernels in Triton's interpreter, on CPU tensors; `test_pool_triton` runs this file."""

from __future__ import annotations

import os

import pytest
import torch
from pool_cases import assert_matches_definition, lay_out, make_map

from biod2c_core.errors import InputError
from biod2c_core.ops.multi_scale_pool import multi_scale_pool

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="test_pool_triton runs this under TRITON_INTERPRET=1",
)


def triton(features: torch.Tensor, scales: int) -> torch.Tensor:
    return multi_scale_pool(features, scales, backend="triton")


CASES = [
    ((1, 1), 1, "channels last", "special"),
    ((2, 3), 2, "planes", "relu"),
    ((4, 4), 3, "channels last", "relu"),
    ((7, 7), 3, "planes", "special"),
    ((7, 9), 2, "flipped strides", "relu"),
    ((5, 12), 1, "sliced", "normal"),
    ((8, 8), 4, "planes", "relu"),
    ((16, 16), 5, "planes", "relu"),
    ((16, 16), 4, "channels last", "special"),
]


@pytest.mark.parametrize(
    ("dtype", "case"),
    [(torch.float32, case) for case in CASES] + [(torch.float16, case) for case in CASES[:7]],
    ids=str,
)
def test_values_and_gradients(
    dtype: torch.dtype, case: tuple[tuple[int, int], int, str, str]
) -> None:
    size, scales, layout, kind = case
    torch.manual_seed(0)
    features = make_map((2 if size[0] < 16 else 1, *size, 3), kind, dtype)
    assert_matches_definition(triton, lay_out(features, layout), scales)


def test_roots_of_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of 128 cells and more need a third pass; small tiles bring it to a map of 8."""
    from biod2c_core.ops.multi_scale_pool import triton_op

    monkeypatch.setattr(triton_op, "MAX_LEVELS", 1)
    for layout in ("planes", "channels last"):
        features = lay_out(make_map((2, 8, 8, 2), "relu"), layout)
        assert [plan.FINEST for plan in triton_op.launch_plans(features, 4)] == [4, 3, 2]
        assert_matches_definition(triton, features, 4)
        assert_matches_definition(triton, features, 2)


def test_out_is_filled_and_returned() -> None:
    features = lay_out(make_map((2, 8, 8, 3), "normal"), "planes")
    out = torch.full((2, 23, 5), float("nan"))[:, 1:-1, 1:-1]
    assert multi_scale_pool(features, 3, backend="triton", out=out) is out
    assert torch.equal(out, triton(features, 3))


def test_empty_batch_and_no_channels() -> None:
    for shape in ((0, 4, 4, 3), (2, 4, 4, 0)):
        features = torch.zeros(shape, requires_grad=True)
        pooled = triton(features, 2)
        assert pooled.shape == (shape[0], 5, shape[3])
        (gradient,) = torch.autograd.grad(pooled.sum(), features)
        assert gradient.shape == shape


def test_float64_is_refused() -> None:
    with pytest.raises(InputError, match="float64"):
        triton(torch.zeros(1, 4, 4, 2).double(), 2)


def test_operators_pass_opcheck() -> None:
    from biod2c_core.ops.multi_scale_pool import triton_op

    for layout in ("channels last", "planes"):
        features = lay_out(make_map((2, 4, 4, 3), "relu"), layout)
        pooled, roots = triton_op._pool(features, 3, True)
        gradient = torch.randn_like(pooled)
        torch.library.opcheck(triton_op._pool, (features.clone().requires_grad_(), 3, True))
        torch.library.opcheck(triton_op._pool_out, (features, 3, torch.empty_like(pooled)))
        torch.library.opcheck(triton_op._pool_backward, (gradient, features, roots, 3))


def test_compiles_and_exports_as_one_operator() -> None:
    features = lay_out(make_map((2, 4, 5, 3), "relu"), "planes").requires_grad_()
    compiled = torch.compile(triton, backend="aot_eager", fullgraph=True)
    (found,) = torch.autograd.grad(compiled(features, 2).pow(2).sum(), features)
    (wanted,) = torch.autograd.grad(triton(features, 2).pow(2).sum(), features)
    assert torch.equal(found, wanted)

    class Pool(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return triton(features, 2)

    exported = torch.export.export(Pool(), (features.detach(),))
    assert "biod2c.multi_scale_pool" in exported.graph_module.code
    assert torch.equal(exported.module()(features.detach()), triton(features, 2))
