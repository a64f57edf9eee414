"""Who scores the images of a run: this process, one process for each GPU, or the machines of a Ray cluster.

All do the same work on the same batches; they differ in where it is done. The rows come back to the
process that asked, which alone writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import cast

import torch

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.decode import batched
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.engines.ray_cluster import import_ray, score_on_ray
from biod2c_core.curation.filter_images.scoring import BATCH, Engine, Score, score_images
from biod2c_core.curation.filter_images.sources import Item
from biod2c_core.errors import BioD2CError, InputError
from biod2c_core.workers import end_with_parent

ENGINES = ("local", "ray")


def choose_engine(name: str, gpus: int, workers: int) -> Engine:
    """The engine that the options of a run ask for.

    Args:
        name: One of :data:`ENGINES`.
        gpus: Scoring processes, each with a GPU of its own; 0 scores in this process.
        workers: Processes that decode, for each that scores.

    Raises:
        InputError: There is no such engine, this machine has fewer GPUs, or Ray is told how to
            divide the work.
        MissingDependencyError: Ray is not installed.
    """
    if name not in ENGINES:
        raise InputError(f"--engine {name!r}", f"Choose one of: {', '.join(ENGINES)}.")
    if name == "ray":
        if gpus or workers:
            raise InputError(
                "--gpus or --workers with --engine ray",
                "Leave them out: Ray takes every CPU and GPU of its cluster.",
            )
        import_ray()
        return score_on_ray
    if not gpus:
        return partial(score_images, workers=workers)
    found = torch.cuda.device_count()
    if gpus > found:
        remedy = "Lower --gpus, or leave it out." if found else "Leave --gpus out."
        raise InputError(f"--gpus {gpus}, but this machine has {found}", remedy)
    return partial(score_on_devices, devices=[f"cuda:{k}" for k in range(gpus)], workers=workers)


def score_on_devices(
    items: Sequence[Item],
    encoder: ImageEncoder,
    image_filter: ImageFilter,
    *,
    devices: Sequence[str],
    workers: int = 0,
) -> Iterator[list[Score]]:
    """Scores of a process for each device, as they come; the batches are dealt out in turn.

    Args:
        items: The images.
        encoder: On the CPU; the processes share its weights until each moves them to its device.
        image_filter: The head.
        devices: Where to compute.
        workers: Processes that decode, for each device.

    Raises:
        InputError: A process died, or could not do its work.
    """
    parts: list[list[Item]] = [[] for _ in devices]
    for number, batch in enumerate(batched(items, BATCH)):
        parts[number % len(devices)] += batch
    context = get_context("spawn")
    processes, running = [], {}
    try:
        for device, part in zip(devices, parts, strict=True):
            receiver, sender = context.Pipe(duplex=False)
            arguments = (sender, part, encoder, image_filter, device, workers)
            process = context.Process(target=_score_part, args=arguments)
            process.start()
            sender.close()
            processes.append(process)
            running[receiver] = device
        while running:
            for ready in wait(list(running)):
                yield from _receive(cast("Connection", ready), running)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _receive(receiver: Connection, running: dict[Connection, str]) -> Iterator[list[Score]]:
    """The next scores of a process, or none if it has done all; then it is taken off the list."""
    try:
        message = receiver.recv()
    except EOFError:
        raise InputError(
            f"the process that scored on {running[receiver]} died, perhaps for lack of memory",
            "Run the same command again; finished work is kept.",
        ) from None
    if isinstance(message, str):
        raise InputError(message)
    if message:
        yield message
    else:
        del running[receiver]


def _score_part(
    sender: Connection,
    items: Sequence[Item],
    encoder: ImageEncoder,
    image_filter: ImageFilter,
    device: str,
    workers: int,
) -> None:
    """Send the scores of each batch, and an empty list at the end; or a text that says what failed."""
    end_with_parent()
    try:
        for scores in score_images(items, encoder.to(device), image_filter, workers):
            sender.send(scores)
        sender.send([])
    except BioD2CError as error:
        sender.send(str(error))
