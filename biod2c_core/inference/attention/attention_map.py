"""A map of where a model looked, and which of its attentions it is; nothing heavy is needed for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from biod2c_core.errors import InputError

Method = Literal["fusion", "language", "gradient"]
METHODS: tuple[Method, ...] = ("fusion", "language", "gradient")


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        InputError: There is none.
    """
    for method in METHODS:
        if method == name:
            return method
    raise InputError(f"unknown method {name!r}", f"Use one of: {', '.join(METHODS)}.")


@dataclass(frozen=True)
class View:
    """Which attention is shown.

    Attributes:
        method: ``fusion``: the question's cross-attention to the multi-scale blocks; ``language``:
            the language model's attention to the visual tokens, traced through the resampler;
            ``gradient``: ``fusion`` weighted by how much it speaks for the answer.
        layers: Layers to average, from 1; None for all. Of the fusion decoder, or for
            ``language`` of the language model.
        heads: Heads to average, from 1; None for all.
        scales: Scales of the blocks to keep, from 1 (the whole image); None for all.
    """

    method: Method = "fusion"
    layers: Collection[int] | None = None
    heads: Collection[int] | None = None
    scales: Collection[int] | None = None


@dataclass(frozen=True)
class AttentionMap:
    """Where the model looked for one answer.

    Attributes:
        question: The question.
        answer: The answer.
        confidence: Of the answer.
        view: Which attention this is.
        values: (H, W) over the image stretched to the grid, float64, sum 1.
        tokens: The answer's tokens as text, without its end.
        token_values: (tokens, H, W), the map of each token.
        calibrated: Whether the confidence is calibrated.
        familiarity: Of the image, 0 to 1; None where the checkpoint has no reference.
    """

    question: str
    answer: str
    confidence: float
    view: View
    values: np.ndarray
    tokens: tuple[str, ...] = ()
    token_values: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1)))
    calibrated: bool = False
    familiarity: float | None = None
