"""Presets and other YAML: trees with absurd values, aliases that multiply, tags that would run code."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tiny_models
import yaml
from children import CANARY, Read, Said, outcome_of_command
from mutations import either, mutated

from biod2c_core.config import dump_config, load_config


def prepare(folder: Path) -> dict[str, Any]:
    """The presets that come with the project, and a tiny one with data."""
    llama = tiny_models.save_language_model(folder / "llama")
    tiny_models.write_data(folder / "data", 4)
    texts = [dump_config(tiny_models.training_config(llama, max_steps=1))]
    texts += [dump_config(load_config(name)) for name in ("tiny", "paper", "smol", "qlora-16gb")]
    return {"texts": texts, "data": folder / "data/records.jsonl"}


def _bombs(folder: Path) -> tuple[str, ...]:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    mark = folder / CANARY
    return (
        "a0: &a0 [x, x]\n" + levels,
        f"model: !!python/object/apply:os.system ['touch {mark}']\n",
        f"model: !!python/object/new:subprocess.Popen [['touch', '{mark}']]\n",
        f"? !!python/name:builtins.eval\n: 'open(\"{mark}\", \"w\")'\n",
        "stage1: {learning_rate: " + "9" * 1_000_000 + "}\n",
        "stage1: {seed: 1" + "_000" * 100_000 + "}\n",
        "model: &m {lora: *m}\n",
        "model: {prompt: \"" + "x" * 2_000_000 + "\"}\n",
        "[" * 100_000,
        "{a: " * 5000,
        "- " * 50_000,
        "a: 2001-99-99\nb: 0o9\nc: 1:60:99:99:99\n",
        "<<: [1, 2]\n",
        "model: {vision: {name: local-dir:/etc, library: open_clip}}\n",
        "\x00", "\ufeff---\n---\n", "%YAML 9.9\n---\n", "a: \"\\uD800\"\n",
    )  # fmt: skip


def _dump(tree: Any) -> bytes:
    return str(yaml.safe_dump(tree, allow_unicode=True)).encode("utf-8", "surrogatepass")


def begin(examples: dict[str, Any], folder: Path, said: Said) -> Iterator[Callable[..., Read]]:
    bombs = _bombs(folder)

    def one(rng: random.Random) -> Read:
        path = folder / "preset.yaml"
        if rng.random() < 0.15:
            path.write_bytes(rng.choice(bombs).encode("utf-8", "surrogatepass"))
        elif rng.random() < 0.3:
            path.write_bytes(mutated(rng.choice(examples["texts"]).encode(), rng))
        else:
            text = rng.choice(examples["texts"])
            path.write_bytes(either(text.encode(), yaml.safe_load(text), _dump, rng))
        plan: list[Any] = [
            "--data",
            examples["data"],
            "-o",
            folder / "run",
            "--dry-run",
            "--device",
            "cpu",
        ]
        commands: tuple[list[Any], ...] = (
            ["presets", "validate", path],
            ["presets", "show", path],
            ["train", "--preset", path, *plan],
            ["train", path, *plan],
            ["gen-qa", examples["data"], "-o", folder / "qa.jsonl", "--dry-run", "--prices", path],
        )
        command = rng.choice(commands)
        return lambda: outcome_of_command(command, said)

    yield one
