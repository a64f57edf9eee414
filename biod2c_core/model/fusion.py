"""Section 3.1: the image-text fusion mechanism, from X_v and the question to X_{v|t}.

This is the paper. What goes beyond it plugs in at two places, see :mod:`biod2c_core.model.beyond`: what
the decoder attends to (:meth:`FeatureFusion.pool`), and what it makes of a question
(:meth:`FeatureFusion.fuse`).

Notation used for tensor shapes:

- B: batch, T: question tokens, V: visual tokens, N: side of the grid, M: blocks of all scales, D: width
  of the image features, d: width of the language model, h: heads
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model.attention import QuestionGroups, attend, group_questions, scaled_dot_product
from biod2c_core.model.equations import gated_sum
from biod2c_core.ops.dropout import Dropout
from biod2c_core.ops.multi_scale_pool import multi_scale_pool, resolve_scales


class ImageEncoding(NamedTuple):
    """What is known of an image before any question.

    Attributes:
        blocks: X'_v, the multi-scale features, (B, M, D).
        tokens: Proj of the resampled X_v, the first term of Eq. (2), (B, V, d).
        summary: Mean and maximum of X_v over the grid, (B, 2 D), float32; what
            :mod:`biod2c_core.model.familiarity` compares pictures by.
    """

    blocks: Tensor
    tokens: Tensor
    summary: Tensor

    def rows(self, chosen: slice) -> ImageEncoding:
        """Some of the images."""
        return ImageEncoding(*(part[chosen] for part in self))


class VisualTokens(NamedTuple):
    """What enters the language model in front of the text.

    Attributes:
        tokens: X_{v|t}, (B, V, d).
        attention: Cross-attention of the question tokens to the blocks, (B, layers, h, T, M), or
            None where it was not asked for (or there is no fusion).
    """

    tokens: Tensor
    attention: Tensor | None


class FusionLayer(nn.Module):
    """A pre-norm Transformer decoder layer that can show its cross-attention.

    Self-attention among the queries, cross-attention to the image, feed-forward with ReLU; the
    weights are named as in ``torch.nn.TransformerDecoderLayer`` and give the same numbers.

    Args:
        width: D.
        heads: h.
        feed_forward: Width of the feed-forward layers.
        dropout: Probability of dropout.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def self_scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of the self-attention, (B, h, T, T)."""
        return scaled_dot_product(queries, keys)

    def cross_scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Scores of the cross-attention, (B, h, T, M)."""
        return scaled_dot_product(queries, keys)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        padding: Tensor | None = None,
        groups: QuestionGroups | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            queries: (B, T, D).
            memory: (B, M, D), keys and values; or (images, M, D) with ``groups``.
            padding: (B, T), true where a query is padding and must not be attended to.
            groups: Which memory each row of queries belongs to, where several share one.

        Returns:
            (B, T, D) and the cross-attention, (B, h, T, M); with ``groups`` (groups, h, size * T, M).
        """
        x = self.norm1(queries)
        attended, _ = attend(self.self_attn, x, x, padding, score=self.self_scores)
        queries = queries + self.dropout(attended)
        x = self.norm2(queries)
        asked, rows = (x, None) if groups is None else (groups.gather(x), groups.rows)
        attended, weights = attend(
            self.multihead_attn, asked, memory, rows=rows, score=self.cross_scores
        )
        if groups is not None:
            attended = groups.release(attended)
        queries = queries + self.dropout(attended)
        hidden = self.dropout(self.linear1(self.norm3(queries)).relu())
        return queries + self.dropout(self.linear2(hidden)), weights


class FusionDecoder(nn.Module):
    """Eq. (1): X_vt = Fusion(X_t, X'_v, X'_v), a stack of :class:`FusionLayer` with a final norm.

    Args:
        width: D.
        layers: How many layers.
        heads: h.
        feed_forward: Width of the feed-forward layers.
        dropout: Probability of dropout.
        make_layer: Makes a layer from width, heads, feed_forward and dropout.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        make_layer: Callable[[int, int, int, float], FusionLayer] = FusionLayer,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"the image features are {width} wide, which {heads} fusion heads do not divide",
                "Choose fusion_heads so that it divides the width.",
            )
        self.layers = nn.ModuleList(
            make_layer(width, heads, feed_forward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        padding: Tensor | None = None,
        need_attention: bool = False,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse; shapes as in :class:`FusionLayer`, with ``rows`` (B,), the memory of each row.

        Returns:
            (B, T, D) and, if asked for, the weights of all layers, (B, layers, h, T, M).
        """
        if torch.is_autocast_enabled(memory.device.type):  # once, not in each layer
            memory = memory.to(torch.get_autocast_dtype(memory.device.type))
        groups = None if rows is None else group_questions(rows, len(memory))
        maps = []
        for layer in self.layers:
            queries, weights = layer(queries, memory, padding, groups)
            if need_attention:
                if groups is not None:
                    weights = groups.release(weights.transpose(1, 2)).transpose(1, 2)
                maps.append(weights)
        return self.norm(queries), torch.stack(maps, dim=1) if need_attention else None

    def set_dropout(self, probability: float) -> None:
        """Change the dropout, which training alone uses and no weight depends on."""
        for layer in self.layers:
            layer = cast("FusionLayer", layer)
            layer.self_attn.dropout = layer.multihead_attn.dropout = probability
            layer.dropout.p = probability


def make_projection(layers: int, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """A projection of Eq. (2) or the text MLP: linear, or linear, ReLU, linear."""
    if layers == 1:
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class FeatureFusion(nn.Module):
    """From the grid X_v and the embedded question to the visual tokens X_{v|t}.

    Args:
        grid: Height, width and channels (D) of X_v.
        text_width: d, the width of the language model.
        decoder: The fusion decoder, D wide; it resamples the image too.
        num_visual_tokens: V, learned queries that resample X_v.
        scales: S, or ``"auto"``.
        projection_layers: Linear layers of the text MLP and of each projection of Eq. (2), 1 or 2.
        text_hidden: Hidden width of a text MLP of two layers.
        beta_init: Initial value of the gate.
    """

    enabled = True  # not so in the ablation of Table 2, "w/o fm"

    def __init__(
        self,
        grid: tuple[int, int, int],
        text_width: int,
        decoder: FusionDecoder,
        num_visual_tokens: int = 32,
        scales: int | Literal["auto"] = "auto",
        projection_layers: int = 2,
        text_hidden: int = 2048,
        beta_init: float = 0.2,
    ) -> None:
        super().__init__()
        height, width, channels = grid
        self.grid = (height, width)
        self.scales = resolve_scales(scales, height, width)
        self.decoder = decoder
        # as large as what they see at first: larger queries drown the image, smaller ones drown in
        # it and become one
        self.queries = nn.Parameter(0.3 * torch.randn(num_visual_tokens, channels))
        self.project = make_projection(projection_layers, channels, channels, text_width)
        self.text_mlp = make_projection(projection_layers, text_width, text_hidden, channels)
        self.project_gated = make_projection(projection_layers, channels, channels, text_width)
        self.beta = nn.Parameter(torch.tensor(float(beta_init)))

    def set_dropout(self, probability: float) -> None:
        """Change the dropout of the decoder."""
        self.decoder.set_dropout(probability)

    def pool(self, grid_features: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder attends to: X'_v for questions, (B, M, D), and the cells, (B, N * N, D).

        Args:
            grid_features: X_v, (B, N, N, D).
        """
        return multi_scale_pool(grid_features, self.scales), grid_features.flatten(1, 2)

    def encode_image(self, grid_features: Tensor) -> ImageEncoding:
        """Everything about an image that does not depend on the question.

        Args:
            grid_features: X_v, (B, N, N, D).
        """
        blocks, cells = self.pool(grid_features)
        queries = self.queries.expand(cells.shape[0], -1, -1)
        resampled, _ = self.decoder(queries, cells)
        summary = torch.cat(
            [grid_features.mean((1, 2), dtype=torch.float32), grid_features.amax((1, 2)).float()],
            -1,
        )
        return ImageEncoding(blocks, self.project(resampled), summary)

    def fuse(
        self,
        image: ImageEncoding,
        question: Tensor,
        mask: Tensor,
        need_attention: bool,
        rows: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Eq. (1): X_vt = Fusion(X_t, X'_v, X'_v) with X_t = MLP(question), and the attention.

        Arguments as of :meth:`forward`, the mask boolean; X_vt is (B, T, D).
        """
        return self.decoder(self.text_mlp(question), image.blocks, ~mask, need_attention, rows)

    def forward(
        self,
        image: ImageEncoding,
        question: Tensor,
        question_mask: Tensor,
        need_attention: bool = False,
        rows: Tensor | None = None,
    ) -> VisualTokens:
        """Condition an image on a question, Eq. (1) and (2).

        Args:
            image: From :meth:`encode_image`, one row per question; or fewer, with ``rows``.
            question: Embeddings of the question by the language model, (B, T, d), T <= V.
            question_mask: (B, T), true where a token is real.
            need_attention: Return the cross-attention too.
            rows: (B,), the row of ``image`` that each question is about.
        """
        tokens = image.tokens if rows is None else image.tokens[rows]
        mask = question_mask.bool()
        fused, attention = self.fuse(image, question, mask, need_attention, rows)
        conditioned = self.project_gated(fused) * mask.unsqueeze(-1)
        missing = tokens.shape[1] - conditioned.shape[1]
        conditioned = F.pad(conditioned, (0, 0, 0, missing))
        return VisualTokens(gated_sum(tokens, conditioned, self.beta), attention)
