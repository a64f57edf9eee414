"""The pyramid under ``torch.compile`` and ``torch.export``: one graph, same values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pool_cases import assert_matches_definition, lay_out, make_map

from biod2c_core.ops.multi_scale_pool import cpu, multi_scale_pool
from biod2c_core.ops.multi_scale_pool.pyramid import split_scales


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


@pytest.fixture
def no_generated_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_compiled", lambda run: run)


@pytest.mark.usefixtures("no_generated_code")
def test_traces_for_any_batch() -> None:
    """What the tracer sees, when the batch is a symbol."""
    traced = torch.compile(multi_scale_pool, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (2, 3, 5):
        features = make_map((batch, 8, 8, 3), "relu").requires_grad_()
        torch.testing.assert_close(traced(features, 4), multi_scale_pool(features, 4))


@pytest.mark.usefixtures("no_generated_code")
def test_each_pass_is_one_operator() -> None:
    features, pooled = make_map((2, 6, 6, 4), "relu"), torch.randn(2, 5, 4)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(cpu._pool_op, (features, pooled, 2), test_utils=checks)
    result = torch.empty_like(features)
    torch.library.opcheck(cpu._pool_backward_op, (features, pooled, result, 2), test_utils=checks)


@pytest.mark.parametrize(("layout", "size"), [("planes", (8, 8)), ("channels last", (7, 9))])
def test_a_chunk_is_one_graph(layout: str, size: tuple[int, int]) -> None:
    """A break in it would make it many times slower, and nothing else would tell."""

    def compiled(run: Callable[..., object]) -> Callable[..., object]:
        return torch.compile(run, backend="aot_eager", fullgraph=True)

    features = lay_out(make_map((2, *size, 3), "relu"), layout)
    expected = torch.empty(2, 21, 3)
    pooled, grads = (split_scales(torch.randn(2, 21, 3), 3) for _ in range(2))
    compiled(cpu._pool_chunk)(features, *pooled)
    cpu._pool_chunk(features, *split_scales(expected, 3))
    for part, wanted in zip(pooled, split_scales(expected, 3), strict=True):
        torch.testing.assert_close(part, wanted)
    found, wanted = torch.empty_like(features), torch.empty_like(features)
    compiled(cpu._pool_chunk_backward)(features, found, *grads)
    cpu._pool_chunk_backward(features, wanted, *grads)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("strict", [False, True])
def test_exports_as_plain_ops(strict: bool) -> None:
    class Pool(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return multi_scale_pool(features, "auto")

    features = make_map((2, 7, 12, 3), "relu")
    exported = torch.export.export(Pool(), (features,), strict=strict)
    assert "biod2c" not in exported.graph_module.code
    torch.testing.assert_close(exported.module()(features), multi_scale_pool(features, 3))
