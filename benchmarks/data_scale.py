"""What working on large data costs, as ratios to a plain loop that does the same work.

    python benchmarks/data_scale.py [--rows 10000 100000 1000000] [--only import ...] [--rounds 3]

=============  ==================================  ====================================================
work           rows are                            plain way
=============  ==================================  ====================================================
import json    records of a JSONL file             ``json`` line by line, the same fields checked
import csv     records of a CSV file               ``csv.DictReader``, the same
mix            records of a JSONL file             as for import
mix, half      the same with the weight 0.5        the same twice: once for the ids, once to write
malformed      lines of two bytes to ``validate``  ``json.loads`` line by line, failures counted
files          different images, 1 for 100 rows    decoding and fingerprinting alone
copies         copies of one image, likewise       the same
duplicates     fingerprints, 1 for 10 rows         all pairs, in blocks (up to 20,000)
bootstrap 1    images, one column                  ``scipy.stats.bootstrap`` (percentile)
bootstrap 12   images, twelve columns              the same, column by column
=============  ==================================  ====================================================

Both ways must give the same first. Then they take turns, and their best process times on one thread are
printed with their ratio, the exponent with which our time grew since the last size, and the most memory
that our way took beyond what was there (Linux only).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image
from plain_loops import check_row, make_row, plain_copy, same_rows, write_rows

from biod2c_core.data.duplicates import (
    MAX_DIFFERING_BITS,
    MIN_CORRELATION,
    THUMBNAIL,
    Fingerprint,
    find_duplicates,
    fingerprint,
)
from biod2c_core.data.formats import stream_records
from biod2c_core.data.images import load_image
from biod2c_core.data.importing import import_records
from biod2c_core.data.mix import Part, mix_data
from biod2c_core.data.validate import validate
from biod2c_core.evaluation.statistics.intervals import resampled_means

MOST_PAIRED = 20_000  # images of which all pairs are compared
RESAMPLES = 2000
MOST_CELLS = 200_000_000  # resamples times images
TAIL = (0.025, 0.975)


class ParityError(Exception):
    """The two ways do not give the same."""


@dataclass(frozen=True)
class Work:
    """One row of the table at one size.

    Attributes:
        name: As in the table.
        size: Rows, images or fingerprints.
        ours: Our way; returns what is compared.
        plain: The plain way; None where it would take too long.
        same: Whether two results are the same.
    """

    name: str
    size: int
    ours: Callable[[], Any]
    plain: Callable[[], Any] | None
    same: Callable[[Any, Any], bool] = lambda ours, plain: bool(ours == plain)


def record_works(folder: Path, out: Path, rows: int) -> Iterator[Work]:
    """Import and mix."""
    write_rows(folder, rows)

    def imported(kind: str) -> Path:
        import_records(folder / f"rows.{kind}", out / f"{kind}.jsonl")
        return out / f"{kind}.jsonl"

    def mixed(weight: float) -> Path:
        mix_data([Part(folder / "rows.jsonl", weight)], out / "mix.jsonl")
        return out / "mix.jsonl"

    def plain(kind: str, name: str, half: bool = False) -> Path:
        return plain_copy(folder / f"rows.{kind}", out / f"{name}-plain.jsonl", half)

    for kind in ("jsonl", "csv"):
        name = f"import {kind.removesuffix('l')}"
        yield Work(name, rows, lambda k=kind: imported(k), lambda k=kind: plain(k, k), same_rows)
    yield Work("mix", rows, lambda: mixed(1), lambda: plain("jsonl", "mix"), same_rows)
    yield Work(
        "mix, half", rows, lambda: mixed(0.5), lambda: plain("jsonl", "mix", True), same_rows
    )


def malformed_work(folder: Path, rows: int) -> Work:
    """A file without one good row."""
    path = folder / "malformed.jsonl"

    def ours() -> int:
        report = validate(stream_records(path, "jsonl"), folder).to_json()
        if len(json.dumps(report)) > 8 << 20:
            raise ParityError("the report is not bounded")
        return int(report["counts"]["malformed row"])

    def plain() -> int:
        bad = 0
        with path.open("rb") as file:
            for line in file:
                try:
                    check_row(json.loads(line), set())
                except ValueError:
                    bad += 1
        return bad

    return Work("malformed", rows, ours, plain)


def image_works(folder: Path, images: int) -> Iterator[Work]:
    """Validation of different files and of copies of one."""
    generator = np.random.default_rng(0)
    for name in ("files", "copies"):
        (folder / name).mkdir()
        for index in range(images):
            if index == 0 or name == "files":
                pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).resize((64, 64)).save(folder / name / f"{index}.png")
        with (folder / f"{name}.jsonl").open("w") as file:
            for index in range(images):
                row = {**make_row(index), "image": f"{name}/{index}.png"}
                file.write(json.dumps(row) + "\n")

        def ours(name: str = name) -> int:
            report = validate(stream_records(folder / f"{name}.jsonl"), folder)
            return sum(len(finding.where) for finding in report.findings)

        def plain(name: str = name) -> int:
            paths = (folder / name / f"{index}.png" for index in range(images))
            prints = [fingerprint(load_image(path)) for path in paths]
            alike = len({(each.signs.tobytes(), each.thumbnail.tobytes()) for each in prints}) == 1
            return len(prints) if alike and images > 1 else 0

        yield Work(name, images, ours, plain)


def make_prints(size: int) -> list[Fingerprint]:
    """Fingerprints, one in 20 of which is a changed copy of an earlier one."""
    generator = np.random.default_rng(0)
    prints: list[Fingerprint] = []
    for index in range(size):
        if index % 20 == 19:
            model = prints[int(generator.integers(index))]
            signs, thumbnail = model.signs.copy(), model.thumbnail.astype(np.float32)
            signs[generator.integers(0, 64, 4)] *= -1
            thumbnail = thumbnail + generator.normal(size=THUMBNAIL**2) * 0.003
        else:
            signs = generator.choice(np.array([-1, 1], np.int8), 64)
            # smooth, as pictures are: half of the variance lies in a few directions
            thumbnail = generator.normal(size=THUMBNAIL**2)
            thumbnail[:16] += generator.normal(size=16) * THUMBNAIL / 4
        thumbnail = (thumbnail / np.linalg.norm(thumbnail)).astype(np.float16)
        prints.append(Fingerprint(signs, thumbnail, float(generator.uniform(0, 255))))
    return prints


def all_pairs(prints: list[Fingerprint]) -> list[list[int]]:
    """The definition of looking the same, for all pairs of images with contrast."""
    signs = np.stack([each.signs for each in prints]).astype(np.float32)
    thumbnails = np.stack([each.thumbnail for each in prints]).astype(np.float32)
    group = list(range(len(prints)))
    members = {index: [index] for index in group}
    for start in range(0, len(prints), 512):
        like = signs[start : start + 512] @ signs.T >= 64 - 2 * MAX_DIFFERING_BITS
        for one, other in zip(*(found.tolist() for found in np.nonzero(like)), strict=True):
            one += start
            if group[one] == group[other] or thumbnails[one] @ thumbnails[other] < MIN_CORRELATION:
                continue
            low, high = sorted((group[one], group[other]))
            for index in members[high]:
                group[index] = low
            members[low] += members.pop(high)
    return [sorted(each) for _, each in sorted(members.items()) if len(each) > 1]


def duplicate_work(size: int) -> Work:
    """Groups of fingerprints that look the same."""
    prints = make_prints(size)
    plain = (lambda: all_pairs(prints)) if size <= MOST_PAIRED else None
    return Work("duplicates", size, lambda: find_duplicates(prints), plain)


def bootstrap_work(images: int, columns: int) -> Work:
    """95% intervals of means over images."""
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).random((images, columns))
    ones = np.ones_like(values)
    resamples = max(100, min(RESAMPLES, MOST_CELLS // images))
    batch = max(1, 20_000_000 // images)

    def ours() -> Any:
        return np.quantile(resampled_means(values, ones, resamples, 1), TAIL, axis=0)

    def plain() -> Any:
        options: dict[str, Any] = {"n_resamples": resamples, "batch": batch, "vectorized": True}
        found = [
            bootstrap((column,), np.mean, method="percentile", rng=column_seed, **options)
            for column_seed, column in enumerate(values.T)
        ]
        ends = [each.confidence_interval for each in found]
        return np.array([[each.low for each in ends], [each.high for each in ends]])

    def same(ours: Any, plain: Any) -> bool:
        # the draws differ: an end is known to about 1 / sqrt(resamples) of the width, times a few
        width = (plain[1] - plain[0]).mean()
        return bool((np.abs(ours - plain) < 6 * width / math.sqrt(resamples)).all())

    return Work(f"bootstrap {columns}", images, ours, plain, same)


def works(rows: int, folder: Path, only: list[str]) -> Iterator[Work]:
    """Everything at one size."""
    wanted = set(only or KINDS)
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    out.mkdir()
    if wanted & {"import", "mix", "malformed"}:
        for work in record_works(source, out, rows):
            if work.name.startswith(tuple(wanted)):
                yield work
    if "malformed" in wanted:
        yield malformed_work(source, rows)
    if wanted & {"files", "copies"}:
        for work in image_works(source, max(2, rows // 100)):
            if work.name in wanted:
                yield work
    if "duplicates" in wanted:
        yield duplicate_work(max(2, rows // 10))
    if "bootstrap" in wanted:
        yield from (bootstrap_work(rows, columns) for columns in (1, 12))


KINDS = ("import", "mix", "malformed", "files", "copies", "duplicates", "bootstrap")


def memory(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process in KiB; 0 where there is no such thing."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def extra_memory(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the MiB that were taken on the way beyond what was there."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        return run(), math.nan
    before = memory("VmRSS")
    result = run()
    return result, (memory("VmHWM") - before) / 1024


def seconds(run: Callable[[], Any]) -> float:
    """Process time."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(work: Work, rounds: int) -> tuple[float, float, float]:
    """Best times of both ways, in turn, after their results were found the same; and memory.

    Raises:
        ParityError: They are not the same.
    """
    ours, extra = extra_memory(work.ours)
    if work.plain is not None and not work.same(ours, work.plain()):
        raise ParityError(f"{work.name}, {work.size:,}: the two ways do not give the same")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        times[0].append(seconds(work.ours))
        times[1].append(seconds(work.plain) if work.plain else math.nan)
    return min(times[0]), min(times[1]), extra


def main() -> int:
    """Print the table, row by row as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print("| work | size | plain, s | biod2c, s | ratio | exponent | extra memory, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    before: dict[str, tuple[int, float]] = {}
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            for work in works(rows, Path(folder) / "data", arguments.only):
                try:
                    ours, plain, extra = measure(work, arguments.rounds)
                except ParityError as error:
                    print(f"{error}; nothing more was measured", file=sys.stderr)
                    return 1
                growth = "-"
                if work.name in before:
                    size, last = before[work.name]
                    growth = f"{math.log(ours / last) / math.log(work.size / size):.2f}"
                before[work.name] = (work.size, ours)
                ratio = "- | " if work.plain is None else f"{plain:.3f} | "
                print(
                    f"| {work.name} | {work.size:,} | {ratio}{ours:.3f} | "
                    f"{'-' if work.plain is None else f'{ours / plain:.2f}'} | {growth} | "
                    f"{extra:.0f} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
