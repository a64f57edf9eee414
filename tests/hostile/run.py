"""Give hostile inputs to everything that reads them, and see whether one of them gets its way.

``python tests/hostile/run.py --inputs 20000`` prints a table; the exit code is 1 if anything was
violated. An input begins as a valid example and is damaged by a generator of its own seed, so that
``--only KIND:NUMBER`` repeats it. It must be answered, or refused with one line: no traceback, no process
above 2 GB or 30 s, nothing of it run, nothing written outside its folder, nothing reached but this machine.
Processes are forked from this one, which has imported everything.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_CORE = HERE.parent / "core"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]
sys.path += [str(_CORE / "data"), str(_CORE / "data/images")]
sys.path += [str(_CORE / "inference/serving")]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OPENAI_API_KEY"] = "sk-none"

_MODULES = (
    *("biod2c_core", "biod2c_core.training.train", "biod2c_core.evaluation.evaluate"),
    *("biod2c_core.curation.filter_images.filter", "biod2c_core.inference.serving.app"),
    *("biod2c_core.model.checkpoints.convert", "biod2c_core.data.importing", "openai", "uvicorn"),
    *("transformers.models.llama.modeling_llama", "peft", "timm", "torchvision", "tiny_models"),
    *("biod2c_cli.app", "pydicom", "nibabel", "datasets", "pyarrow.parquet"),
)
VERDICTS = ("answered", "refused")
_AT_ONCE = 250  # inputs of one process


@contextmanager
def _reading(kind: Any, examples: Any, name: str, seed: int, parts: Any) -> Iterator[Any]:
    sandbox, said = parts
    with contextmanager(kind.begin)(examples, sandbox.folder, said) as one:
        yield lambda number: one(random.Random(f"{seed} {name} {number}"))


class Harness:
    """Runs inputs, and keeps what became of them."""

    def __init__(self, root: Path, seed: int, told: Callable[[str], None]) -> None:
        self.root, self.seed, self.told = root, seed, told
        self.counts: Counter[tuple[str, str]] = Counter()
        self.worst: dict[str, list[float]] = {}
        self.violations: list[str] = []

    def run(self, name: str, kind: Any, numbers: list[int]) -> None:
        """All inputs of a kind."""
        from children import run_inputs

        examples = kind.prepare(self._new(f"examples/{name}"))
        began = time.monotonic()
        for start in range(0, len(numbers), _AT_ONCE):
            folder = self._new(f"runs/{name}")
            some = numbers[start : start + _AT_ONCE]

            def begin(*parts: Any) -> Any:
                return _reading(kind, examples, name, self.seed, parts)

            for number, outcome in run_inputs(begin, some, folder):
                self._keep(name, number, outcome)
            shutil.rmtree(self.root / "runs", ignore_errors=True)
        self.told(f"{name}: {len(numbers)} in {time.monotonic() - began:.0f} s")

    def _new(self, place: str) -> Path:
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _keep(self, name: str, number: int, outcome: Any) -> None:
        self.counts[name, outcome.verdict] += 1
        worst = self.worst.setdefault(name, [0.0, 0.0])
        worst[0] = max(worst[0], outcome.seconds)
        worst[1] = max(worst[1], outcome.memory / 2**20)
        if outcome.verdict not in VERDICTS:
            line = f"{name}:{number} {outcome.verdict}: {outcome.detail}"
            self.violations.append(line)
            self.told(f"VIOLATION {line}")

    def table(self) -> str:
        """How many inputs of each kind ended how, with the slowest and the largest process."""
        bad = sorted({verdict for _, verdict in self.counts} - set(VERDICTS))
        rows = [["kind", "inputs", *VERDICTS, *(bad or ["violations"]), "slowest", "largest"]]
        for name, (seconds, memory) in self.worst.items():
            numbers = [self.counts[name, each] for each in (*VERDICTS, *(bad or ["violations"]))]
            total = sum(n for (kind, _), n in self.counts.items() if kind == name)
            shown = [f"{number:,}" for number in (total, *numbers)]
            rows.append([name, *shown, f"{seconds:.1f} s", f"{memory:,.0f} MiB"])
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        total = sum(self.counts.values())
        return f"{text}\n\n{total:,} inputs, {len(self.violations)} violations"


def main() -> int:
    """Make the examples, damage them, have them read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="names, with commas; default: all")
    parser.add_argument("--only", default="", help="KIND:NUMBER, one input")
    options = parser.parse_args()
    only, _, number = options.only.partition(":")
    with tempfile.TemporaryDirectory() as root:
        os.environ |= {"BIOD2C_CACHE": f"{root}/cache", "HF_HOME": f"{root}/hub"}
        for name in _MODULES:
            importlib.import_module(name)
        known = importlib.import_module("kinds").kinds()
        wanted = [only] if only else options.kinds.split(",") if options.kinds else list(known)
        total = sum(known[name].share for name in wanted)
        harness = Harness(Path(root), options.seed, lambda line: print(line, file=sys.stderr))
        for name in wanted:
            count = round(options.inputs * known[name].share / total)
            numbers = [int(number)] if number else list(range(count))
            harness.run(name, known[name], numbers)
        print(harness.table())
    for line in harness.violations:
        print("VIOLATION", " ".join(line.split())[:2000])
    return 1 if harness.violations else 0


if __name__ == "__main__":
    sys.exit(main())
