"""Equations 2 to 5 against a plain float64 derivation with loops, and the properties they must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from biod2c_core.model import equations, losses

Draw = st.integers(0, 2**31 - 1)  # seeds: the numbers themselves need no shrinking


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_mask(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed))


def plain_mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean of the rows that are real, or zeros."""
    real = [row for row, keep in zip(values, mask, strict=True) if keep]
    return np.mean(real, axis=0) if real else np.zeros(values.shape[-1])


def plain_distribution(x: np.ndarray, queue: np.ndarray, present: np.ndarray, tau: float) -> dict:
    """Eq. (3) over the entries that exist: index -> probability."""
    scores = {}
    for index, text in enumerate(queue):
        if present[index]:
            length = math.sqrt(x @ x) * math.sqrt(text @ text)
            scores[index] = math.exp((x @ text) / length / tau)
    total = sum(scores.values())
    return {index: score / total for index, score in scores.items()}


def plain_divergence(p: dict, q: dict) -> float:
    """Eq. (4)."""
    return sum(p[i] * (math.log(p[i]) - math.log(q[i])) for i in p)


@given(Draw, st.integers(1, 5), st.integers(0, 7), st.integers(1, 9))
def test_masked_mean_is_the_mean_of_the_real_tokens(seed: int, b: int, t: int, d: int) -> None:
    values, mask = random(seed, b, t, d), random_mask(seed, b, t)
    got = equations.masked_mean(values, mask)
    wanted = [plain_mean(v, m) for v, m in zip(values.double().numpy(), mask.numpy(), strict=True)]
    assert got.shape == (b, d)
    np.testing.assert_allclose(got.numpy(), np.array(wanted), atol=1e-6)
    assert torch.equal(got, equations.masked_mean(values, mask.bool()))


def test_masked_mean_takes_more_dimensions_and_ignores_what_padding_holds() -> None:
    values, mask = random(0, 2, 3, 4, 5), random_mask(1, 2, 3, 4)
    dirty = torch.where(mask.bool()[..., None], values, 1e6)
    assert torch.equal(equations.masked_mean(dirty, mask), equations.masked_mean(values, mask))


@given(Draw, st.integers(1, 4), st.integers(1, 6), st.integers(1, 8), st.floats(-3, 3))
def test_gated_sum_is_equation_2(seed: int, b: int, v: int, d: int, beta: float) -> None:
    visual, conditioned = random(seed, b, v, d), random(seed + 1, b, v, d)
    got = equations.gated_sum(visual, conditioned, torch.tensor(beta))
    wanted = visual.double().numpy() + conditioned.double().numpy() * math.tanh(beta)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)


@given(
    Draw,
    st.integers(1, 4),
    st.integers(1, 8),
    st.integers(2, 9),
    st.sampled_from([0.05, 0.1, 1.0]),
)
def test_distribution_is_equation_3(seed: int, b: int, k: int, d: int, tau: float) -> None:
    x, queue, mask = random(seed, b, d), random(seed + 1, b, k, d), random_mask(seed, b, k)
    got = equations.semantic_log_distribution(x, queue, mask, tau)
    assert got.shape == (b, k)
    assert got.dtype == torch.float32
    for row in range(b):
        wanted = plain_distribution(
            x[row].double().numpy(), queue[row].double().numpy(), mask[row].numpy(), tau
        )
        for index in range(k):
            if index in wanted:
                assert math.isclose(
                    got[row, index].exp(), wanted[index], rel_tol=1e-4, abs_tol=1e-7
                )
            else:
                assert got[row, index] == -math.inf


def semantic_loss(log_p_visual: Tensor, log_p_text: Tensor) -> Tensor:
    """Eq. (4) averaged over the rows that have a queue."""
    divergence = equations.semantic_divergence(log_p_visual, log_p_text)
    rows = log_p_visual.isfinite().any(-1)
    assert divergence.shape == rows.shape
    assert not divergence[~rows].any()
    return divergence.sum() / rows.sum().clamp(min=1)


@given(Draw, st.integers(1, 4), st.integers(1, 8), st.integers(2, 9))
def test_loss_is_equation_4_over_the_rows_with_a_queue(seed: int, b: int, k: int, d: int) -> None:
    tau = 0.1
    v, t, queue = random(seed, b, d), random(seed + 1, b, d), random(seed + 2, b, k, d)
    mask = random_mask(seed, b, k)
    got = semantic_loss(
        equations.semantic_log_distribution(v, queue, mask, tau),
        equations.semantic_log_distribution(t, queue, mask, tau),
    )
    rows = []
    for row in range(b):
        if mask[row].any():
            p, q = (
                plain_distribution(
                    x[row].double().numpy(), queue[row].double().numpy(), mask[row].numpy(), tau
                )
                for x in (v, t)
            )
            rows.append(plain_divergence(p, q))
    wanted = sum(rows) / len(rows) if rows else 0.0
    assert got.shape == ()
    assert math.isclose(float(got), wanted, rel_tol=2e-4, abs_tol=1e-5)


@given(Draw, st.integers(1, 8))
def test_divergence_is_never_negative_and_zero_only_for_equal_distributions(
    seed: int, k: int
) -> None:
    p, q = random(seed, 1, k).log_softmax(-1), random(seed + 1, 1, k).log_softmax(-1)
    assert float(semantic_loss(p, p)) == 0
    distance = float((p.exp() - q.exp()).abs().sum())
    divergence = float(semantic_loss(p, q))
    assert divergence >= distance**2 / 2 - 1e-6  # Pinsker's inequality


def test_direction_is_the_papers() -> None:
    p, q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    wanted = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(semantic_loss(p, q)) == pytest.approx(wanted)
    assert float(semantic_loss(q, p)) != pytest.approx(wanted, rel=1e-2)


@given(Draw, st.permutations(list(range(6))))
def test_order_of_the_queue_does_not_matter(seed: int, order: list[int]) -> None:
    v, t, queue, mask = (
        random(seed, 3, 5),
        random(seed + 1, 3, 5),
        random(seed + 2, 3, 6, 5),
        random_mask(seed, 3, 6),
    )

    def loss(queue: Tensor, mask: Tensor) -> float:
        p = equations.semantic_log_distribution(v, queue, mask, 0.1)
        return float(semantic_loss(p, equations.semantic_log_distribution(t, queue, mask, 0.1)))

    assert loss(queue[:, order], mask[:, order]) == pytest.approx(loss(queue, mask), abs=1e-5)


@given(Draw, st.integers(1, 4))
def test_missing_entries_and_empty_rows_change_nothing(seed: int, extra: int) -> None:
    v, t, queue = random(seed, 2, 5), random(seed + 1, 2, 5), random(seed + 2, 2, 3, 5)
    mask = torch.tensor([[1, 1, 1], [1, 0, 1]])

    def loss(v: Tensor, t: Tensor, queue: Tensor, mask: Tensor) -> Tensor:
        p = equations.semantic_log_distribution(v, queue, mask, 0.1)
        return semantic_loss(p, equations.semantic_log_distribution(t, queue, mask, 0.1))

    plain = loss(v, t, queue, mask)
    longer = loss(
        v,
        t,
        torch.cat([queue, random(seed + 3, 2, extra, 5)], 1),
        torch.cat([mask, mask.new_zeros(2, extra)], 1),
    )
    with_empty_row = loss(
        torch.cat([v, random(seed + 4, 1, 5)]),
        torch.cat([t, random(seed + 5, 1, 5)]),
        torch.cat([queue, random(seed + 6, 1, 3, 5)]),
        torch.cat([mask, mask.new_zeros(1, 3)]),
    )
    torch.testing.assert_close(longer, plain)
    torch.testing.assert_close(with_empty_row, plain)


def test_gradient_is_finite_beside_missing_entries_and_zero_without_any() -> None:
    queue = random(1, 3, 4, 5)
    queue[0, 1] = 0  # what a missing entry's mean is
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    v = random(2, 3, 5).requires_grad_()
    target = equations.semantic_log_distribution(random(3, 3, 5), queue, mask, 0.1)
    loss = semantic_loss(equations.semantic_log_distribution(v, queue, mask, 0.1), target)
    (gradient,) = torch.autograd.grad(loss, v)
    assert gradient.isfinite().all()
    assert gradient[1].abs().sum() == 0
    assert (gradient[[0, 2]].abs().sum(-1) > 0).all()

    nothing = torch.zeros_like(mask)
    empty = equations.semantic_log_distribution(v, queue, nothing, 0.1)
    loss = semantic_loss(empty, empty.detach())
    (gradient,) = torch.autograd.grad(loss, v)
    assert float(loss.detach()) == 0
    assert gradient.abs().sum() == 0


def test_gradient_of_the_loss_is_the_slope_of_the_plain_derivation() -> None:
    image, text = (random(seed, 4).double().numpy() for seed in (1, 2))
    queue = random(3, 1, 5, 4)
    texts, mask = queue[0].double().numpy(), np.ones(5)

    def plain(x: np.ndarray) -> float:
        return plain_divergence(
            plain_distribution(x, texts, mask, 0.1), plain_distribution(text, texts, mask, 0.1)
        )

    leaf = torch.tensor(image, dtype=torch.float32)[None].requires_grad_()
    ones = torch.ones(1, 5)
    loss = semantic_loss(
        equations.semantic_log_distribution(leaf, queue, ones, 0.1),
        equations.semantic_log_distribution(
            torch.tensor(text, dtype=torch.float32)[None], queue, ones, 0.1
        ),
    )
    (gradient,) = torch.autograd.grad(loss, leaf)
    step = 1e-6
    for index in range(4):
        shift = np.eye(4)[index] * step
        slope = (plain(image + shift) - plain(image - shift)) / (2 * step)
        assert float(gradient[0, index]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    x, queue = random(0, 2, 8).to(dtype), random(1, 2, 4, 8).to(dtype)
    mask = torch.ones(2, 4)
    got = equations.semantic_log_distribution(x, queue, mask, 0.1)
    wanted = equations.semantic_log_distribution(x.float(), queue.float(), mask, 0.1)
    assert torch.equal(got, wanted)


@given(Draw, st.integers(1, 3), st.integers(2, 6), st.integers(2, 7))
def test_nll_is_that_of_each_answer_token(seed: int, b: int, t: int, words: int) -> None:
    logits = random(seed, b, t, words)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, words, (b, t), generator=generator)
    labels[random_mask(seed + 1, b, t).bool()] = -100
    labels[0, -1] = 0  # at least one that counts
    wanted = []
    for row in range(b):
        for position in range(t - 1):
            gold = int(labels[row, position + 1])
            if gold != -100:
                scores = logits[row, position].double().numpy()
                wanted.append(math.log(np.exp(scores).sum()) - scores[gold])
    answered = labels[:, 1:] != -100
    got = equations.negative_log_likelihood(logits[:, :-1][answered], labels[:, 1:][answered])
    assert got.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert int(losses.NLL.count({"labels": labels})) == len(wanted)


def test_total_loss_is_equation_5() -> None:
    nll, semantic = torch.tensor(2.0), torch.tensor(0.5)
    terms = {"nll": nll, "sem": semantic}
    assert float(equations.total_loss(terms, {"sem": 0.0})) == 2.0
    assert float(equations.total_loss(terms, {"sem": 3.0})) == 3.5
    further = {**terms, "att": torch.tensor(4.0)}
    assert float(equations.total_loss(further, {"sem": 3.0, "att": 0.25})) == 4.5
