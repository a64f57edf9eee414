"""Python's garbage collector while libraries are imported, which make much and drop nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Import and load without looking for garbage, a fifth of the processor time of both.

    Every few hundred objects that torch, transformers and timm make as they are imported, the collector
    searches what they have made before, and finds nothing. Around whatever imports them first, and the
    loading of the model that follows; what runs longer needs the collector.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
