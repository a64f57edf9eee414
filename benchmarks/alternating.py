"""Two functions timed in turn, so that a drift of the machine meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def compare(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeat: int
) -> tuple[float, Any, Any]:
    """Median of theirs / ours in processor time, taken in turn, and what each gave."""
    results, ratios = (ours(), theirs()), []
    for _ in range(repeat):
        spent = []
        for function in (ours, theirs):
            begin = time.process_time()
            function()
            spent.append(time.process_time() - begin)
        ratios.append(spent[1] / max(spent[0], 1e-9))
    return statistics.median(ratios), *results
