"""The commands that are disturbed: what they are given, and what they must have made in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_VOLATILE = ("tokens_per_s", "memory_gb", "epoch")


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        name: For the table.
        arguments: Of ``biod2c``, given the folder of the inputs and that of the outputs.
        result: What must be equal however often the command was disturbed.
    """

    name: str
    arguments: Callable[[Path, Path], list[object]]
    result: Callable[[Path], Any]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _train(inputs: Path, out: Path) -> list[object]:
    options = ["--preset", inputs / "toy.yaml", "--device", "cpu", "--resume"]
    return ["train", "--data", inputs / "data/records.jsonl", "-o", out / "run", *options]


def _trained(out: Path) -> Any:
    rows = [json.loads(line) for line in (out / "run/log.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    return losses, digest(out / "run/model/model.safetensors")


def _filter(inputs: Path, out: Path) -> list[object]:
    place = ["filter-images", "run", inputs / "images", "-o", out / "out.jsonl"]
    return [*place, "--encoder", inputs / "model", "--filter", inputs / "filter", "--device", "cpu"]


def _evaluate(inputs: Path, out: Path) -> list[object]:
    model = ["--model", inputs / "model", "--device", "cpu"]
    return ["evaluate", inputs / "data/records.jsonl", "--split", "all", *model, "-o", out / "run"]


def _evaluated(out: Path) -> Any:
    lines = (out / "run/predictions.jsonl").read_text().splitlines()
    scores = json.loads((out / "run/result.json").read_text())
    return sorted(lines), scores.get("scores"), digest(out / "run/questions.jsonl")


def _import(inputs: Path, out: Path) -> list[object]:
    return ["data", "import", "jsonl", inputs / "many/records.jsonl", "-o", out / "records.jsonl"]


def _export(inputs: Path, out: Path) -> list[object]:
    return ["export", out / "model", "--model", inputs / "model"]


def _exported(out: Path) -> Any:
    return {path.name: digest(path) for path in sorted((out / "model").iterdir())}


def _gen_qa(inputs: Path, out: Path) -> list[object]:
    url = (inputs / "endpoint").read_text()
    options = ["--base-url", url, "--timeout", "20"]
    return ["gen-qa", inputs / "captions/records.jsonl", "-o", out / "qa.jsonl", *options]


CASES = (
    Case("train", _train, _trained),
    Case("filter-images run", _filter, lambda out: digest(out / "out.jsonl")),
    Case("gen-qa", _gen_qa, lambda out: digest(out / "qa.jsonl")),
    Case("evaluate", _evaluate, _evaluated),
    Case("data import", _import, lambda out: digest(out / "records.jsonl")),
    Case("export", _export, _exported),
)


def make_inputs(folder: Path) -> None:
    """Everything that the commands read, as small as it goes."""
    import tiny_models
    from PIL import Image

    from biod2c_cli import app
    from biod2c_core.config import dump_config
    from biod2c_core.model.checkpoints.folder import save_checkpoint

    llama = tiny_models.save_language_model(folder / "llama")
    save_checkpoint(folder / "model", *tiny_models.build(llama))
    tiny_models.write_data(folder / "data", 12)
    config = tiny_models.training_config(llama, max_steps=8, save_every=1, keep=2)
    config = replace(config, model=replace(config.model, fusion_layers=1))
    (folder / "toy.yaml").write_text(dump_config(config))
    tiny_models.write_data(folder / "many", 4000)
    (folder / "images").mkdir()
    labels = ["image,label"]
    for index in range(60):
        name, light = f"{index:02d}.png", index % 2
        picture = Image.new("L", (60, 60), 250) if light else tiny_models.make_image(index)
        picture.convert("RGB").save(folder / "images" / name)
        labels.append(f"images/{name},{'polluted' if light else 'clean'}")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    fit = ["filter-images", "fit", folder / "labels.csv", "-o", folder / "filter"]
    options = ["--encoder", folder / "model", "--device", "cpu"]
    app.app([str(each) for each in [*fit, *options]], standalone_mode=False)
    (folder / "captions").mkdir()
    Image.new("RGB", (60, 40), (90, 20, 30)).save(folder / "captions/i.jpg")
    rows = [
        {
            "id": f"r{number}",
            "image": "i.jpg",
            "question": "Describe the image.",
            "caption": f"Chest CT number {number} showing a mass in the lung.",
        }
        for number in range(40)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "captions/records.jsonl").write_text(text)
