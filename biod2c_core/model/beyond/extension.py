"""The two places where something can be put into the fusion of section 3.1, and what is put there.

An extension is one class: what it does before or after the pooling, and what it adds to the fused
question. :data:`EXTENSIONS` says which switch of the model puts in which.

Notation used for tensor shapes:

- B: batch, T: question tokens, N: side of the grid, M: blocks of all scales, D: width of the image
  features, h: heads
"""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model.fusion import FeatureFusion, ImageEncoding


class Extension(nn.Module):
    """Something put into the fusion. A subclass overrides what it changes.

    Attributes:
        attribute: Name of its weights in the fusion module.
        reads_attention: Whether :meth:`after_fusion` needs the cross-attention.
    """

    attribute: ClassVar[str]
    reads_attention: ClassVar[bool] = False

    @classmethod
    def build(cls, fusion: FeatureFusion) -> Extension:
        """Make it for a fusion module."""
        raise NotImplementedError

    def set_dropout(self, probability: float) -> None:
        """Change its dropout, if it has some."""

    def before_pooling(self, grid_features: Tensor) -> Tensor:
        """X_v, as it is pooled and resampled; (B, N, N, D) in and out."""
        return grid_features

    def after_pooling(self, blocks: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder attends to: X'_v, (B, M, D), and the cells, (B, N * N, D)."""
        return blocks, cells

    def after_fusion(
        self,
        fused: Tensor,
        image: ImageEncoding,
        attention: Tensor | None,
        mask: Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        """X_vt, as it is projected into the language model.

        Args:
            fused: (B, T, D).
            image: From ``encode_image``.
            attention: (B, layers, h, T, M), if any extension reads it.
            mask: (B, T), bool, true where a token is real.
            rows: (B,), the row of ``image`` of each question; by default its own.
        """
        return fused


EXTENSIONS: dict[
    str, type[Extension]
] = {}  # by the switch that puts them in, in the order they act


def register_extension(switch: str, extension: type[Extension]) -> None:
    """Let a switch of the model's configuration put an extension into the fusion.

    Raises:
        ConfigError: The switch, or the attribute, is taken.
    """
    taken = {each.attribute for each in EXTENSIONS.values()}
    if switch in EXTENSIONS or extension.attribute in taken:
        raise ConfigError(
            f"the switch {switch!r} or the attribute {extension.attribute!r} is registered already",
            "Choose other names.",
        )
    EXTENSIONS[switch] = extension


class ExtendedFusion(FeatureFusion):
    """:class:`FeatureFusion` with what has been put in."""

    def extend(self, switch: str) -> None:
        """Put in the extension of a switch, in place, unless it is there.

        Raises:
            ConfigError: No extension belongs to this switch.
        """
        if switch not in EXTENSIONS:
            raise ConfigError(
                f"no extension of the fusion is called {switch!r}",
                f"Known: {', '.join(EXTENSIONS)}.",
            )
        extension = EXTENSIONS[switch]
        if extension.attribute not in self._modules:
            self.add_module(extension.attribute, extension.build(self).to(self.queries))

    @property
    def extensions(self) -> list[Extension]:
        """What has been put in, in the order it acts."""
        found = (self._modules.get(each.attribute) for each in EXTENSIONS.values())
        return [cast("Extension", each) for each in found if each is not None]

    def set_dropout(self, probability: float) -> None:
        """Change the dropout, of the extensions too."""
        super().set_dropout(probability)
        for each in self.extensions:
            each.set_dropout(probability)

    def pool(self, grid_features: Tensor) -> tuple[Tensor, Tensor]:
        """As in :meth:`FeatureFusion.pool`, extended."""
        for each in self.extensions:
            grid_features = each.before_pooling(grid_features)
        blocks, cells = super().pool(grid_features)
        for each in self.extensions:
            blocks, cells = each.after_pooling(blocks, cells)
        return blocks, cells

    def fuse(
        self,
        image: ImageEncoding,
        question: Tensor,
        mask: Tensor,
        need_attention: bool,
        rows: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """As in :meth:`FeatureFusion.fuse`, extended."""
        reads = any(each.reads_attention for each in self.extensions)
        fused, attention = super().fuse(image, question, mask, need_attention or reads, rows)
        for each in self.extensions:
            fused = each.after_fusion(fused, image, attention, mask, rows)
        return fused, attention
