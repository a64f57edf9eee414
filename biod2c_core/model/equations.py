"""The numbered equations of section 3, one stateless function each.

Notation used for tensor shapes:

- B: batch, T: question tokens, V: visual tokens, D: width of the image features,
  d: width of the language model, k: texts in the queue, L: tokens of a queue text

The pooling of section 3.1 (MFE) is the operator :func:`biod2c_core.ops.multi_scale_pool.multi_scale_pool`;
Eq. (1), the fusion decoder, holds weights and is :class:`biod2c_core.model.fusion.FusionDecoder`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are real.

    Args:
        values: (..., T, d), float.
        mask: (..., T), bool or 0/1, true where a token is real.

    Returns:
        (..., d); zero where no token is real.
    """
    weights = mask.unsqueeze(-1).to(values.dtype)
    return (values * weights).sum(-2) / weights.sum(-2).clamp(min=1)


def gated_sum(visual: Tensor, conditioned: Tensor, beta: Tensor) -> Tensor:
    """Eq. (2): X_{v|t} = Proj(X_v) + Proj_g(X_vt) * tanh(beta).

    Args:
        visual: Proj(X_v), (B, V, d).
        conditioned: Proj_g(X_vt), (B, V, d), zero at padded positions.
        beta: The gate, a scalar parameter.

    Returns:
        X_{v|t}, (B, V, d).
    """
    return visual + conditioned * torch.tanh(beta)


def semantic_log_distribution(
    features: Tensor, queue: Tensor, queue_mask: Tensor, temperature: float
) -> Tensor:
    """Eq. (3): log p = log softmax_i(<x, t_i> / tau), with the cosine similarity <.,.>.

    Computed in float32 whatever the inputs are: tau = 0.1 multiplies rounding errors by ten.

    Args:
        features: X_{v|t} or X_t averaged over its tokens, (B, d).
        queue: The texts t_i averaged over their tokens, (B, k, d).
        queue_mask: (B, k), true where the queue has an entry. Missing entries get probability zero
            and take no part in the sum (the paper is silent; see ``docs/paper-to-code.md``).
        temperature: tau.

    Returns:
        Log-probabilities, (B, k), float32, ``-inf`` at missing entries; a row without any entry
        is all ``-inf``.
    """
    similarity = F.cosine_similarity(features.float().unsqueeze(1), queue.float(), dim=-1)
    logits = (similarity / temperature).masked_fill(~queue_mask.bool(), float("-inf"))
    empty = ~queue_mask.bool().any(-1, keepdim=True)
    return (
        logits.masked_fill(empty, 0).log_softmax(-1).masked_fill(~queue_mask.bool(), float("-inf"))
    )


def released_semantic_log_distribution(
    features: Tensor, queue: Tensor, temperature: float
) -> Tensor:
    """Eq. (3) as in the authors' code: the cosine is taken position by position, then averaged.

    It departs from the paper in that padding counts like text, and that a missing entry of the
    queue (all zero, so that its cosine is 0) enters the softmax. The authors' L_sem is
    :func:`semantic_divergence` of these distributions with the arguments exchanged, D_KL(p(t) || p(v)).

    Args:
        features: Proj(X_v), the tokens *before* the gate, or the embedded question, (B, V, d).
        queue: The embedded texts, each V tokens long, (B, k, V, d).
        temperature: tau.

    Returns:
        Log-probabilities, (B, k), float32.
    """
    similarity = F.cosine_similarity(features.float().unsqueeze(1), queue.float(), dim=-1)
    return (similarity.mean(-1) / temperature).log_softmax(-1)


def semantic_divergence(log_p_visual: Tensor, log_p_text: Tensor) -> Tensor:
    """Eq. (4): D_KL(p(v) || p(t)) = sum_i p_i(v) (log p_i(v) - log p_i(t)); L_sem is its mean.

    Args:
        log_p_visual: log p(v), (B, k), from :func:`semantic_log_distribution`.
        log_p_text: log p(t), (B, k), with the same missing entries; a fixed target.

    Returns:
        (B,), float32; zero where a row has no queue, which does not count in the mean.
    """
    present = log_p_visual.isfinite()
    difference = torch.where(present, log_p_visual, 0) - torch.where(present, log_p_text, 0)
    probability = torch.where(present, log_p_visual, float("-inf")).exp()
    return (probability * difference).sum(-1)


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """Section 3.2: -log p(next token), of each answer token; L_nll is its mean.

    Args:
        logits: (n, vocabulary), at the n positions that are followed by an answer token.
        targets: (n,), these tokens.

    Returns:
        (n,), float32.
    """
    return F.cross_entropy(logits.float(), targets, reduction="none")


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Eq. (5): L_total = L_nll + lambda * L_sem, and further terms likewise.

    Args:
        losses: The terms by name, scalars, ``nll`` among them.
        weights: Of the terms but ``nll``, 0 where none is given; ``sem`` is lambda.

    Returns:
        A scalar.
    """
    total = losses["nll"]
    for name, loss in losses.items():
        if name != "nll":
            total = total + weights.get(name, 0.0) * loss
    return total
