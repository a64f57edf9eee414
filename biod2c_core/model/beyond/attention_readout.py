"""What lies under the attention map and around it is read once more (not in the paper).

The decoder adds up single blocks, and which lies beside which is lost; here an answer is read where the map
points, and answers teach the map.

Notation used for tensor shapes:

- B: batch, T: question tokens, M: blocks of all scales, D: width of the image features, h: heads
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.model.beyond.extension import Extension
from biod2c_core.model.equations import masked_mean
from biod2c_core.model.fusion import FeatureFusion, FusionLayer, ImageEncoding
from biod2c_core.ops.dropout import Dropout


class AttentionReadout(Extension):
    """R = W ReLU(C P), one vector per question, added to X_vt.

    P = [sum over i of a_i Y_(i + o)], for o itself and its eight neighbours: Y are the layer-normalized
    blocks of the finest scale, a the weights that the cross-attention gives them, averaged over layers,
    heads and the tokens of the question, and made to sum to 1. The decoder adds up single blocks, so that
    which lies beside which is lost; here it is kept, and an answer is read where the map points. W is zero at
    first, so that a trained model in which it is put answers as before.

    Args:
        channels: D.
        side: Blocks in a row of the finest scale.
        probability: Dropout of the hidden layer.
    """

    attribute: ClassVar[str] = "reading"
    reads_attention: ClassVar[bool] = True

    def __init__(self, channels: int, side: int, probability: float) -> None:
        super().__init__()
        self.side = side
        self.around = nn.Linear(9 * channels, channels // 2)
        self.read = nn.Linear(channels // 2, channels)
        self.dropout = Dropout(probability)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    @classmethod
    def build(cls, fusion: FeatureFusion) -> AttentionReadout:
        """As wide as the image features, for the finest scale, with the decoder's dropout."""
        first = cast("FusionLayer", fusion.decoder.layers[0])
        return cls(fusion.queries.shape[1], 2 ** (fusion.scales - 1), first.dropout.p)

    def set_dropout(self, probability: float) -> None:
        """Change the dropout of the hidden layer."""
        self.dropout.p = probability

    def after_fusion(
        self,
        fused: Tensor,
        image: ImageEncoding,
        attention: Tensor | None,
        mask: Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        """X_vt + R, the same R for every token of a question."""
        assert attention is not None  # reads_attention asks for it
        return fused + self(image.blocks, attention, mask, rows).unsqueeze(1)

    def forward(
        self, blocks: Tensor, attention: Tensor, mask: Tensor, rows: Tensor | None
    ) -> Tensor:
        """Read.

        Args:
            blocks: X'_v, (images, M, D).
            attention: (B, layers, h, T, M).
            mask: (B, T), true where a token of the question is real.
            rows: (B,), the image of each question; by default its own.

        Returns:
            R, (B, D).
        """
        finest = blocks[:, -(self.side**2) :]
        finest = F.layer_norm(finest, finest.shape[-1:])
        weights = masked_mean(attention[..., -(self.side**2) :].float().mean((1, 2)), mask)
        weights = weights / weights.sum(-1, keepdim=True)
        placed = F.pad(weights.unflatten(-1, (self.side, self.side)), (1, 1, 1, 1))
        shifted = [
            placed[:, 1 - down : 1 - down + self.side, 1 - right : 1 - right + self.side]
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        ]
        seen = torch.stack(shifted, 1).flatten(2).to(finest.dtype)
        seen = seen @ (finest if rows is None else finest.index_select(0, rows))
        hidden: Tensor = self.around(seen.flatten(1)).relu()
        read: Tensor = self.read(self.dropout(hidden))
        return read
