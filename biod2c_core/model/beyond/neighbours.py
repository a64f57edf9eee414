"""Each cell of the image sees its neighbours before the fusion (not in the paper).

Notation used for tensor shapes:

- B: batch, N: side of the grid, D: width of the image features
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from biod2c_core.model.beyond.extension import Extension
from biod2c_core.model.fusion import FeatureFusion


class NeighbourMixing(Extension):
    """A residual convolution: X_v + W ReLU(C * X_v), C over each cell and its eight neighbours.

    The decoder adds up single cells, and which lies beside which is lost: what an arrow points
    to lies around its tip. W is zero at first, so that a trained model in which it is put answers as before.

    Args:
        channels: D.
    """

    attribute: ClassVar[str] = "mixing"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.mix = nn.Linear(channels, channels)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    @classmethod
    def build(cls, fusion: FeatureFusion) -> NeighbourMixing:
        """As wide as the image features."""
        return cls(fusion.queries.shape[1])

    def before_pooling(self, grid_features: Tensor) -> Tensor:
        """Add to each cell what is around it; (B, N, N, D) in and out."""
        around = self.neighbours(grid_features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return grid_features + self.mix(around.relu())
