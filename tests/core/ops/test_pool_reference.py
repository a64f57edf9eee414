"""The definition itself: against numbers worked out by hand and an independent formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from biod2c_core.ops.multi_scale_pool import multi_scale_pool


def reference(features: torch.Tensor, scales: int) -> torch.Tensor:
    return multi_scale_pool(features, scales, backend="reference")


def test_values_worked_out_by_hand() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 2, 2, 1)
    assert reference(features, 2).flatten().tolist() == [6 + 3, 2, 4, 6, 12]


def test_uneven_bins_worked_out_by_hand() -> None:
    features = torch.arange(9.0).view(1, 3, 3, 1)  # rows 0 | 1-2, columns 0 | 1-2
    expected = [8 + 4, 0 + 0, 2 + 1.5, 6 + 4.5, 8 + 6]
    assert reference(features, 2).flatten().tolist() == expected


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (16, 8)])
def test_equals_adaptive_pooling_where_blocks_divide_the_map(size: tuple[int, int]) -> None:
    features = torch.randn(2, *size, 3, dtype=torch.float64)
    planes = features.permute(0, 3, 1, 2)
    scales = [2**s for s in range(3)]
    parts = [F.adaptive_max_pool2d(planes, k) + F.adaptive_avg_pool2d(planes, k) for k in scales]
    expected = torch.cat([part.flatten(2) for part in parts], dim=2).transpose(1, 2)
    torch.testing.assert_close(reference(features, 3), expected)


def test_a_tied_maximum_shares_its_gradient_evenly() -> None:
    features = torch.tensor([[5.0, 5.0, 1.0], [5.0, 0.0, 2.0]]).view(1, 2, 3, 1).requires_grad_()
    reference(features, 1).backward(torch.tensor([[[6.0]]]))
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [3.0, 3.0, 1.0, 3.0, 1.0, 1.0]


def test_gradcheck() -> None:
    values = torch.randperm(2 * 5 * 6 * 2).double().view(2, 5, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: reference(x, 3), values)


def test_nan_and_infinities_stay_in_their_blocks() -> None:
    features = torch.zeros(1, 4, 4, 1)
    features[0, 0, 0], features[0, 0, 3], features[0, 3, 0] = (
        float("nan"),
        float("inf"),
        -float("inf"),
    )
    whole, *quarters = reference(features, 2).flatten().tolist()
    assert str([whole, *quarters]) == "[nan, nan, inf, -inf, 0.0]"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32_and_rounds_once(dtype: torch.dtype) -> None:
    features = (torch.rand(1, 40, 40, 2) + 0.5).to(dtype)
    expected = reference(features.float(), 3).to(dtype)
    assert torch.equal(reference(features, 3), expected)
