"""Table 2, "w/o fm": the image goes to the language model as it is resampled, without the question."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from biod2c_core.model.beyond.extension import ExtendedFusion
from biod2c_core.model.fusion import FeatureFusion, ImageEncoding, VisualTokens


class WithoutFusion(ExtendedFusion):
    """Eq. (2) without its second term: X_{v|t} = Proj(X_v); arguments as of :class:`FeatureFusion`."""

    enabled = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.text_mlp, self.project_gated, self.beta

    @classmethod
    def sharing(cls, fusion: FeatureFusion) -> WithoutFusion:
        """The same module, weights shared, without the second term."""
        made: Any = copy.copy(fusion)
        made.__class__ = cls
        return made

    def forward(
        self,
        image: ImageEncoding,
        question: Tensor,
        question_mask: Tensor,
        need_attention: bool = False,
        rows: Tensor | None = None,
    ) -> VisualTokens:
        """The image's own tokens; arguments as in :meth:`FeatureFusion.forward`."""
        return VisualTokens(image.tokens if rows is None else image.tokens[rows], None)
