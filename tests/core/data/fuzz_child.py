"""Feeds damaged files to the readers in a process of its own, under limits; prints what happened.

Usage: python fuzz_child.py images|tables COUNT SEED FOLDER
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from valid_files import picture_seeds, table_seeds

from biod2c_core.data.formats import find_format, read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.importing import import_records
from biod2c_core.errors import BioD2CError

sys.path.append(str(Path(__file__).resolve().parents[2]))
from mutations import mutated

MEMORY = 2 << 30
SECONDS = 20
WRITES: list[str] = []


def watch_writes(allowed: Path) -> None:
    """Record every file opened for writing, made, moved or removed outside a folder."""
    names = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}
    names |= {"os.link", "os.chmod", "os.system", "subprocess.Popen", "os.exec", "socket.connect"}

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[2], int) and not args[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event == "open" or event in names:
            target = args[1] if event == "os.symlink" else args[0]
            if isinstance(target, int) or str(os.fsdecode(target)) in ("", os.devnull):
                return
            if not Path(os.fsdecode(target)).is_relative_to(allowed):
                WRITES.append(f"{event} {target}")

    sys.addaudithook(hook)


def image_seeds() -> dict[str, bytes]:
    """Small valid files of each kind, by a name with their suffix."""
    sys.path.insert(0, str(Path(__file__).parent / "images"))
    from medical_files import dicom, group, nifti
    from test_volumes import VOLUME

    seeds = picture_seeds()
    try:
        seeds |= {"a.dcm": dicom(), "b.dcm": dicom(WindowCenter=40, WindowWidth=400)}
        own = group(PixelValueTransformationSequence={"RescaleIntercept": "5", "RescaleSlope": "2"})
        frames = np.random.default_rng(0).integers(0, 256, (3, 24, 31)).astype(np.uint16)
        seeds["enhanced.dcm"] = dicom(frames, PerFrameFunctionalGroupsSequence=[own] * 3)
        seeds |= {"a.nii": nifti(VOLUME), "a.nii.gz": nifti(VOLUME, packed=True)}
        seeds["two.nii"] = nifti(VOLUME, version=2, order=">")
    except BaseException as error:  # pytest's skip, where the extra is not installed
        print(f"without DICOM and NIfTI: {error}", file=sys.stderr)
    return seeds


def image_cases(folder: Path, rng: random.Random) -> Callable[[int], None]:
    seeds = image_seeds()
    names = sorted(seeds)

    def run(number: int) -> None:
        path = folder / names[number % len(names)]
        data = mutated(seeds[path.name], rng)
        path.write_bytes(data)
        load_image(path if number % 2 else data, frame=rng.choice([None, None, 0, 1]))

    return run


def table_cases(folder: Path, rng: random.Random) -> Callable[[int], None]:
    seeds = table_seeds()
    places = sorted(seeds)
    out = folder / "out" / "out.jsonl"

    def run(number: int) -> None:
        place = places[number % len(places)]
        name, content, *_ = seeds[place]
        path = folder / f"set{number % len(places)}" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutated(content, rng))
        out.unlink(missing_ok=True)
        try:
            import_records(path, out, format=name)
        finally:
            if out.exists():
                read_records(out, "jsonl")  # what was written can be read without any complaint
        find_format(path)

    return run


def main(family: str, count: int, seed: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    make = {"images": image_cases, "tables": table_cases}[family]
    run = make(folder, rng)
    watch_writes(folder)
    outcomes: Counter[str] = Counter()
    problems: list[str] = []
    slowest = 0.0
    for number in range(count):
        signal.alarm(SECONDS)  # the default action ends the process
        start = time.process_time()
        try:
            run(number)
            outcomes["read"] += 1
        except BioD2CError as error:
            outcomes[type(error).__name__] += 1
            if "\n" in str(error) or error.exit_code != 2:
                problems.append(f"{number}: {error!r}")
        except BaseException:
            problems.append(f"{number}: {traceback.format_exc()}")
        slowest = max(slowest, time.process_time() - start)
    result = {"outcomes": outcomes, "problems": problems, "writes": WRITES}
    print(json.dumps({**result, "slowest": slowest}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
