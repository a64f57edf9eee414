"""The pyramid under ``torch.compile`` and ``torch.export``: one graph, same values and gradients."""

from __future__ import annotations

import pytest
import torch
from pool_cases import assert_matches_definition, lay_out, make_map

from biod2c_core.ops.multi_scale_pool import cpu, multi_scale_pool


@pytest.mark.slow
def test_compiles_with_its_gradient() -> None:
    compiled = torch.compile(multi_scale_pool, fullgraph=True)
    for layout in ("channels last", "planes"):
        features = lay_out(make_map((2, 7, 9, 8), "special"), layout)
        assert_matches_definition(compiled, features, 3)
        out = torch.empty(2, 21, 8)
        assert compiled(features, 3, out=out) is out
        assert_close_with_nan(out, multi_scale_pool(features, 3))


def assert_close_with_nan(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5, equal_nan=True)


def test_traces_for_any_batch() -> None:
    """Without code generation: what the tracer sees, when the batch is a symbol."""
    traced = torch.compile(multi_scale_pool, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (2, 3, 5):
        features = make_map((batch, 8, 8, 3), "relu").requires_grad_()
        torch.testing.assert_close(traced(features, 4), multi_scale_pool(features, 4))


def test_the_compiled_gradient_is_one_operator() -> None:
    features, grad = make_map((2, 6, 6, 4), "relu"), torch.randn(2, 5, 4)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(cpu._pool_backward_op, (grad, features, 2), test_utils=checks)


def test_exports() -> None:
    class Pool(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return multi_scale_pool(features, "auto")

    features = make_map((2, 7, 12, 3), "relu")
    exported = torch.export.export(Pool(), (features,))
    torch.testing.assert_close(exported.module()(features), multi_scale_pool(features, 3))
