"""The control with masked text, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def masked_notes(result: dict[str, Any], labels: Mapping[str, str]) -> list[str]:
    """What masking text has changed, one sentence a column; nothing where it was not asked for.

    Args:
        result: ``result.json``.
        labels: Column to its name.
    """
    masked = result.get("masked_text")
    if masked is None:
        return []
    found = [
        f"Text masked in {masked['images_with_text']:,} of {masked['images']:,} images "
        f"({masked['questions']:,} questions), over all questions:"
    ]
    for key, test in masked["all_questions"].items():
        interval = ""
        if test["low"] is not None:
            interval = f" (95% interval {test['low']:+.3f} to {test['high']:+.3f})"
        found.append(
            f"{labels[key]}: {test['first']:.3f} as they are, {test['second']:.3f} masked, "
            f"difference {test['difference']:+.3f}{interval}, p {test['p']:.4f}"
        )
    return found
