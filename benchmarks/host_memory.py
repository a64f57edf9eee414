"""How much memory processes take to start a training, beside what the weights take, and how long.

    python benchmarks/host_memory.py [--millions 200] [--processes 1 2] [--base-weights bfloat16]

A random LLaMA of so many parameters is written in bfloat16. Then processes that share the machine
build BioD2C around it as `biod2c train` does with these `base_weights`, and read all of its weights
once; beside them, in turn, others load the language model alone with `from_pretrained`. The peak is
of all memory of a process, pages of the file too, above what it holds after its imports, beside the
size of what it has built; seconds are of the processor, for loading the language model once more. "In all" is
with its imports, beside what `--dry-run` says. Pages that processes share count once in the memory of
all of them.
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
from biod2c_core.config import TrainingConfig, load_config, override
from biod2c_core.data.records import Record, write_records

WIDTH = 1024
_LOADS = 5
MIB = 2**20


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


def settings(folder: str, base_weights: str) -> TrainingConfig:
    """Of the run."""
    return override(
        load_config("tiny"),
        [
            f"model.language_model={folder}",
            f"stage2.base_weights={base_weights}",
            "stage2.bf16=true",
        ],
    )


def start(folder: str, base_weights: str, alone: bool) -> None:
    """In a process of its own: start, print seconds and MiB; then, once all have started, MiB of all."""
    import peft  # noqa: F401 (an import is no weight)
    import timm  # noqa: F401
    from transformers import AutoModelForCausalLM

    from biod2c_core.model.backbones.language_model import load_language_model
    from biod2c_core.training.hardware.base_weights import base_dtype
    from biod2c_core.training.stages import prepare_stage
    from biod2c_core.training.start import start_model

    config = settings(folder, base_weights)
    dtype = base_dtype(config.stage2)
    load = AutoModelForCausalLM.from_pretrained if alone else load_language_model
    before = _mib()
    peak = _Peak()
    peak.start()
    if alone:
        model = load(folder, dtype=dtype)
    else:
        model, _ = start_model(config, None, 0, dtype)
        prepare_stage(model, 2, config.stage2, config.model.lora)
    for parameter in model.parameters():
        parameter.sum()  # a page of a file is memory only once it has been read
    whole = max(peak.seen, _mib())
    held = sum(each.numel() * each.element_size() for each in model.parameters()) / MIB
    began = time.process_time()
    for _ in range(_LOADS):  # the first load is mostly Python's imports
        load(folder, dtype=dtype)
    seconds = (time.process_time() - began) / _LOADS
    told = {"seconds": seconds, "above": whole - before, "whole": whole, "weights": held}
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
    print(json.dumps(_mib("/proc/self/smaps_rollup", ("Pss:",))), flush=True)
    sys.stdin.readline()


class _Peak(threading.Thread):
    """Watches the memory of this process."""

    seen = 0.0

    def __init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while True:
            self.seen = max(self.seen, _mib())
            time.sleep(0.002)


def _mib(
    file: str = "/proc/self/status", names: tuple[str, ...] = ("RssAnon:", "RssFile:")
) -> float:
    lines = [line.split() for line in Path(file).read_text("utf-8").splitlines()]
    return sum(int(line[1]) / 1024 for line in lines if line[0] in names)


def run(
    folder: Path, base_weights: str, alone: bool, processes: int
) -> tuple[list[dict[str, float]], float]:
    """What so many processes at once say of themselves, and MiB of all of them together."""
    arguments = [sys.executable, __file__, "--start", str(folder), "--base-weights", base_weights]
    running = [
        subprocess.Popen(
            [*arguments, *(["--alone"] if alone else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    told = [json.loads(each.stdout.readline()) for each in running]  # type: ignore[union-attr]
    shares = []
    for each in running:
        print(file=each.stdin, flush=True)
        shares.append(json.loads(each.stdout.readline()))  # type: ignore[union-attr]
    for each in running:
        each.communicate("\n")
    return told, sum(shares)


def planned(folder: Path, base_weights: str, processes: int) -> float:
    """MiB of each process as `biod2c train --dry-run` says."""
    from biod2c_core.training.dry_run import make_plan
    from biod2c_core.training.hardware.engines import Engine

    write_records(folder / "records.jsonl", [Record("a", "a.png", "is it?", "yes")])
    config = settings(str(folder), base_weights)
    data = [folder / "records.jsonl"]
    plan = make_plan(config, 2, data, None, processes, Engine(), None)
    return plan.host_memory * 1024


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--millions", type=float, default=200)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--base-weights", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        start(given.start, given.base_weights, given.alone)
        return
    with tempfile.TemporaryDirectory() as name:
        print(f"{write_model(Path(name), given.millions):,} parameters")
        for processes in given.processes:
            rows: dict[str, list[dict[str, float]]] = {"biod2c": [], "from_pretrained alone": []}
            together: dict[str, list[float]] = {what: [] for what in rows}
            for _ in range(given.rounds):
                for what, found in rows.items():
                    told, shared = run(Path(name), given.base_weights, what != "biod2c", processes)
                    found += told
                    together[what].append(shared)
            plan = planned(Path(name), given.base_weights, processes)
            for what, found in rows.items():
                middle = {key: statistics.median(row[key] for row in found) for key in found[0]}
                print(
                    f"{processes} x {what:22}{middle['above']:6.0f} MiB, "
                    f"{middle['above'] / middle['weights']:.2f} x its weights; "
                    f"in all {middle['whole']:.0f}"
                    + (f" (dry run {plan:.0f})" if what == "biod2c" else "")
                    + f", of all processes {statistics.median(together[what]):.0f}; "
                    f"{middle['seconds']:.3f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
