"""A preset, and what else people write by hand: run files, price tables, prompts, engines, lists of hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import tiny_models
import yaml
from children import CANARY

from strangers.files import link, replaced, written
from strangers.trials import CPU, HONEST, REFUSED, Command, Place, Stranger, Trick

_BASES = ("settings",)
_YAML = ("preset.yaml", "run.yaml", "prices.yaml")
_FILES = (*_YAML, "engine.json", "hosts", "prompt.txt")


def prepare(folder: Path) -> dict[str, Path]:
    """All of them in one folder, captions to ask about, and predictions to judge."""
    from biod2c_core.config import dump_config

    llama = tiny_models.save_language_model(folder / "llama")
    data = tiny_models.write_data(folder / "data", 4, images=2)
    rows = [json.loads(line) | {"caption": "A film."} for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = folder / "settings"
    made.mkdir()
    text = dump_config(tiny_models.training_config(llama, max_steps=1, batch_size=2, queue_size=0))
    (made / "preset.yaml").write_text(text)
    run = {"data": [str(data)], "output": "unused", **yaml.safe_load(text)}
    (made / "run.yaml").write_text(yaml.safe_dump(run))
    (made / "prices.yaml").write_text("models: {gpt-4o: {input: 1, output: 2}}\n")
    (made / "engine.json").write_text('{"zero_optimization": {"stage": 2}}')
    (made / "hosts").write_text("localhost slots=1\n")
    (made / "prompt.txt").write_text("Ask about {caption}.")
    answers = [{"id": row["id"], "answer": "a"} for row in rows]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    picture = folder / "data/0.png"
    return {"settings": made, "data": data, "answers": folder / "answers.jsonl", "picture": picture}


def _all(content: str | bytes, names: tuple[str, ...] = _FILES) -> Callable[[Path], None]:
    """The same in all files."""

    def play(folder: Path) -> None:
        for name in names:
            written(name, content)(folder)

    return play


def _linked(target: str) -> Callable[[Path], None]:
    def play(folder: Path) -> None:
        for name in _FILES:
            replaced(name, link(target))(folder)

    return play


def _folders(folder: Path) -> None:
    for name in _FILES:
        replaced(name, Path.mkdir)(folder)


def _running(form: str) -> Callable[[Path], None]:
    """Text that would run a program that leaves a mark."""
    return lambda folder: _all(form.replace("MARK", str(folder.parent / CANARY)))(folder)


def _set(key: str, value: object) -> Callable[[Path], None]:
    """Another value in preset and run file."""

    def play(folder: Path) -> None:
        for name in ("preset.yaml", "run.yaml"):
            tree = yaml.safe_load((folder / name).read_text())
            *outer, last = key.split(".")
            held = tree
            for each in outer:
                held = held[each]
            held[last] = value
            (folder / name).write_text(yaml.safe_dump(tree))

    return play


_ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
_TEXTS = {
    "aliases that multiply": _ALIASES,
    "an alias of itself": "model: &m {lora: *m}\n",
    "a number of a million digits": "stage1: {learning_rate: " + "9" * 1_000_000 + "}\n",
    "a number with a million marks": "stage1: {seed: 1" + "_000" * 100_000 + "}\n",
    "2 MB of text": 'model: {prompt: "' + "x" * 2_000_000 + '"}\n',
    "100,000 brackets": "[" * 100_000,
    "5,000 braces": "{a: " * 5000,
    "50,000 dashes": "- " * 50_000,
    "dates that are none": "a: 2001-99-99\nb: 0o9\nc: 1:60:99:99:99\n",
    "a merge of no map": "<<: [1, 2]\n",
    "keys that are lists": "? [a, b]\n: 1\n",
    "keys that a terminal obeys": '"\\e[31m\\u202e[/b]": 1\n',
    "an unknown key": "model: {trust_remote_code: true}\n",
    "a null character": "\x00",
    "half a character": 'a: "\\uD800"\n',
    "another version": "%YAML 9.9\n---\n",
    "two documents": "---\na: 1\n---\nb: 2\n",
    "nothing": "",
    "a list": "- 1\n- 2\n",
    "a text": "just words\n",
    "formats": "{caption:>300000000} {caption.__class__}\n",
}
_TAGS = {
    "a tag that calls": "model: !!python/object/apply:os.system ['touch MARK']\n",
    "a tag that makes": "model: !!python/object/new:subprocess.Popen [['touch', 'MARK']]\n",
    "a tag that names": '? !!python/name:builtins.eval\n: \'open("MARK", "w")\'\n',
    "a tag that imports": "model: !!python/module:theirs\n",
    "a host that is an option": "-oProxyCommand=touch${IFS}MARK slots=1\n",
    "a host of absurd slots": "host slots=" + "9" * 5000 + "\n",
}
_VALUES = {
    "a batch of a billion": ("stage2.batch_size", 10**9),
    "a rate of infinity": ("stage2.learning_rate", float("inf")),
    "epochs that are none": ("stage2.epochs", float("nan")),
    "a queue of a billion": ("stage2.queue_size", 10**9),
    "a side of a million": ("model.vision.image_size", 10**6),
    "a million layers": ("model.fusion_layers", 10**6),
    "a billion visual tokens": ("model.num_visual_tokens", 10**9),
    "ranks without end": ("model.lora.r", 10**9),
    "a tower of the hub": ("model.vision.name", "hf-hub:them/theirs"),
    "a tower of a folder": ("model.vision.name", "local-dir:/etc"),
    "a language model outside": ("model.language_model", "../../../../etc"),
    "a language model that is a device": ("model.language_model", "/dev/zero"),
    "a language model of the hub": ("model.language_model", "them/theirs"),
    "a format as prompt": ("model.prompt", "{question:>300000000}"),
    "a map as number": ("stage2.seed", {"a": [1]}),
}


def _commands() -> tuple[Command, ...]:
    def path(place: Place, name: str) -> Path:
        return place.theirs / name

    def train(place: Place, *words: object) -> list[object]:
        data = place.examples["data"]
        return ["train", *words, "--data", data, "-o", place.out / "run", *CPU]

    def honest(place: Place) -> tuple[object, ...]:
        return "--preset", place.examples["settings"] / "preset.yaml"

    def asked(place: Place, *words: object) -> list[object]:
        generate = ["gen-qa", place.examples["data"], "-o", place.out / "qa.jsonl"]
        return [*generate, "--base-url", place.url, *words]

    def judged(place: Place) -> list[object]:
        given = ["evaluate", place.examples["data"], "--split", "all", "-o", place.out / "run"]
        judge = ["--judge", "gpt-4o", "--base-url", place.url, "--budget", "1"]
        answers = ["--predictions", place.examples["answers"]]
        return [*given, *answers, *judge, "--prices", path(place, "prices.yaml")]

    made: dict[str, tuple[str, Callable[[Place], list[object]]]] = {
        "presets show": (
            "presets show.preset",
            lambda p: ["presets", "show", path(p, "preset.yaml")],
        ),
        "presets validate": (
            "presets validate.presets",
            lambda p: ["presets", "validate", path(p, "preset.yaml")],
        ),
        "train --preset": (
            "train.preset",
            lambda p: train(p, "--preset", path(p, "preset.yaml"), "--batch-size", 2),
        ),
        "train RUN.yaml": ("train.run_file", lambda p: train(p, path(p, "run.yaml"), "--dry-run")),
        "train --deepspeed": (
            "train.deepspeed",
            lambda p: train(p, *honest(p), "--deepspeed", path(p, "engine.json"), "--dry-run"),
        ),
        "train --hostfile": (
            "train.hostfile",
            lambda p: train(p, *honest(p), "--hostfile", path(p, "hosts"), "--dry-run"),
        ),
        "gen-qa --prices": (
            "gen-qa.prices",
            lambda p: asked(p, "--budget", 1, "--prices", path(p, "prices.yaml")),
        ),
        "gen-qa --template": (
            "gen-qa.template",
            lambda p: asked(p, "--template", path(p, "prompt.txt")),
        ),
        "evaluate --prices": ("evaluate run.prices", judged),
    }
    unsteady = ("train RUN.yaml", "train --deepspeed", "train --hostfile")
    return tuple(
        Command(
            name,
            (reads,),
            arguments,
            "settings",
            steady=name not in unsteady,
            partly=name == "train --hostfile",
        )
        for name, (reads, arguments) in made.items()
    )


def _serve() -> object:
    """An honest endpoint."""
    from contextlib import contextmanager

    from biod2c_core.testing.scripted_endpoint import FakeEndpoint

    @contextmanager
    def serving():  # type: ignore[no-untyped-def]
        with FakeEndpoint() as endpoint:
            yield endpoint.base_url

    return serving()


STRANGER = Stranger(
    prepare,
    (
        Trick(HONEST, lambda _: None),
        *(Trick(name, _all(text)) for name, text in _TEXTS.items()),
        *(Trick(name, _running(form)) for name, form in _TAGS.items()),
        *(Trick(name, _set(key, value)) for name, (key, value) in _VALUES.items()),
        Trick("UTF-16", _all("a: 1\n".encode("utf-16"))),
        Trick("bytes of no text", _all(b"\xff\xfe\x00\x80" * 9)),
        Trick("a device", _linked("/dev/zero"), expected=REFUSED),
        Trick("itself", _linked("preset.yaml"), expected=REFUSED),
        Trick("a folder", _folders, expected=REFUSED),
        Trick("100 MB", lambda folder: _all(b"# x\n" * (25 << 20), _YAML)(folder)),
    ),
    _commands(),
    _serve,
)
