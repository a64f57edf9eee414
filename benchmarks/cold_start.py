"""What one question costs from a standing start, beside the imports that a script of one's own would make.

    python benchmarks/cold_start.py [--rounds 5]

``biod2c ask`` about an example, which loads the embedded model, against a process that only imports torch
and transformers' LLaMA. The third process imports the same as these do inside ``ask``: without searching
for garbage; less than it no command with such a model can take. The answer must be the right one first,
and each time. Then all run in turn, on one thread; printed are the medians of their processor time, user
and system, and of the ratios to the first in the same round.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ANSWER = "x-ray\n"
LLAMA = "import torch; from transformers import LlamaForCausalLM"
AT_REST = "from biod2c_core.collector import imports_for_good\nwith imports_for_good(): "
COMMANDS = {  # biod2c_core first: it makes torchvision importable beside a CPU torch
    "imports of torch and LlamaForCausalLM": ["-c", f"import biod2c_core; {LLAMA}"],
    "the same imports as ask makes them": ["-c", f"{AT_REST}{LLAMA}"],
    "biod2c ask": [
        *("-m", "biod2c_cli", "ask", str(REPOSITORY / "examples" / "chest_xray.jpg")),
        "What imaging modality is this?",
    ],
}


def run(arguments: list[str], expected: str) -> float:
    """Processor seconds of a process, after a look at what it has printed."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    } | {"OMP_NUM_THREADS": "1"}  # an installed package is compiled, and a source tree is here
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or done.stdout != expected:
        sys.exit(f"{arguments[-1]!r} gives {done.stdout!r}, not {expected!r}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run each once, uncounted, then all in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    expected = {name: ANSWER if name == "biod2c ask" else "" for name in COMMANDS}
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for counted in [False] + [True] * rounds:
        for name, arguments in COMMANDS.items():
            seconds = run(arguments, expected[name])
            if counted:
                spent[name].append(seconds)
    reference = next(iter(spent.values()))
    for name, seconds in spent.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, reference, strict=True))
        print(f"{name}: {statistics.median(seconds):.2f} s, {ratio:.2f} of the first")


if __name__ == "__main__":
    main()
