"""The engine for several machines: Ray Data decodes on the CPUs of a cluster and scores on its GPUs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.decode import PreparedImage, batched, prepare_image
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.scoring import BATCH, Score, score_batch
from biod2c_core.curation.filter_images.sources import Item
from biod2c_core.errors import InputError, MissingDependencyError

_BLOCK = 8  # batches that Ray moves together; a kill loses at most those in flight


def score_on_ray(
    items: Sequence[Item], encoder: ImageEncoder, image_filter: ImageFilter
) -> Iterator[list[Score]]:
    """Scores from a Ray cluster, as they come.

    The cluster is the one that ``RAY_ADDRESS`` names or that runs on this machine; without any, Ray
    starts on this machine alone. It scores on CPUs if it has no GPU. Every machine must see the image
    files under the same names and have this package; the weights are sent.

    Args:
        items: The images.
        encoder: On the CPU.
        image_filter: The head.

    Raises:
        InputError: The cluster cannot be reached, or failed.
        MissingDependencyError: Ray is not installed.
    """
    ray = import_ray()
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.WARNING)
        for row in _plan(ray, items, encoder, image_filter).iter_rows():
            yield [Score(*values) for values in json.loads(row["scores"])]
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise InputError(
            f"the Ray cluster failed: {reason}",
            "Run the same command again; finished work is kept.",
        ) from error


def import_ray() -> Any:
    """The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unless asked for
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError("ray", "distributed") from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    return ray


def _plan(ray: Any, items: Sequence[Item], encoder: ImageEncoder, image_filter: ImageFilter) -> Any:
    """The dataset whose rows are the scores of a batch each."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"items": json.dumps(batch)} for batch in batched(items, BATCH)]
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = gpus or max(1, int(resources.get("CPU", 1)))
    return (
        ray.data.from_items(rows, override_num_blocks=-(-len(rows) // _BLOCK))
        .map(_Decode(encoder.side))
        .map(
            _Scorer,
            fn_constructor_args=(encoder, image_filter, "cuda" if gpus else "cpu"),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_gpus=1 if gpus else 0,
        )
    )


@dataclass(frozen=True)
class _Batch:
    """Keeps decoded images together as one value of a row."""

    images: list[PreparedImage]


@dataclass(frozen=True)
class _Decode:
    """Items to decoded images."""

    side: int

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        items = (Item(*values) for values in json.loads(row["items"]))
        return {"batch": _Batch([prepare_image(item, self.side) for item in items])}


class _Scorer:
    """Decoded images to scores; lives as long as the process that has loaded the weights."""

    def __init__(self, encoder: ImageEncoder, image_filter: ImageFilter, device: str) -> None:
        self.encoder = encoder.to(device)
        self.image_filter = image_filter

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scores = score_batch(row["batch"].images, self.encoder, self.image_filter)
        return {"scores": json.dumps([astuple(score) for score in scores])}
