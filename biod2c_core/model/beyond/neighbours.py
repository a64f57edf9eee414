"""What lies beside what: the fusion decoder adds up single blocks and loses it (not in the paper).

Notation used for tensor shapes:

- B: batch, T: question tokens, M: blocks of all scales, N: side of the grid, D: width of the image
  features, h: heads
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biod2c_core.model.equations import masked_mean
from biod2c_core.ops.dropout import Dropout


class NeighbourMixing(nn.Module):
    """X_v + W ReLU(C * X_v), where C * is a convolution over the eight neighbours of each cell and itself.

    The decoder adds up single cells, and which lies beside which is lost: what an arrow points
    to lies around its tip. W is zero at first, so that a trained model in which it is put answers as before.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.mix = nn.Linear(channels, channels)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, grid_features: Tensor) -> Tensor:
        """Add to each cell what is around it; (B, N, N, D) in and out."""
        around = self.neighbours(grid_features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return grid_features + self.mix(around.relu())


class MapReading(nn.Module):
    """What lies under the map and around it, read once more: R = W ReLU(C P), one vector a question.

    P = [sum over i of a_i Y_(i + o)], for o itself and its eight neighbours: Y are the layer-normalised
    blocks of the finest scale, a the weights that the cross-attention gives them, averaged over layers,
    heads and the tokens of the question, and made to sum to 1. The decoder adds up single blocks, so that
    which lies beside which is lost; here it is kept, and an answer is read where the map points. W is zero at
    first, so that a trained model in which it is put answers as before.

    Args:
        channels: D.
        side: Blocks in a row of the finest scale.
        probability: Dropout of the hidden layer.
    """

    def __init__(self, channels: int, side: int, probability: float) -> None:
        super().__init__()
        self.side = side
        self.around = nn.Linear(9 * channels, channels // 2)
        self.read = nn.Linear(channels // 2, channels)
        self.dropout = Dropout(probability)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

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
