"""What a training takes to read its records: processor time and memory of its processes.

    python benchmarks/training_start.py [--rows 188000] [--texts 200000] [--model biod2c-tiny]

A file of so many records is made: questions about 0.43 times as many pictures, with a queue of 30 texts
each, drawn from so many different ones. Then a process reads it as the first process of `biod2c train`
does, and a second one as the others do, that find what the first has made. Each tells its processor time
on one thread and the most memory that it took beyond what it held before (Linux only), of its own and of
mapped files, which the processes share; and a checksum of a thousand samples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

QUEUE = 30
WORDS = """
left right upper lower lobe lung liver kidney chest brain axial contrast lesion mass nodule opacity
effusion fracture enlarged normal small large acute chronic image shows with without of the in and
arrow bilateral oedema infarct tumour cyst stone vessel heart bone tissue
"""


def write_data(folder: Path, rows: int, texts: int) -> Path:
    """The records and files in place of their pictures."""
    draw, words = random.Random(0), WORDS.split()

    def phrase(least: int, most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(least, most)))

    queue = [f"{phrase(3, 9)} {number}" for number in range(texts)]
    pictures = max(1, int(rows * 0.43))
    for number in range(pictures):
        place = folder / "images" / f"{number // 1000}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(b"x")
    with (folder / "rows.jsonl").open("w") as file:
        for index in range(rows):
            number = index % pictures
            row = {
                "id": f"made-{index}",
                "image": f"images/{number // 1000}/{number}.png",
                "question": f"What is seen in the {phrase(2, 8)}?",
                "answer": phrase(1, 6),
                "queue": draw.choices(queue, k=QUEUE),
                "tags": {"modality": "CT", "organ": "liver"},
            }
            file.write(json.dumps(row) + "\n")
    return folder / "rows.jsonl"


def memory() -> dict[str, int]:
    """Numbers of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        name: int(line.split()[1])
        for line in lines
        for name in [line.split(":")[0]]
        if "kB" in line
    }


def read(data: Path, model: str, samples: Path, rank: int) -> None:
    """In a process of its own: read the records, and print what it took."""
    from biod2c_core.config import load_config
    from biod2c_core.model.checkpoints.folder import load_model_config, load_processor, locate
    from biod2c_core.training.inputs.datasets import load_or_open

    folder = locate(model)
    described, processor = SimpleNamespace(config=load_model_config(folder)), load_processor(folder)
    processor.training_ids("is it?", "yes")
    Path("/proc/self/clear_refs").write_text("5")
    before, start, began = memory(), time.process_time(), time.perf_counter()
    parts = (described, processor, load_config("tiny").stage2, 2, lambda _: None)
    (dataset,) = load_or_open({"train": [data]}, samples, rank == 0, *parts)
    took, wall, after = time.process_time() - start, time.perf_counter() - began, memory()
    digest = hashlib.sha256()
    chosen = random.Random(1).sample(range(len(dataset)), min(1000, len(dataset)))
    for index in chosen:
        digest.update(repr({**dataset[index], "image": dataset[index]["image"].name}).encode())
    found = {
        "seconds": round(took, 1),
        "wall": round(wall, 1),
        "peak, MiB": round((after["VmHWM"] - before["VmRSS"]) / 1024),
        "held, own, MiB": round((after["RssAnon"] - before["RssAnon"]) / 1024),
        "held, files, MiB": round((after["RssFile"] - before["RssFile"]) / 1024),
        "samples": digest.hexdigest()[:12],
    }
    print(json.dumps(found))


def main() -> None:
    """Print a line for each process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=188_000)
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--model", default="biod2c-tiny")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = write_data(Path(place), arguments.rows, arguments.texts)
        size = data.stat().st_size / 2**20
        print(f"{arguments.rows:,} records, {size:,.0f} MiB, {arguments.texts:,} different texts")
        for rank in (0, 1):
            call = f"import training_start as t; from pathlib import Path; t.read(Path({str(data)!r}), "
            call += f"{arguments.model!r}, Path({place!r}) / 'samples', {rank})"
            done = subprocess.run(
                [sys.executable, "-c", call],
                check=True,
                capture_output=True,
                text=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
                },
            )
            print(f"process {rank}: {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
