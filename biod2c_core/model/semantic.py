"""Section 3.2: how far the visual tokens agree with the question, measured against the text queue.

Notation used for tensor shapes:

- B: batch, T: question tokens, V: visual tokens, d: width of the language model, k: queue texts,
  L: their tokens
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.model import equations

RELEASED_QUEUE = 10  # texts of a queue in the authors' code


class SemanticConsistency:
    """The part of the model that measures L_sem; it has the language model's embedding to do so."""

    config: Any  # a BioD2CConfig; transformers types it more loosely

    def get_input_embeddings(self) -> nn.Module:
        """The encoding function epsilon of section 3.1."""
        raise NotImplementedError

    def fill(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Cut or fill texts to V tokens with the language model's padding id, as the authors do.

        Args:
            ids: (..., T).
            mask: (..., T), 1 where a token is real.

        Returns:
            (..., V).
        """
        limit = self.config.num_visual_tokens
        padding = self.config.text_config.pad_token_id or 0
        filled = ids[..., :limit].masked_fill(~mask[..., :limit].bool(), padding)
        return F.pad(filled, (0, max(0, limit - ids.shape[-1])), value=padding)

    def embed_once(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean embeddings of texts, each computed once however often it occurs.

        Args:
            ids: (B, k, L).
            mask: (B, k, L), 1 where a token is real.

        Returns:
            (B, k, d).
        """
        rows = ids.masked_fill(~mask.bool(), -1).flatten(0, 1)
        texts, places = rows.unique(dim=0, return_inverse=True)
        means = equations.masked_mean(self.get_input_embeddings()(texts.clamp(min=0)), texts >= 0)
        return means[places].unflatten(0, ids.shape[:2])

    def semantic_loss(
        self,
        tokens: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        queue_ids: Tensor,
        queue_mask: Tensor,
    ) -> Tensor:
        """Section 3.2: L_sem of the visual tokens against question and text queue.

        Args:
            tokens: X_{v|t}, (B, V, d).
            question_ids: (B, T).
            question_mask: (B, T).
            queue_ids: (B, k, L).
            queue_mask: (B, k, L), 1 where a token is real; an entry without any is missing.
        """
        embed = self.get_input_embeddings()
        with torch.no_grad():  # the texts are a fixed target
            queue = self.embed_once(queue_ids, queue_mask)
            text = equations.masked_mean(embed(question_ids), question_mask)
            present = queue_mask.bool().any(-1)
            tau = self.config.semantic_temperature
            log_p_text = equations.semantic_log_distribution(text, queue, present, tau)
        visual = tokens.mean(1)
        log_p_visual = equations.semantic_log_distribution(visual, queue, present, tau)
        return equations.semantic_loss(log_p_visual, log_p_text)

    def released_semantic_loss(
        self,
        tokens: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        queue_ids: Tensor,
        queue_mask: Tensor,
    ) -> Tensor:
        """L_sem as in the authors' code; shapes as in :meth:`semantic_loss`.

        Args:
            tokens: Proj(X_v), the visual tokens before the gate, (B, V, d).
            question_ids: (B, T).
            question_mask: (B, T).
            queue_ids: (B, k, L); a queue of fewer than ten texts is filled up with zeros.
            queue_mask: (B, k, L).
        """
        embed = self.get_input_embeddings()
        tau = self.config.semantic_temperature
        with torch.no_grad():
            queue = embed(self.fill(queue_ids, queue_mask))
            queue = queue * queue_mask.bool().any(-1)[..., None, None]
            queue = F.pad(queue, (0, 0, 0, 0, 0, max(0, RELEASED_QUEUE - queue.shape[1])))
            text = embed(self.fill(question_ids, question_mask))
            log_p_text = equations.released_semantic_log_distribution(text, queue, tau)
        log_p_visual = equations.released_semantic_log_distribution(tokens, queue, tau)
        return equations.semantic_loss(log_p_text, log_p_visual)
