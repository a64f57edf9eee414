"""Data of every layout, and the tables around it: predictions, results, labels, questions, archives."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layouts
import pytest
from children import CANARY, Read, Said, outcome_of_call, outcome_of_command
from mutations import either, mutated
from PIL import Image
from valid_files import encoded, lines, one_json, table_seeds

from biod2c_core.data.formats import find_format, read_records
from biod2c_core.data.importing import import_records
from biod2c_core.inference.questions import gather_questions

_VERDICT = {"id": "0", "score": 7, "passes": [7], "reason": "fine", "question": "q"}


def prepare(folder: Path) -> dict[str, Any]:
    """Data sets by place, and the folders of the published benchmarks' layouts."""
    import benchmark_layouts

    further = (
        "vqa_med_2019",
        "vqa_med_2020",
        "vqa_med_2021",
        "omnimedvqa",
        "medxpertqa",
        "probmed",
        "mmmu",
    )
    builders = [*layouts.LAYOUTS, *(getattr(benchmark_layouts, name) for name in further)]
    made = []
    for number, build in enumerate(builders):
        place = folder / f"layout{number}"
        place.mkdir()
        with contextlib.suppress(pytest.skip.Exception):
            made.append((place, build(place)))
    return {"tables": table_seeds(), "layouts": made}


def damaged(seed: tuple[str, bytes, Any, Any], rng: random.Random) -> bytes:
    _, text, tree, dump = seed
    if tree is None:
        return mutated(text, rng)
    with contextlib.suppress(RecursionError):
        return either(text, json.loads(json.dumps(tree)), dump, rng)
    return mutated(text, rng)


def begin(examples: dict[str, Any], folder: Path, said: Said) -> Iterator[Callable[..., Read]]:
    examples = {**examples, "result": _scored(examples, folder, said)}
    ways = (_imported, _imported, _imported, _layout, _command, _command, _predictions, _around)

    def one(rng: random.Random) -> Read:
        place = folder / "set"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return rng.choice(ways)(examples, place, rng, said)

    yield one


def _scored(examples: Any, folder: Path, said: Said) -> Any:
    """A result as ``evaluate`` writes it."""
    (folder / "all.jsonl").write_bytes(examples["tables"]["all.jsonl"][1])
    (folder / "answers.jsonl").write_bytes(lines([{"id": str(n), "answer": "a"} for n in range(3)]))
    command = ["evaluate", folder / "all.jsonl", "--predictions", folder / "answers.jsonl"]
    outcome = outcome_of_command([*command, "-o", folder / "whole"], said)
    assert outcome.verdict == "answered", outcome.detail
    return json.loads((folder / "whole/result.json").read_text())


def _imported(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    place = rng.choice(sorted(examples["tables"]))
    seed = examples["tables"][place]
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(damaged(seed, rng))
    out = folder / "out/out.jsonl"

    def read() -> None:
        find_format(path)
        try:
            import_records(path, out, format=seed[0])
        finally:
            if out.exists():
                read_records(out, "jsonl")  # what was written can be read without any complaint

    return lambda: outcome_of_call(read)


def _layout(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    """A published data set with damaged files in it."""
    whole, source = rng.choice(examples["layouts"])
    copy = shutil.copytree(whole, folder / "data")
    files = sorted(each for each in copy.rglob("*") if each.is_file())
    for path in rng.sample(files, min(len(files), rng.randint(1, 2))):
        path.write_bytes(mutated(path.read_bytes(), rng))
    if rng.random() < 0.2:
        path = rng.choice(files)
        path.unlink()
        path.symlink_to(rng.choice(("/dev/zero", "/etc/passwd", ".", path.name, "/dev/stdin")))
    given = copy / source.relative_to(whole)
    return lambda: outcome_of_command(["data", "import", given, "-o", folder / "out.jsonl"], said)


def _dataset(examples: Any, folder: Path, rng: random.Random) -> Path:
    """Records of our own with a picture, the records damaged."""
    Image.new("RGB", (9, 7), "red").save(folder / "x.jpg")
    (folder / "outside.jpg").symlink_to("/etc/passwd")
    path = folder / "all.jsonl"
    tree = json.loads(json.dumps(examples["tables"]["all.jsonl"][2]))
    if rng.random() < 0.2:
        tree[0]["image"] = rng.choice(
            ("outside.jpg", "../../../etc/passwd", "/etc/passwd", ".", "x.jpg/y")
        )
    path.write_bytes(damaged(("jsonl", lines(tree), tree, lines), rng))
    return path


def _command(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    path = _dataset(examples, folder, rng)
    out = folder / "out.jsonl"
    commands: tuple[list[Any], ...] = (
        ["data", "validate", path],
        ["data", "stats", path],
        ["data", "stats", path, "--json"],
        ["data", "split", path, "-o", out],
        ["data", "mix", f"{path}=2", "-o", out],
        ["data", "queue", path, "-o", out],
        ["data", "shuffle-choices", path, "-o", out],
        ["data", "export-vlmevalkit", path, "-o", folder / "out.tsv"],
        ["gen-qa", path, "-o", out, "--dry-run"],
    )
    return lambda: outcome_of_command(rng.choice(commands), said)


def _predictions(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    """Answers of anybody, scored; the data is whole, or damaged as well."""
    data = folder / "all.jsonl"
    data.write_bytes(examples["tables"]["all.jsonl"][1])
    if rng.random() < 0.2:
        data = _dataset(examples, folder, rng)
    rows = [{"id": str(n), "answer": "a", "confidence": 0.5} for n in range(3)]
    kind = rng.choice(("jsonl", "json", "csv"))
    answers = folder / f"answers.{kind}"
    if kind == "csv":
        answers.write_bytes(mutated(b"id,answer,confidence\n0,a,0.5\n1,b,1\n2,=1+1,0.1\n", rng))
    else:
        dump = lines if kind == "jsonl" else one_json
        answers.write_bytes(damaged(("", dump(rows), rows, dump), rng))
    profile = rng.choice(("multimedeval", "exact", "llava-med", "pmc-vqa", "medevalkit", "all"))
    command: list[Any] = ["evaluate", data, "--predictions", answers, "--profile", profile]
    if profile != "all" and rng.random() < 0.5:
        command += ["-o", folder / "run"]
    return lambda: outcome_of_command(command, said)


def _around(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    """Tables that are not data sets, and archives."""
    way = rng.choice((_verdicts, _result, _labels, _archive, _pickle, _questions, _knowledge))
    return way(examples, folder, rng, said)


def _verdicts(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    rows = [{**_VERDICT, "id": str(n)} for n in range(3)]
    (folder / "a.jsonl").write_bytes(damaged(("", lines(rows), rows, lines), rng))
    (folder / "b.csv").write_bytes(mutated(b"id,score\n0,7\n1,8\n2,3\n", rng))
    command = ["evaluate", "agree", folder / "a.jsonl", folder / "b.csv"]
    return lambda: outcome_of_command(command, said)


def _result(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    tree = json.loads(json.dumps(examples["result"]))
    (folder / "result.json").write_bytes(damaged(("", one_json(tree), tree, one_json), rng))
    command = ["evaluate", "table", f"mine={folder / 'result.json'}"]
    command += rng.choice(([], ["--format", "json"], ["--leaderboard", str(folder / "page.html")]))
    return lambda: outcome_of_command(command, said)


def _labels(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    Image.new("RGB", (9, 7), "red").save(folder / "x.jpg")
    text = b"image,label\n" + b"x.jpg,clean\nx.jpg,polluted\n" * 2
    (folder / "labels.csv").write_bytes(mutated(text, rng))
    command = ["filter-images", "fit", folder / "labels.csv", "-o", folder / "filter"]
    return lambda: outcome_of_command([*command, "--device", "cpu"], said)


def _archive(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    """A shard: names that lead outside, links, devices, sizes that lie, members that are bombs."""
    picture = encoded(Image.new("RGB", (9, 7), "red"), "PNG")
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    ) as tar:
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(
                (
                    "a.png",
                    "../../b.png",
                    "/tmp/c.png",
                    "d/e.png",
                    "x\x1b[31m.png",
                    "n" * 300 + ".png",
                )
            )
            member = tarfile.TarInfo(name)
            member.type = rng.choice(
                (tarfile.REGTYPE,) * 4 + (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
            )
            member.linkname = rng.choice(("/etc/passwd", "../..", "a.png"))
            member.size = len(picture) if member.type == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(picture))
    data = buffer.getvalue()
    path = folder / "shard.tar"
    path.write_bytes(mutated(data, rng) if rng.random() < 0.6 else data)
    command = ["filter-images", "run", path, "-o", folder / "out.jsonl", "--device", "cpu"]
    return lambda: outcome_of_command(command, said)


def _pickle(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    """A pickle that would run a program, as PathVQA's file."""
    program = f"touch {folder.parent / CANARY}"
    code = b"cos\nsystem\n(S'" + program.encode() + b"'\ntR."
    path = folder / "pvqa/qas/train/a_qa.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(code if rng.random() < 0.3 else mutated(code, rng))
    command = ["data", "import", "path-vqa", folder, "-o", folder / "out.jsonl"]
    return lambda: outcome_of_command(command, said)


def _questions(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    rows = [{"question": "is it?", "id": n, "boxes": [[0, 0, 1, 1]]} for n in range(3)]
    path = folder / "questions.jsonl"
    path.write_bytes(damaged(("", lines(rows), rows, lines), rng))
    return lambda: outcome_of_call(lambda: gather_questions([], path))


def _knowledge(examples: Any, folder: Path, rng: random.Random, said: Said) -> Read:
    (folder / "all.jsonl").write_bytes(examples["tables"]["all.jsonl"][1])
    path = folder / f"texts{rng.choice(('.jsonl', '.json', '.txt'))}"
    rows = ["The lung is clear.", {"text": "No mass."}]
    path.write_bytes(damaged(("", lines(rows), rows, rng.choice((lines, one_json))), rng))
    command = [
        "data",
        "queue",
        folder / "all.jsonl",
        "-o",
        folder / "out.jsonl",
        "--knowledge",
        path,
    ]
    return lambda: outcome_of_command(command, said)
