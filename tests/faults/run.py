"""Disturb long commands at random, run them again, and see whether all is as if nothing had happened.

``python tests/faults/run.py --runs 500`` prints a table; the exit code is 1 if anything was violated. Each
run starts a command in a new folder, disturbs it, and then runs the same command again. The command must
then have made what it makes undisturbed, or say with one line what to do. A disturbed command must end by
the disturbance itself, or with one line: no traceback, no bug, nothing half written, nothing paid twice.
Processes are forked from this one, which has imported everything; one that does nothing for a minute is a
violation, with the stacks of its threads.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OPENAI_API_KEY"] = "sk-none"

_MODULES = ("biod2c_core", "transformers.models.llama.modeling_llama", "peft", "tiny_models")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=86400, help="begin no run after so long")
    parser.add_argument("--commands", default="", help="names, with commas; default: all")
    parser.add_argument("--disturbances", default="", help="names, with commas; default: all")
    parser.add_argument("--folder", type=Path, help="work here, and keep what was violated")
    return parser.parse_args()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> int:
    """Make the inputs, run each command undisturbed, then disturb."""
    options = _options()
    for name in _MODULES:
        importlib.import_module(name)
    from cases import CASES
    from disturbances import all_disturbances
    from endpoint import endpoint
    from harness import Harness
    from inputs import make_inputs
    from running import in_child
    from tables import tables

    names, hows = options.commands.split(","), options.disturbances.split(",")
    cases = [case for case in CASES if names == [""] or case.name in names]
    disturbances = [how for how in all_disturbances() if hows == [""] or how.name in hows]
    with _folder(options.folder) as root:
        os.environ["BIOD2C_CACHE"] = str(root / "cache")
        (root / "inputs").mkdir()
        read = {name for case in cases for name in case.reads}
        in_child(lambda: make_inputs(root / "inputs", read), "the inputs")
        with endpoint(root / "inputs") as served:
            harness = Harness(root, options.seed, served)
            for case in cases:
                harness.measure(case)
            plan = [(case, how) for how in disturbances for case in cases]
            began = time.monotonic()
            for number in range(options.runs):
                if time.monotonic() - began > options.seconds:
                    break
                if number % len(plan) == 0:
                    harness.random.shuffle(plan)
                harness.disturb(*plan[number % len(plan)], number)
        print(tables(harness, [each.name for each in cases], [each.name for each in disturbances]))
    return 1 if harness.violations else 0


if __name__ == "__main__":
    sys.exit(main())
