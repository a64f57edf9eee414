"""Training as this project does it against other trainers: the same model, tokens, order and precision.

A random LLaMA behind a small vision tower and fusion is trained with LoRA (stage 2, L_nll) by what
`biod2c train` calls, and as a thin vision-language model by TRL, LLaMA-Factory or ms-swift
(`peer_trainers.py`). All get the same optimizer, schedule, clipping and batches. Each run is a process of
its own, in turn: processor time on one thread (wall time on a GPU) from the end of the first step to the
end of the last, without saving, and the most memory in them. The losses and gradient norms of all steps
must agree first.

    pip install --target PEERS --no-deps trl
    python benchmarks/training_peers.py --peer trl=PEERS [--layers 8] [--width 512] [--steps 12]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, fields
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")

from peer_setting import (  # first of all: makes torchvision importable beside a CPU torch
    IMAGE,
    SEED,
    Setting,
    arguments,
    configure,
    write_language_model,
    write_records,
)

OURS = "biod2c"
PACKAGES = {
    "trl": "trl",
    "trl-answers-only": "trl",
    "llamafactory": "llamafactory",
    "ms-swift": "swift",
}
DISTRIBUTIONS = {name: name.removesuffix("-answers-only") for name in PACKAGES}


class Clock:
    """Time and memory of a run's steps, in the process that runs it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.found: dict[str, float] = {}

    def begin(self) -> None:
        """Training begins: from here the peak counts."""
        import torch

        if self.setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def step(self, done: int) -> None:
        """A step has ended."""
        import torch

        if done not in (1, self.setting.steps):
            return
        if self.setting.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter() if self.setting.device == "cuda" else time.process_time()
        if done == 1:
            self.found["began"] = now
            return
        count = (done - 1) * self.setting.batch
        self.found["samples"] = count / (now - self.found.pop("began"))
        self.found["memory"] = self._memory()

    def _memory(self) -> float:
        import torch

        if self.setting.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def run_ours(folder: Path, output: Path, setting: Setting, clock: Clock) -> list[dict[str, float]]:
    """`biod2c train`, and the lines of its log."""
    from biod2c_core.append_log import read_rows
    from biod2c_core.training.logs.run_log import SilentReporter
    from biod2c_core.training.train import train

    class Timed(SilentReporter):
        def start(self, total: int, done: int) -> None:
            clock.begin()

        def step(self, done: int, metrics: dict[str, float]) -> None:
            clock.step(done)

    run, data = output / "run", [folder / "rows.jsonl"]
    train(configure(folder, setting), 2, data, run, Timed(), device=setting.device)
    return [row for _, row in read_rows(run / "log.jsonl")]


def run_peer(
    name: str, folder: Path, output: Path, setting: Setting, clock: Clock
) -> list[dict[str, float]]:
    """The same model by another trainer, and the lines of its log."""
    from peer_trainers import TRAINERS, PeersModel, make_rows
    from transformers import TrainerCallback

    from biod2c_core.data.formats import read_records
    from biod2c_core.training.inputs.collate import GroupedSampler, VQADataset
    from biod2c_core.training.stages import prepare_stage
    from biod2c_core.training.start import start_model

    class Timed(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.step(state.global_step)

    config = configure(folder, setting)
    model, processor = start_model(config, None, SEED)
    model.vision.accept_bytes(processor.image_mean, processor.image_std)
    prepare_stage(model, 2, config.stage2, config.model.lora)
    model.vision.fold()
    records = read_records(folder / "rows.jsonl")
    samples = VQADataset(records, [folder] * len(records), processor)
    order = GroupedSampler(
        samples.lengths, samples.image_numbers, setting.batch, SEED, setting.together
    )
    mark = processor.tokenizer.convert_tokens_to_ids(IMAGE)
    rows = make_rows(samples, list(order), model, mark)
    common = arguments(setting, output)
    trainer = TRAINERS[name](PeersModel(model, mark), processor, rows, common, Timed())
    trainer.train()
    return trainer.state.log_history


def run_side(name: str, folder: Path, setting: Setting) -> None:
    """In a process of its own: train, and print samples/s, MiB, losses and gradient norms."""
    clock = Clock(setting)
    with tempfile.TemporaryDirectory() as output:
        run = run_ours if name == OURS else partial(run_peer, name)
        lines = [line for line in run(folder, Path(output), setting, clock) if "loss" in line]
    curves = {number: [line[number] for line in lines] for number in ("loss", "grad_norm")}
    own = [] if name == OURS else [DISTRIBUTIONS[name]]
    versions = ", ".join(f"{each} {version(each)}" for each in (*own, "transformers", "peft"))
    print(json.dumps({**clock.found, **curves, "versions": versions}))


def call(name: str, place: str, folder: Path, setting: Setting) -> dict[str, Any]:
    """What a run of a side gave, in a process that finds the peer's packages first."""
    here = [place, *sys.path] if place else sys.path
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, str(folder), json.dumps(asdict(setting))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, here))},
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, dict[str, Any]]) -> None:
    """Refuse figures of runs that did not do the same."""
    for name, own in found.items():
        print(f"{name}: {own['versions']}")
        for number, largest in (("loss", 1e-4), ("grad_norm", 1e-3)) if name != OURS else ():
            pairs = list(zip(own[number], found[OURS][number], strict=True))
            apart = max(abs(a - b) / abs(b) for a, b in pairs)
            print(f"  {number} of {len(pairs)} steps: differs by at most {apart:.1e}", flush=True)
            if apart > largest:
                sys.exit(f"{name}: {number} differs by more than {largest}, not the same training")


def show(rounds: dict[str, list[dict[str, Any]]]) -> None:
    """Print the table."""
    middle = {
        name: {
            number: statistics.median(row[number] for row in rows)
            for number in ("samples", "memory")
        }
        for name, rows in rounds.items()
    }
    ours = middle[OURS]
    print("\n| trainer | samples/s | peak, MiB | biod2c against it: samples/s | peak |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, own in middle.items():
        pairs = zip(rounds[OURS], rounds[name], strict=True)
        faster = statistics.median(a["samples"] / b["samples"] for a, b in pairs)
        print(
            f"| {name} | {own['samples']:.2f} | {own['memory']:,.0f} | {faster:.2f}x | "
            f"{ours['memory'] / own['memory']:.2f}x |"
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--peer",
        dest="peers",
        action="append",
        default=[],
        help="a peer, and the folders where it is installed, if not here: NAME[=DIR[:DIR]]; several",
    )
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512, help="a multiple of 64")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--together", type=int, default=1, help="questions about a picture")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--tower", default="test_efficientnet")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps < 2 or given.width % 64:
        parser.error("--steps must be 2 at least, and --width a multiple of 64")
    return given


def installed(name: str, place: str) -> bool:
    """Whether a peer is in these folders; in this environment, if there are none."""
    return (
        PathFinder.find_spec(PACKAGES[name], place.split(os.pathsep) if place else None) is not None
    )


def peers(given: list[str]) -> dict[str, str]:
    """The peers to measure and where they are; ends where one is not to be found."""
    places = {name: place for name, _, place in (each.partition("=") for each in given)}
    if unknown := [name for name in places if name not in PACKAGES]:
        refuse(f"there is no peer {unknown[0]!r}, only {', '.join(PACKAGES)}")
    places = places or {name: "" for name in PACKAGES if installed(name, "")}
    missing = [name for name, place in places.items() if not installed(name, place)]
    if missing or not places:
        name = (missing or ["trl"])[0]
        refuse(
            f"{name} is not installed{' in ' + places[name] if places else ''}: pip install --target "
            f"PEERS --no-deps {DISTRIBUTIONS[name]}, then --peer {name}=PEERS"
        )
    return places


def refuse(line: str) -> NoReturn:
    """End with a line."""
    print(line, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Measure in turn, check, print."""
    given = parse()
    if given.run:
        name, folder, text = given.run
        run_side(name, Path(folder), Setting(**json.loads(text)))
        return
    names = {field.name for field in fields(Setting)}
    setting = Setting(**{name: value for name, value in vars(given).items() if name in names})
    places = {OURS: "", **peers(given.peers)}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
    with tempfile.TemporaryDirectory() as folder:
        write_language_model(Path(folder), setting)
        write_records(Path(folder), setting)
        for number in range(given.rounds):
            for name, rows in rounds.items():
                rows.append(call(name, places[name], Path(folder), setting))
            if not number:
                check({name: rows[0] for name, rows in rounds.items()})
    show(rounds)


if __name__ == "__main__":
    main()
