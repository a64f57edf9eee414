"""How much memory a process takes to start a training, beside what the weights take, and how long.

    python benchmarks/host_memory.py [--millions 200] [--processes 2]

A random LLaMA of so many parameters is written in bfloat16. Then processes that share the machine
build BioD2C around it as `biod2c train` does with `stage2.base_weights=bfloat16`; beside each, in
turn, another one loads the language model alone with `from_pretrained`. Peaks are of memory of the
process's own, above what it holds after its imports; pages of the file, which all processes share, do
not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import biod2c_core  # noqa: F401 (first of all: makes torchvision importable beside a CPU torch)

WIDTH = 1024
ROUNDS = 3


def write_model(folder: Path, millions: float) -> int:
    """A random LLaMA in bfloat16 with a tokenizer; its parameters are returned."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", "yes", "no"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    layer = 4 * WIDTH * WIDTH + 3 * WIDTH * 2816
    layers = max(1, round((millions * 1e6 - 2 * 32000 * WIDTH) / layer))
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=WIDTH,
        intermediate_size=2816,
        num_hidden_layers=layers,
        num_attention_heads=16,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def start(folder: str, alone: bool) -> None:
    """In a process of its own: start, then print seconds of processor time and MiB."""
    import torch
    from transformers import AutoModelForCausalLM

    from biod2c_core.config import load_config, override
    from biod2c_core.training.start import start_model

    config = override(load_config("tiny"), [f"model.language_model={folder}"])
    before, began = _own_mib(), time.process_time()
    peak = _Peak()
    peak.start()
    if alone:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        held = model
    else:
        held = start_model(config, None, 0, torch.bfloat16)
    seconds = time.process_time() - began
    peak.seen = max(peak.seen, _own_mib())
    print(json.dumps({"seconds": seconds, "mib": peak.seen - before, "kind": type(held).__name__}))


class _Peak(threading.Thread):
    """Watches the memory of this process."""

    seen = 0.0

    def __init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while True:
            self.seen = max(self.seen, _own_mib())
            time.sleep(0.002)


def _own_mib() -> float:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def run(folder: Path, alone: bool, processes: int) -> list[dict[str, float]]:
    """So many processes at once."""
    arguments = [sys.executable, __file__, "--start", str(folder), *(["--alone"] if alone else [])]
    running = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return [json.loads(each.communicate()[0]) for each in running]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--millions", type=float, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        start(given.start, given.alone)
        return
    with tempfile.TemporaryDirectory() as name:
        size = write_model(Path(name), given.millions) * 2 / 2**20
        ours, alone = [], []
        for _ in range(ROUNDS):
            ours += run(Path(name), False, given.processes)
            alone += run(Path(name), True, given.processes)
    for what, rows in (("biod2c", ours), ("from_pretrained alone", alone)):
        mib = statistics.median(row["mib"] for row in rows)
        seconds = statistics.median(row["seconds"] for row in rows)
        print(f"{what:22}{mib:8.0f} MiB, {mib / size:.2f} x the weights, {seconds:.2f} s")


if __name__ == "__main__":
    main()
