"""One prediction run on several devices: a process and a file each, merged into one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.data.records import Record
from biod2c_core.errors import BioD2CError
from biod2c_core.evaluation.predict.answers import AnswersQuestions
from biod2c_core.evaluation.predict.asking import USUAL, Asking
from biod2c_core.evaluation.predict.predict import predict
from biod2c_core.evaluation.predict.predictions_file import (
    MANIFEST_SUFFIX,
    PredictionLog,
    manifest_path,
    read_manifest,
    shard_path,
)
from biod2c_core.workers import portable, worker_pool

_POLL = 0.2  # seconds


@dataclass(frozen=True)
class Job:
    """What every process of a run is told.

    Attributes:
        load_model: Called with checkpoint and device; must be picklable.
        checkpoint: How the model is named.
        records: All questions of the run.
        image_root: Folder of the images.
        path: The predictions file of the run.
        shuffle_seed: As in :func:`biod2c_core.evaluation.predict.predict.predict`.
        asking: As there.
        limit: As there.
    """

    load_model: Callable[[str | None, str], AnswersQuestions]
    checkpoint: str | None
    records: Sequence[Record]
    image_root: Path
    path: Path
    shuffle_seed: int | None
    asking: Asking = USUAL
    limit: int | None = None


def _run_shard(job: Job, device: str, index: int, count: int) -> BioD2CError | None:
    """Answer every ``count``-th batch that the run's file does not answer yet."""
    try:
        predict(
            job.load_model(job.checkpoint, device),
            job.records,
            job.image_root,
            job.path,
            checkpoint=job.checkpoint,
            shuffle_seed=job.shuffle_seed,
            asking=job.asking,
            limit=job.limit,
            shard=(index, count),
        )
    except BioD2CError as error:
        return portable(error)
    return None


def absorb_shards(path: Path) -> None:
    """Move what shard files hold into the run's file and remove them; safe to be killed in.

    Raises:
        InputError: A shard belongs to another run, or another process is writing it.
    """
    if not path.parent.is_dir():
        return
    prefix = f"{path.name}.shard-"
    for shard in sorted(path.parent.iterdir()):
        if not shard.name.startswith(prefix):
            continue
        if shard.name.endswith(MANIFEST_SUFFIX):
            if not Path(str(shard).removesuffix(MANIFEST_SUFFIX)).exists():
                shard.unlink(missing_ok=True)
        elif (manifest := read_manifest(shard)) is not None:
            with PredictionLog(shard, manifest) as part, PredictionLog(path, manifest) as whole:
                whole.append(row for name, row in part.done.items() if name not in whole.done)
                shard.unlink()
            manifest_path(shard).unlink()


def predict_on(
    devices: Sequence[str],
    job: Job,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Answer the questions of a run with one process per device.

    Killed at any moment and started again, also on another number of devices, no question is
    answered twice and none is lost.

    Args:
        devices: Where the processes run.
        job: What they do.
        advance: Called with the number of questions done.

    Raises:
        BioD2CError: A process failed; what the others answered is kept.
    """
    _repair(job.path)
    absorb_shards(job.path)
    seen = _count_rows(job.path, 0)
    advance(seen)
    remedy = "Run the same command again; what was answered is kept."
    with worker_pool(len(devices), "answers questions", remedy) as pool:
        futures: list[Future[BioD2CError | None]] = [
            pool.submit(_run_shard, job, device, index, len(devices))
            for index, device in enumerate(devices)
        ]
        while not all(future.done() for future in futures):
            time.sleep(_POLL)
            now = _count_rows(job.path, len(devices))
            advance(now - seen)
            seen = now
        errors = [future.result() for future in futures]
    absorb_shards(job.path)
    for error in errors:
        if error is not None:
            raise error
    advance(_count_rows(job.path, 0) - seen)


def _repair(path: Path) -> None:
    """Drop a line that a kill has cut off."""
    if (manifest := read_manifest(path)) is not None:
        PredictionLog(path, manifest).close()


def _count_rows(path: Path, shards: int) -> int:
    files = [path, *(shard_path(path, index) for index in range(shards))]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())
