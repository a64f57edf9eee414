"""From image files to what the classifier looks at, in several processes. No torch in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from biod2c_core.curation.filter_images.layout import SIDE, layout_features
from biod2c_core.curation.filter_images.sources import Item, picture_checksum, read_image
from biod2c_core.errors import ImageError
from biod2c_core.ops.square import square
from biod2c_core.workers import worker_pool

_CHUNK = 8  # images a task
_AHEAD = 3  # tasks a process
T = TypeVar("T")


class PreparedImage(NamedTuple):
    """One decoded image.

    Attributes:
        item: Which.
        pixels: uint8 (side, side, 3), or None if it cannot be used.
        layout: float32 (K,), see :mod:`.layout`.
        checksum: Of its bytes, see :func:`.sources.picture_checksum`.
        problem: Why it cannot be used.
    """

    item: Item
    pixels: np.ndarray | None
    layout: np.ndarray | None
    checksum: str
    problem: str = ""


def prepare_image(item: Item, side: int) -> PreparedImage:
    """Decode an image, scale it to a square as the encoder wants it, and measure its layout."""
    checksum = picture_checksum(item)  # first: of a file replaced meanwhile it will not be the one
    try:
        picture = read_image(item)
    except ImageError as error:
        return PreparedImage(item, None, None, checksum, error.problem)
    except OSError as error:
        problem = f"cannot read {item.name}: {error.strerror}"
        return PreparedImage(item, None, None, checksum, problem)
    pixels = square(picture, side)
    plain = pixels if side == SIDE else square(picture, SIDE)
    layout = layout_features(plain, picture.width / picture.height)
    return PreparedImage(item, pixels, layout, checksum)


def prepare_images(items: Iterable[Item], side: int, workers: int) -> Iterator[PreparedImage]:
    """Prepare images in order, a bounded number ahead of the caller.

    Args:
        items: What to decode.
        side: Pixels of the square.
        workers: Processes; 0 decodes in this one.

    Raises:
        InputError: A process died, as it does when memory runs out.
        MissingDependencyError: DICOM or NIfTI without the extra ``medical``.
    """
    if workers < 1:
        for item in items:
            yield prepare_image(item, side)
        return
    chunks = batched(items, _CHUNK)
    remedy = "Run the same command again with fewer --workers; finished work is kept."
    with worker_pool(workers, "decodes", remedy) as pool:
        waiting: deque[Future[list[PreparedImage]]] = deque(
            pool.submit(_prepare_chunk, chunk, side) for chunk in islice(chunks, _AHEAD * workers)
        )
        while waiting:
            done = waiting.popleft().result()
            if (chunk := next(chunks, None)) is not None:
                waiting.append(pool.submit(_prepare_chunk, chunk, side))
            yield from done


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` values, the last one shorter."""
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch


def _prepare_chunk(items: Sequence[Item], side: int) -> list[PreparedImage]:
    return [prepare_image(item, side) for item in items]
