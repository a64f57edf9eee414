"""The commands that are disturbed: what they are given, and what they must have made in the end."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inputs

Arguments = Callable[[Path, Path], list[object]]
LOCAL = ("--device", "cpu")


def _none_asked(_out: Path, _asked: int) -> int:
    return 0


def _nothing(_inputs: Path, _out: Path) -> None:
    """Nothing is expected where the output goes."""


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        name: For the table.
        reads: Names in the folder of the inputs.
        arguments: Of ``biod2c``, given the folder of the inputs and that of the outputs.
        result: What must be equal however often the command was disturbed.
        change: Changes what is read, for good.
        whole: Files in the output that are complete from the moment on that they are there.
        copy: Puts into the output what the command expects there.
        before: A command that is run first, undisturbed.
        after: A command that is run last, undisturbed.
        kept: How many answers are on the disk, given how many were asked for.
        in_flight: Answers that a disturbance may cost: those on their way.
    """

    name: str
    reads: tuple[str, ...]
    arguments: Arguments
    result: Callable[[Path], Any]
    change: Callable[[Path], None]
    whole: tuple[str, ...] = ()
    copy: Callable[[Path, Path], None] = _nothing
    before: Arguments | None = None
    after: Arguments | None = None
    kept: Callable[[Path, int], int] = _none_asked
    in_flight: int = 0


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """Of all files; those in its folders are notes of its own."""
    return {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _train(inputs: Path, out: Path) -> list[object]:
    options = ["--preset", inputs / "toy.yaml", "--resume", *LOCAL]
    return ["train", "--data", inputs / "data/records.jsonl", "-o", out / "run", *options]


def _trained(out: Path) -> Any:
    rows = [json.loads(line) for line in (out / "run/log.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    return losses, digest(out / "run/model/model.safetensors")


def _filter(inputs: Path, out: Path) -> list[object]:
    place = ["filter-images", "run", inputs / "images", "-o", out / "out.jsonl"]
    return [*place, "--encoder", inputs / "model", "--filter", inputs / "filter", *LOCAL]


def _fit(inputs: Path, out: Path) -> list[object]:
    return [
        *("filter-images", "fit", inputs / "labels.csv", "-o", out / "filter"),
        *("--encoder", inputs / "model", *LOCAL),
    ]


def _fitted(out: Path) -> Any:
    """To the digits that people are shown: weights depend on which images were encoded together."""
    files = [path.name for path in sorted((out / "filter").glob("*.*"))]
    return files, digest(out / "filter/predictions.csv"), digest(out / "filter/mistakes.png")


def _gen_qa(inputs: Path, out: Path) -> list[object]:
    url = (inputs / "endpoint").read_text()
    options = ["--base-url", url, "--timeout", "60", "--in-flight", "4"]
    return ["gen-qa", inputs / "captions/records.jsonl", "-o", out / "qa.jsonl", *options]


def _submit(inputs: Path, out: Path) -> list[object]:
    return [*_gen_qa(inputs, out), "--batch", "submit"]


def _collect(inputs: Path, out: Path) -> list[object]:
    return [*_gen_qa(inputs, out), "--batch", "collect"]


def _lines(path: Path) -> int:
    """Of a journal that are complete."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _doubled(journal: Path) -> int:
    """Answers that were kept twice."""
    keys = [
        row["key"]
        for line in journal.read_text().splitlines()
        if "key" in (row := json.loads(line))
    ]
    return len(keys) - len(set(keys))


def _pairs(out: Path) -> Any:
    return digest(out / "qa.jsonl"), _doubled(out / "qa.journal.jsonl")


def _evaluate(inputs: Path, out: Path) -> list[object]:
    model = ["--model", inputs / "model", *LOCAL]
    return ["evaluate", inputs / "data/records.jsonl", "--split", "all", *model, "-o", out / "run"]


def _evaluated(out: Path) -> Any:
    lines = (out / "run/predictions.jsonl").read_text().splitlines()
    scores = json.loads((out / "run/result.json").read_text())
    return sorted(lines), scores.get("scores"), digest(out / "run/questions.jsonl")


def _judge(inputs: Path, out: Path) -> list[object]:
    url = (inputs / "endpoint").read_text()
    return [*_evaluate(inputs, out), "--judge", "gpt-4o", "--base-url", url]


def _judged(out: Path) -> Any:
    verdicts = sorted((out / "run/judge.jsonl").read_text().splitlines())
    return _evaluated(out), verdicts, _doubled(out / "run/judge.journal.jsonl")


def _import(inputs: Path, out: Path) -> list[object]:
    return ["data", "import", "jsonl", inputs / "many/records.jsonl", "-o", out / "records.jsonl"]


def _mix(inputs: Path, out: Path) -> list[object]:
    parts = [f"{inputs / 'many/records.jsonl'}=0.5", inputs / "data/records.jsonl"]
    return ["data", "mix", *parts, "-o", out / "records.jsonl"]


def _queue(inputs: Path, out: Path) -> list[object]:
    place = ["data", "queue", inputs / "captions/records.jsonl", "-o", out / "records.jsonl"]
    return [*place, "--knowledge", "captions"]


def _records(out: Path) -> Any:
    return digest(out / "records.jsonl")


def _export(inputs: Path, out: Path) -> list[object]:
    return ["export", out / "model", "--model", inputs / "model"]


def _convert(inputs: Path, out: Path) -> list[object]:
    return ["convert", inputs / "clip/checkpoint.pt", out / "model"]


def _converted(out: Path) -> Any:
    preset = (out / "model/preset.yaml").read_text().replace(str(out.resolve()), "OUT")
    return preset, digest(out / "model/trunk.safetensors")


def _calibrate(inputs: Path, out: Path) -> list[object]:
    trained = ["--train", inputs / "known/records.jsonl"]
    return ["calibrate", inputs / "held/records.jsonl", "-m", out / "model", *trained, *LOCAL]


def _calibrated(out: Path) -> Any:
    names = ("calibration.json", "familiarity.safetensors", "model.safetensors")
    return [digest(out / "model" / name) for name in names]


CASES = (
    Case("train", ("toy.yaml", "data"), _train, _trained, inputs.change_answer("data")),
    Case(
        "filter-images run",
        ("images", "model", "filter"),
        _filter,
        lambda out: digest(out / "out.jsonl"),
        inputs.change_picture("images/03.png"),
        whole=("out.jsonl",),
    ),
    Case(
        "filter-images fit",
        ("images", "model", "labels.csv"),
        _fit,
        _fitted,
        inputs.change_picture("images/03.png"),
        whole=("filter/*.*",),
    ),
    Case(
        "gen-qa",
        ("captions", "endpoint"),
        _gen_qa,
        _pairs,
        inputs.change_caption,
        kept=lambda out, _: _lines(out / "qa.journal.jsonl"),
        in_flight=4,
    ),
    Case(
        "gen-qa --batch submit",
        ("captions", "endpoint"),
        _submit,
        _pairs,
        inputs.change_caption,
        after=_collect,
        kept=lambda _, asked: asked,  # the endpoint has the batch
    ),
    Case(
        "gen-qa --batch collect",
        ("captions", "endpoint"),
        _collect,
        _pairs,
        inputs.change_caption,
        before=_submit,
    ),
    Case(
        "evaluate",
        ("data", "model"),
        _evaluate,
        _evaluated,
        inputs.change_picture("data/0.png"),
        whole=("run/questions.jsonl",),  # result.json names the folder
    ),
    Case(
        "evaluate --judge",
        ("data", "model", "endpoint"),
        _judge,
        _judged,
        inputs.change_answer("data"),
        kept=lambda out, _: _lines(out / "run/judge.journal.jsonl"),
        in_flight=16,
    ),
    Case("data import", ("many",), _import, _records, inputs.change_answer("many"), ("*.jsonl",)),
    Case(
        "data mix",
        ("many", "data"),
        _mix,
        _records,
        inputs.change_answer("data"),
        whole=("records.jsonl",),
    ),
    Case(
        "data queue",
        ("captions",),
        _queue,
        _records,
        inputs.change_caption,
        whole=("records.jsonl",),
    ),
    Case(
        "export",
        ("model",),
        _export,
        lambda out: _digests(out / "model"),
        inputs.change_weights,
        whole=("model/*",),
    ),
    Case("convert", ("clip",), _convert, _converted, inputs.change_clip, ("model/*.safetensors",)),
    Case(
        "calibrate",
        ("known", "held", "model"),
        _calibrate,
        _calibrated,
        inputs.change_picture("held/30.png"),
        whole=("model/*",),
        copy=lambda inputs, out: _copy_model(inputs, out),
    ),
)


def _copy_model(inputs: Path, out: Path) -> None:
    shutil.copytree(inputs / "model", out / "model", dirs_exist_ok=True)
