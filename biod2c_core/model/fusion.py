"""Section 3.1: the image-text fusion mechanism, from X_v and the question to X_{v|t}.

Notation used for tensor shapes:

- B: batch, T: question tokens, V: visual tokens, M: blocks of all scales, D: width of the image
  features, d: width of the language model, h: heads
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model.attention import QuestionGroups, attend, group_questions
from biod2c_core.model.beyond.neighbours import MapReading, NeighbourMixing
from biod2c_core.model.beyond.positions import block_positions, cell_positions
from biod2c_core.model.equations import gated_sum
from biod2c_core.ops.dropout import Dropout
from biod2c_core.ops.multi_scale_pool import multi_scale_pool, resolve_scales


class ImageEncoding(NamedTuple):
    """What is known of an image before any question.

    Attributes:
        blocks: X'_v, the multi-scale features, (B, M, D).
        tokens: Proj of the resampled X_v, the first term of Eq. (2), (B, V, d).
    """

    blocks: Tensor
    tokens: Tensor


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
    weights are named as in ``torch.nn.TransformerDecoderLayer`` and give the same numbers (unless the
    cross-attention is normalized).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        probability: float,
        normalize: bool = False,
        normalize_queries: bool = False,
    ) -> None:
        super().__init__()
        self.sharpness = _sharpness(heads) if normalize else None
        self.self_sharpness = _sharpness(heads) if normalize_queries else None
        self.self_attn = nn.MultiheadAttention(width, heads, probability, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, probability, batch_first=True)
        self.linear1 = nn.Linear(width, feed_forward)
        self.linear2 = nn.Linear(feed_forward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = Dropout(probability)

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
        attended, _ = attend(self.self_attn, x, x, padding, sharpness=self.self_sharpness)
        queries = queries + self.dropout(attended)
        x = self.norm2(queries)
        asked, rows = (x, None) if groups is None else (groups.gather(x), groups.rows)
        attended, weights = attend(
            self.multihead_attn, asked, memory, rows=rows, sharpness=self.sharpness
        )
        if groups is not None:
            attended = groups.release(attended)
        queries = queries + self.dropout(attended)
        hidden = self.dropout(self.linear1(self.norm3(queries)).relu())
        return queries + self.dropout(self.linear2(hidden)), weights


def _sharpness(heads: int) -> nn.Parameter:
    """Of heads that are twice as sharp at first as plain scores of such queries and keys."""
    return nn.Parameter(torch.full((heads,), math.log(2)))


class FusionDecoder(nn.Module):
    """Eq. (1): X_vt = Fusion(X_t, X'_v, X'_v), a stack of :class:`FusionLayer` with a final norm.

    With ``normalize``, what is attended to is layer-normalised, and cross-attention compares the
    directions of queries and keys, times the ``sharpness`` that each head learns: long features alone
    cannot saturate a head, which would stop its learning.

    With ``normalize_queries``, the queries are layer-normalised before the first layer, and self-attention
    compares directions too: embedded words are short, and would drown in what the first self-attention
    adds to them, so that what is asked hardly changes where a layer looks.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        normalize: bool = False,
        normalize_queries: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"the image features are {width} wide, which {heads} fusion heads do not divide",
                "Choose fusion_heads so that it divides the width.",
            )
        self.layers = nn.ModuleList(
            FusionLayer(width, heads, feed_forward, dropout, normalize, normalize_queries)
            for _ in range(layers)
        )
        self.normalize = normalize
        self.normalize_queries = normalize_queries
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
        if self.normalize_queries:
            queries = F.layer_norm(queries, queries.shape[-1:])
        if self.normalize:
            memory = F.layer_norm(memory, memory.shape[-1:])
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
        num_visual_tokens: V, learned queries that resample X_v through the same decoder.
        scales: S, or ``"auto"``.
        layers: Layers of the fusion decoder.
        heads: Attention heads of the fusion decoder.
        feed_forward: Width of its feed-forward layers.
        dropout: Dropout in it.
        projection_layers: Linear layers of the text MLP and of each projection of Eq. (2), 1 or 2.
        text_hidden: Hidden width of a text MLP of two layers.
        beta_init: Initial value of the gate.
        encode_positions: Add :func:`~biod2c_core.model.beyond.positions.encode_boxes` to what the decoder
            attends to.
        normalize_attention: ``normalize`` of :class:`FusionDecoder`.
        normalize_queries: As in :class:`FusionDecoder`.
        mix_neighbours: Pass X_v through :class:`NeighbourMixing` first.
        read_map: Add :class:`MapReading` to X_vt.
        enabled: False leaves out the gated term of Eq. (2) (the paper's "w/o fm").
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        text_width: int,
        num_visual_tokens: int = 32,
        scales: int | Literal["auto"] = "auto",
        layers: int = 12,
        heads: int = 8,
        feed_forward: int = 1024,
        dropout: float = 0.1,
        projection_layers: int = 2,
        text_hidden: int = 2048,
        beta_init: float = 0.2,
        encode_positions: bool = False,
        normalize_attention: bool = False,
        normalize_queries: bool = False,
        mix_neighbours: bool = False,
        read_map: bool = False,
        enabled: bool = True,
    ) -> None:
        super().__init__()
        height, width, channels = grid
        self.grid = (height, width)
        self.scales = resolve_scales(scales, height, width)
        self.enabled = enabled
        self.decoder = FusionDecoder(
            channels,
            layers,
            heads,
            feed_forward,
            dropout,
            normalize_attention,
            normalize_queries,
        )
        # as large as what they see at first: larger queries drown the image, smaller ones drown in
        # it and become one
        self.queries = nn.Parameter(0.3 * torch.randn(num_visual_tokens, channels))
        self.project = make_projection(projection_layers, channels, channels, text_width)
        if enabled:
            self.text_mlp = make_projection(projection_layers, text_width, text_hidden, channels)
            self.project_gated = make_projection(projection_layers, channels, channels, text_width)
            self.beta = nn.Parameter(torch.tensor(float(beta_init)))
        self.encode_positions = encode_positions
        self.mixing = NeighbourMixing(channels) if mix_neighbours else None
        self.reading: MapReading | None = None
        if read_map:
            self.read_map()

    def mix_neighbours(self) -> None:
        """Put :class:`NeighbourMixing` in, in place, where there is none."""
        if self.mixing is None:
            self.mixing = NeighbourMixing(self.queries.shape[1]).to(self.queries)

    def read_map(self) -> None:
        """Put :class:`MapReading` in, in place, where there is none."""
        if self.reading is None:
            first = cast("FusionLayer", self.decoder.layers[0])
            self.reading = MapReading(
                self.queries.shape[1], 2 ** (self.scales - 1), first.dropout.p
            ).to(self.queries)

    def set_dropout(self, probability: float) -> None:
        """Change the dropout, which training alone uses and no weight depends on."""
        for layer in self.decoder.layers:
            layer = cast("FusionLayer", layer)
            layer.self_attn.dropout = layer.multihead_attn.dropout = probability
            layer.dropout.p = probability
        if self.reading is not None:
            self.reading.dropout.p = probability

    def encode_image(self, grid_features: Tensor) -> ImageEncoding:
        """Everything about an image that does not depend on the question.

        Args:
            grid_features: X_v, (B, N, N, D).
        """
        if self.mixing is not None:
            grid_features = self.mixing(grid_features)
        blocks = multi_scale_pool(grid_features, self.scales)
        cells = grid_features.flatten(1, 2)
        if self.encode_positions:
            shape = tuple(grid_features.shape[1:])
            blocks = blocks + block_positions(*shape, self.scales, blocks.device).to(blocks.dtype)
            cells = cells + cell_positions(*shape, cells.device).to(cells.dtype)
        queries = self.queries.expand(cells.shape[0], -1, -1)
        resampled, _ = self.decoder(queries, cells)
        return ImageEncoding(blocks, self.project(resampled))

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
            image: From :meth:`encode_image`, one row a question; or fewer, with ``rows``.
            question: Embeddings of the question by the language model, (B, T, d), T <= V.
            question_mask: (B, T), true where a token is real.
            need_attention: Return the cross-attention too.
            rows: (B,), the row of ``image`` that each question is about.
        """
        tokens = image.tokens if rows is None else image.tokens[rows]
        if not self.enabled:
            return VisualTokens(tokens, None)
        mask = question_mask.bool()
        shown = need_attention or self.reading is not None
        fused, attention = self.decoder(self.text_mlp(question), image.blocks, ~mask, shown, rows)
        if self.reading is not None and attention is not None:
            fused = fused + self.reading(image.blocks, attention, mask, rows).unsqueeze(1)
        conditioned = self.project_gated(fused) * mask.unsqueeze(-1)
        missing = tokens.shape[1] - conditioned.shape[1]
        conditioned = F.pad(conditioned, (0, 0, 0, missing))
        return VisualTokens(gated_sum(tokens, conditioned, self.beta), attention)
