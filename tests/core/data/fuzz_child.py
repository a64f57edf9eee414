"""Feeds damaged files to the readers in a process of its own, under limits; prints what happened.

Usage: python fuzz_child.py images|tables COUNT SEED FOLDER
"""

from __future__ import annotations

import io
import json
import os
import pickle
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

import layouts
import numpy as np
from PIL import Image

from biod2c_core.data.formats import find_format, read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.importing import import_records
from biod2c_core.errors import BioD2CError

MEMORY = 2 << 30
SECONDS = 20
NASTY = [
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\x00\x00\x00",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 2000,
    b'"',
    b"\\ud800",
    b"../../../etc/passwd",
    b"\x00",
    b"\r\n",
    b"1e999",
    b"NaN",
    b"R",
    b"cos\nsystem\n",
    b"r\xff\xff\xff\xff",
]
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


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four random injuries."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            for _ in range(rng.randint(1, 8)):
                body[rng.randrange(len(body))] = rng.randrange(256)
        elif kind == 1:
            body[at:at] = rng.choice(NASTY)
        elif kind == 2:
            nasty = rng.choice(NASTY)
            body[at : at + len(nasty)] = nasty
        elif kind == 3:
            del body[at : at + rng.randint(1, 40)]
        elif kind == 4:
            del body[at:]
        else:
            body[at:at] = body[max(0, at - 50) : at]
        if not body:
            return b""
    return bytes(body)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def image_seeds() -> dict[str, bytes]:
    """Small valid files of each kind, by a name with their suffix."""
    sys.path.insert(0, str(Path(__file__).parent / "images"))
    from medical_files import dicom, group, nifti
    from test_picture_kinds import png, tiff
    from test_volumes import VOLUME

    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = {
        "a.jpg": encoded(picture, "JPEG", exif=exif),
        "progressive.jpg": encoded(picture, "JPEG", progressive=True),
        "a.png": encoded(picture, "PNG"),
        "palette.png": encoded(picture.quantize(16), "PNG"),
        "wide.png": encoded(Image.fromarray(noise[..., 0].astype(np.uint16) * 99), "PNG"),
        "a.tif": encoded(picture, "TIFF", compression="tiff_lzw"),
        "a.gif": encoded(picture, "GIF"),
        "a.webp": encoded(picture, "WEBP"),
        "a.bmp": encoded(picture, "BMP"),
        "deep.png": png(noise.astype(np.uint16) * 99, 2),
        "deep.tif": tiff(noise.astype(np.uint16), t284=2, t259=8),
        "float.tif": encoded(Image.fromarray(noise[..., 0] / 3), "TIFF", tiffinfo={317: 3}),
    }
    try:
        seeds |= {"a.dcm": dicom(), "b.dcm": dicom(WindowCenter=40, WindowWidth=400)}
        own = group(PixelValueTransformationSequence={"RescaleIntercept": "5", "RescaleSlope": "2"})
        frames = noise.transpose(2, 0, 1).astype(np.uint16)
        seeds["enhanced.dcm"] = dicom(frames, PerFrameFunctionalGroupsSequence=[own] * 3)
        seeds |= {"a.nii": nifti(VOLUME), "a.nii.gz": nifti(VOLUME, packed=True)}
        seeds["two.nii"] = nifti(VOLUME, version=2, order=">")
    except BaseException as error:  # pytest's skip, where the extra is not installed
        print(f"without DICOM and NIfTI: {error}", file=sys.stderr)
    return seeds


def table_seeds() -> dict[str, tuple[str, bytes]]:
    """Place in its data set, format name and valid content of one file each."""
    turns = [{"id": str(n), "image": "x", "conversatons": layouts.CONVERSATION} for n in range(3)]
    slake = json.dumps([{**layouts.SLAKE_ROW, "qid": n} for n in range(3)], indent=1)
    rad = json.dumps([{**layouts.RAD_ROW, "qid": n} for n in range(3)])
    row = {"image": "x.jpg", "question": "q", "answer": "a", "queue": "b, c"}
    lines = "".join(json.dumps({**row, "id": str(n), "queue": ["b"]}) + "\n" for n in range(3))
    pmc = "Figure_path,Question,Answer,Choice A,Choice B,Choice C,Choice D,Answer_label\n"
    pmc += 'x.jpg,"q, r",a,A:a,B:b,C:c,D:d,A\n' * 3
    rows = [{**layouts.PATH_ROW, "answer": str(n)} for n in range(5)]
    return {
        "train.json": ("slake", slake.encode()),
        "trainset.json": ("vqa-rad", rad.encode()),
        "align.json": ("llava-med", json.dumps(turns).encode()),
        "train.jsonl": ("biovgq", (json.dumps(row) + "\n").encode() * 3),
        "all.jsonl": ("jsonl", lines.encode()),
        "train.csv": ("pmc-vqa", pmc.encode()),
        "semicolons.csv": (
            "csv",
            "Bild;image;question;answer\n1;x.png;größer?;ja\n".encode("cp1252") * 3,
        ),
        "wide.csv": ("csv", "image,question,answer\nx.png,größer?,yes\n".encode("utf-16")),
        "tabs.tsv": ("csv", b"\xef\xbb\xbfimg\tquery\tgold\nx.png\tq\ty\n"),
        "mine.csv": ("csv", b"image,question,answer,split\n" + b'x.png,"a ""b""",yes,test\n' * 3),
        "pvqa/qas/train/a_qa.pkl": ("path-vqa", pickle.dumps(rows, protocol=2)),
        "pvqa/qas/val/b_qa.pkl": ("path-vqa", pickle.dumps(rows, protocol=4)),
    } | parquet_seed()


def parquet_seed() -> dict[str, tuple[str, bytes]]:
    """A table as the hub serves it, where the extra ``data`` is installed."""
    try:
        import datasets
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        print(f"without parquet: {error}", file=sys.stderr)
        return {}
    datasets.disable_progress_bars()
    picture = encoded(Image.new("RGB", (9, 7), "red"), "PNG")
    images = [{"bytes": picture, "path": f"{n}.png"} for n in range(4)]
    table = {"image": images, "question": ["q"] * 4, "answer": ["yes"] * 4}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(table), buffer)
    return {"hub/data/train-00000-of-00001.parquet": ("hub-parquet", buffer.getvalue())}


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
        name, content = seeds[place]
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
