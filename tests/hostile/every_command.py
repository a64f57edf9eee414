"""Give what strangers made to every command that reads it: checkpoints, presets, data sets, endpoints.

``python tests/hostile/every_command.py`` plays every trick on every command and prints a table; the exit
code is 1 if anything was violated. The rules are those of ``run.py``; besides, nothing in the stranger's
folder or beside it may change, a trick that is no harm must leave the output as it is, and what must be
refused is. ``--only "KIND: TRICK: COMMAND"`` repeats one trial; ``--trials`` takes a random sample.
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_CORE = HERE.parent / "core"
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]
sys.path += [str(HERE.parent / "faults"), str(_CORE / "data"), str(_CORE / "data/images")]
sys.path += [str(_CORE / "evaluation")]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OPENAI_API_KEY"] = "sk-none"

KINDS = ("checkpoints", "presets", "datasets", "endpoints")
_AT_ONCE = 100  # trials of one process
_MODULES = (
    *("biod2c_cli.app", "biod2c_core.training.train", "biod2c_core.evaluation.evaluate"),
    *("transformers.models.llama.modeling_llama", "peft", "timm", "torchvision", "tiny_models"),
    *("biod2c_core.inference.vqa_model", "openai", "PIL.Image", "biod2c_core.model.build"),
    *("matplotlib.font_manager", "pydicom", "nibabel"),
)


def strangers() -> dict[str, Any]:
    """All strangers by kind."""
    importlib.import_module("biod2c_core")  # makes torchvision importable beside a CPU torch
    return {kind: importlib.import_module(f"strangers.{kind}").STRANGER for kind in KINDS}


class Harness:
    """Runs trials, and keeps what became of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.worst: dict[str, list[float]] = {}
        self.violations: list[str] = []

    def run(self, kind: str, stranger: Any, numbers: list[int]) -> None:
        """Trials of one stranger."""
        from children import run_inputs
        from strangers.trials import Place, Trials

        trials = stranger.trials()
        made = self.root / "examples" / kind
        made.mkdir(parents=True)
        examples = stranger.prepare(made)

        @contextmanager
        def begin(sandbox: Any, said: Any) -> Iterator[Any]:
            with stranger.serve() if stranger.serve else nullcontext("") as url:
                place = Place(sandbox.folder, examples, url)
                run = Trials(place, stranger.tricks[0], said)
                yield lambda number: run.prepare(*trials[number])

        began = time.monotonic()
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            for number, outcome in run_inputs(begin, some, self.root / "runs" / kind):
                trick, command = trials[number]
                self._keep(kind, trick.name, command.name, outcome)
            shutil.rmtree(self.root / "runs", ignore_errors=True)
        print(f"{kind}: {len(numbers)} in {time.monotonic() - began:.0f} s", file=sys.stderr)

    def _keep(self, kind: str, trick: str, command: str, outcome: Any) -> None:
        good = outcome.verdict in ("answered", "refused")
        self.counts[kind, command, outcome.verdict if good else "violated"] += 1
        worst = self.worst.setdefault(kind, [0.0, 0.0])
        worst[0] = max(worst[0], outcome.seconds)
        worst[1] = max(worst[1], outcome.memory / 2**20)
        if os.environ.get("BIOD2C_TELL"):
            line = f"{kind}: {trick}: {command} {outcome.verdict} {outcome.seconds:.1f} s "
            print(line + " ".join(outcome.detail.split())[:160], file=sys.stderr)
        if not good:
            self.violations.append(
                f"{kind}: {trick}: {command} {outcome.verdict}: {outcome.detail}"
            )
            print(f"VIOLATION {self.violations[-1]}", file=sys.stderr)

    def table(self) -> str:
        """How many trials of each command ended how."""
        rows = [["stranger", "command", "trials", "answered", "refused", "violated"]]
        for kind, command in dict.fromkeys((kind, command) for kind, command, _ in self.counts):
            numbers = [self.counts[kind, command, each] for each in rows[0][3:]]
            rows.append([kind, f"`{command}`", *(f"{each:,}" for each in (sum(numbers), *numbers))])
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        for kind, (seconds, memory) in self.worst.items():
            text += f"\n{kind}: the slowest {seconds:.1f} s, the largest {memory:,.0f} MiB"
        return f"{text}\n\n{sum(self.counts.values()):,} trials, {len(self.violations)} violations"


def main() -> int:
    """Make the honest things, have tricks played on them, have them read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS), help="with commas")
    parser.add_argument("--trials", type=int, help="as many, drawn at random, of each kind")
    parser.add_argument("--seed", default="0")
    parser.add_argument(
        "--only", default="", help='"KIND: TRICK: COMMAND"; the last two may be left out'
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of one trial, at most")
    options = parser.parse_args()
    wanted = [part.strip() for part in options.only.split(":", 2)] if options.only else []
    with tempfile.TemporaryDirectory() as root:
        os.environ |= {"BIOD2C_CACHE": f"{root}/cache", "HF_HOME": f"{root}/hub"}
        for name in _MODULES:
            importlib.import_module(name)
        importlib.import_module("children").MOST_SECONDS = options.seconds
        harness, known = Harness(Path(root)), strangers()
        for kind in wanted[:1] or options.kinds.split(","):
            trials = known[kind].trials()
            numbers = list(range(len(trials)))
            if options.trials:
                drawn = random.Random(f"{options.seed} {kind}")
                numbers = drawn.sample(numbers, min(options.trials, len(numbers)))
            for place, name in enumerate(wanted[1:]):
                numbers = [each for each in numbers if not name or trials[each][place].name == name]
            harness.run(kind, known[kind], numbers)
        print(harness.table())
    for line in harness.violations:
        print("VIOLATION", " ".join(line.split())[:2000])
    return 1 if harness.violations else 0


if __name__ == "__main__":
    sys.exit(main())
