"""Checkpoints: each small file falsified, headers of weights, code and pickles beside them, links."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tiny_models
from children import CANARY, Read, Said, outcome_of_call, outcome_of_command
from mutations import VALUES, either, mutate_tree, mutated

from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.checkpoints.convert import convert
from biod2c_core.model.checkpoints.folder import fingerprint, save_checkpoint
from biod2c_core.model.checkpoints.tensor_files import read_tensors
from biod2c_core.model.familiarity import Reference

_CURVE = {
    "method": "isotonic",
    "temperature": 1.0,
    "points": [[0.0, 0.1], [1.0, 0.9]],
    "records": 30,
}


def prepare(folder: Path) -> dict[str, Any]:
    """A tiny checkpoint with everything that one can have, a language model, a picture, records."""
    import torch

    llama = tiny_models.save_language_model(folder / "llama")
    whole = folder / "model"
    save_checkpoint(whole, *tiny_models.build(llama))
    width = 2 * tiny_models.GRID[-1]
    first = torch.nn.functional.one_hot(torch.tensor([0]), width).float()
    identity = fingerprint(whole)
    Reference(torch.zeros(width), torch.ones(width), first, torch.full((20,), 1e-3)).save(
        whole, identity
    )
    curves = {"yes_no": _CURVE, "other": _CURVE}
    (whole / "calibration.json").write_text(json.dumps({"weights": identity, **curves}))
    tiny_models.write_data(folder / "data", 4)
    return {"model": whole, "llama": llama, "data": folder / "data/records.jsonl"}


def damage(folder: Path, canary: Path, rng: random.Random) -> None:
    """Falsify one to three of a folder's files, or put others beside them."""
    for _ in range(rng.randint(1, 3)):
        files = sorted(each for each in folder.iterdir() if each.is_file())
        if not files:
            return
        path = rng.choice(files)
        kind = rng.randrange(10)
        if path.suffix == ".safetensors" and kind < 7:
            path.write_bytes(_falsified(path.read_bytes(), rng))
        elif path.suffix == ".json" and kind < 7:
            text = path.read_bytes()
            try:
                path.write_bytes(
                    either(text, json.loads(text), lambda t: json.dumps(t).encode(), rng)
                )
            except (ValueError, RecursionError):
                path.write_bytes(mutated(text, rng))
        elif kind == 7:
            path.unlink()
            if rng.random() < 0.6:
                _put(path, rng)
        else:
            _further(folder, canary, rng)


def _put(path: Path, rng: random.Random) -> None:
    """What is no file, in the place of one."""
    kind = rng.randrange(3)
    if kind == 0:
        path.symlink_to(rng.choice(("/dev/zero", "/dev/stdin", "/etc/passwd", path.name, ".")))
    elif kind == 1:
        os.mkfifo(path)
    else:
        path.mkdir()


def _falsified(data: bytes, rng: random.Random) -> bytes:
    """Another header of safetensors, or other bytes."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
    except (struct.error, ValueError, OverflowError):
        return mutated(data, rng)
    kind = rng.randrange(5)
    if kind == 0:
        return mutated(data, rng)
    if kind == 1:
        return struct.pack("<Q", rng.choice((0, 2, 10**6, 2**40, 2**64 - 1))) + data[8:]
    if kind == 2:
        header[rng.choice(list(header))] = rng.choice(VALUES)
    else:
        entry = header[
            rng.choice([name for name in header if name != "__metadata__"] or list(header))
        ]
        if isinstance(entry, dict) and kind == 3:
            entry["dtype"] = rng.choice(("F64", "BF16", "I8", "F8_E4M3", "U64", "BOOL", "X", 7))
            entry["shape"] = rng.choice(([], [0], [2**62, 4], [-1], [1] * 1000, entry.get("shape")))
        else:
            mutate_tree(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _further(folder: Path, canary: Path, rng: random.Random) -> None:
    """Code, pickles, indexes and templates that an honest checkpoint does not have."""
    code = f"open({str(canary)!r}, 'w')\nclass Model: pass\nclass Config: pass\nclass Tokenizer: pass\n"
    command = f"touch {canary}".encode()
    kind = rng.randrange(6)
    if kind == 0:
        (folder / "theirs.py").write_text(code)
        names = {
            "AutoConfig": "theirs.Config",
            "AutoModel": "theirs.Model",
            "AutoProcessor": "theirs.Model",
        }
        names["AutoModelForCausalLM"] = "theirs.Model"
        name = rng.choice(("config.json", "tokenizer_config.json", "processor_config.json"))
        _edit(folder / name, {"auto_map": names, "tokenizer_class": "Theirs"})
    elif kind == 1:
        name = rng.choice(
            ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "model.safetensors")
        )
        (folder / name).write_bytes(b"cos\nsystem\n(S'" + command + b"'\ntR.")
    elif kind == 2:
        name = rng.choice(
            ("model.safetensors.index.json", "../model.safetensors", "/dev/zero", "x" * 5000)
        )
        index = {"metadata": {}, "weight_map": {"beta": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    elif kind == 3:
        template = rng.choice(
            (
                "{% for a in range(10**9) %}x{% endfor %}",
                "{{ ''.__class__.__mro__ }}",
                "{{ 'a' * 10**9 }}",
            )
        )
        (folder / "chat_template.jinja").write_text(template)
        _edit(folder / "processor_config.json", {"prompt": "chat"})
    elif kind == 4:
        names = (
            "adapter_config.json",
            "preprocessor_config.json",
            "generation_config.json",
            "added_tokens.json",
        )
        text = json.dumps({"peft_type": "LORA", "base": rng.choice(VALUES)})
        path = folder / rng.choice(names)
        if path.is_file() or not path.exists():
            path.write_text(text)
    else:
        size = rng.choice(
            ("hidden_size", "num_hidden_layers", "vocab_size", "image_size", "fusion_layers", "r")
        )
        _edit(folder / "config.json", {size: rng.choice((-1, 10**6, 10**12, 10**400, 0))})


def _edit(path: Path, changes: dict[str, Any]) -> None:
    if not path.is_file():  # a pipe, which would be waited for
        return
    try:
        content = json.loads(path.read_bytes())
        content.update(changes)
        path.write_text(json.dumps(content))
    except (OSError, ValueError, AttributeError, RecursionError):
        pass  # damaged before


def begin(examples: dict[str, Any], folder: Path, said: Said) -> Iterator[Callable[..., Read]]:
    picture = examples["data"].parent / "0.png"

    def one(rng: random.Random) -> Read:
        theirs = folder / "theirs"
        shutil.rmtree(theirs, ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        language = rng.random() < 0.2
        shutil.copytree(examples["llama" if language else "model"], theirs)
        damage(theirs, folder / CANARY, rng)
        plan: list[Any] = ["--data", examples["data"], "-o", folder / "run", "--dry-run"]
        cpu = ["--device", "cpu"]
        if language:
            parts = [f"model.language_model={theirs}", "model.vision.name=test_efficientnet"]
            parts += [
                "model.vision.library=timm",
                "model.vision.image_size=64",
                "model.vision.levels=[3]",
            ]
            options = [word for part in parts for word in ("--set", part)]
            command = ["train", *plan, *options, *cpu]
            return lambda: outcome_of_command(command, said)
        way = rng.random()
        if way < 0.6:
            return lambda: outcome_of_call(lambda: _ask(theirs, picture))
        if way < 0.7:
            return lambda: outcome_of_call(lambda: read_tensors(theirs))
        if way < 0.75:
            return lambda: outcome_of_call(
                lambda: convert(theirs, folder / "out", str(examples["llama"]))
            )
        commands: tuple[list[Any], ...] = (
            ["ask", picture, "is it?", "-m", theirs, *cpu],
            ["attn-map", picture, "is it?", "-m", theirs, "-o", folder / "map.png", *cpu],
            ["export", folder / "out", "-m", theirs],
            ["train", *plan, "-m", theirs, *cpu],
            [
                "filter-images",
                "run",
                picture.parent,
                "-o",
                folder / "f.jsonl",
                "--encoder",
                theirs,
                *cpu,
            ],
            ["push", theirs, "them/theirs", "--card-only"],
        )
        command = rng.choice(commands)
        (folder / "f.jsonl").unlink(missing_ok=True)
        return lambda: outcome_of_command(command, said)

    yield one


def _ask(folder: Path, picture: Path) -> None:
    VQAModel.load(folder, "cpu").ask(picture, "is it?")
