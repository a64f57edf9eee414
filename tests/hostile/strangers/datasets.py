"""A data set, and the tables around it: texts, numbers, pictures and paths that no honest one has."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import tiny_models

from strangers.dataset_tricks import tricks, write_rows
from strangers.trials import CPU, Command, Place, Stranger


def prepare(folder: Path) -> dict[str, Path]:
    """Records of all splits with captions and choices, and every table that a command reads beside them."""
    from biod2c_cli import app
    from biod2c_core.model.checkpoints.folder import save_checkpoint

    llama = tiny_models.save_language_model(folder / "llama")
    save_checkpoint(folder / "model", *tiny_models.build(llama))
    data = tiny_models.write_data(folder / "set", 4, images=3)
    choices = {"choice_a": "left lung", "choice_b": "right lung", "answer_label": "A"}
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [{**row, "caption": "A film of a lung.", "source": "vqa-rad", "split": ("train", "test")[n % 2]}
            for n, row in enumerate(rows)]  # fmt: skip
    rows[1] |= {"answer": "left lung", "tags": choices}
    write_rows(folder / "set/records.jsonl", rows)
    write_rows(folder / "set/others.jsonl", rows[:3])
    write_rows(folder / "set/held.jsonl", [{**row, "split": "validation"} for row in rows[1::2]])
    answers = [{"id": row["id"], "answer": "left lung", "confidence": 0.5} for row in rows]
    for name in ("answers.jsonl", "more.jsonl"):
        write_rows(folder / "set" / name, answers)
    write_rows(folder / "set/asked.jsonl", [{"question": "is it?", "id": n} for n in range(2)])
    verdicts = [{"id": row["id"], "score": n, "passes": [n], "reason": "fine", "question": "q"}
                for n, row in enumerate(rows)]  # fmt: skip
    write_rows(folder / "set/verdicts.jsonl", verdicts)
    write_rows(folder / "set/texts.jsonl", [{"text": "The lung is clear."}, {"name": "mass"}])
    (folder / "set/boxes.json").write_text("[[1, 1, 9, 9]]")
    published = {
        "name": "theirs",
        "data": "vqa-rad",
        "profile": "multimedeval",
        "reference": "them",
    }
    scores = {"scores": {"closed_accuracy": 0.5}}
    (folder / "set/published.json").write_text(json.dumps([{**published, **scores}]))
    for number in range(3):
        (folder / f"set/{number}.txt").write_text("A film of a lung.")
    labels = [f"{n % 3}.png,{'polluted' if n % 3 else 'clean'}" for n in range(3)]
    (folder / "set/labels.csv").write_text("\n".join(["image,label", *labels]) + "\n")
    (folder / "set/table.csv").write_text(
        "image,question,answer\n0.png,is it?,yes\n1.png,what?,CT\n"
    )
    score = ["evaluate", data, "--split", "all", "--predictions", folder / "set/answers.jsonl"]
    app.app([str(each) for each in (*score, "-o", folder / "run")], standalone_mode=False)
    for name in ("result.json", "questions.jsonl"):
        (folder / "set" / name).write_text((folder / "run" / name).read_text())
    _moved(folder)
    return {"set": folder / "set", "model": folder / "model", "picture": folder / "set/0.png"}


def _moved(folder: Path) -> None:
    """A folder that images were moved to, which came from one that is still there."""
    place = folder / "set/moved"
    place.mkdir()
    tiny_models.make_image(7).save(place / "7.png")


def _commands() -> tuple[Command, ...]:
    def command(reads: str, *words: object, name: str = "", **more: Any) -> Command:
        """A command; words that are pairs are a name in the stranger's (T), an output (O), a model (M)."""
        parameters = tuple(each.strip() for each in reads.split(";"))

        def arguments(place: Place) -> list[object]:
            known = {"T": place.theirs, "O": place.out, "M": place.examples["model"]}
            return [known[word[0]] / word[1] if isinstance(word, tuple) else word for word in words]

        return Command(
            name or parameters[0].rpartition(".")[0], parameters, arguments, "set", **more
        )

    rows, others, answers = ("T", "records.jsonl"), ("T", "others.jsonl"), ("T", "answers.jsonl")
    out, run, picture = ("O", "out.jsonl"), ("O", "run"), ("T", "0.png")
    model, everything = ("-m", ("M", ""), *CPU), ("--split", "all")
    run_evaluate = ("evaluate", rows, *everything)
    scored = (*run_evaluate, "--predictions", answers)
    pages = ("--leaderboard", ("O", "p.html"), "--published", ("T", "published.json"))
    steps = ("--max-steps", 1, "--batch-size", 2, "--validation", ("T", "held.jsonl"))
    moved = ("--list", ("O", "clean.jsonl"), "--move", ("O", "moved"))
    label = {"until": "http://", "visit": _label}
    return (
        command("data import.names", "data", "import", ("T", "table.csv"), "-o", out),
        command("data import.names", "data", "import", "jsonl", rows, "-o", out, name="data import jsonl"),
        command("data import.names", "data", "import", "image-folder", ("T", ""), "-o", out,
                name="data import image-folder"),
        command("data validate.data", "data", "validate", rows),
        command("data stats.data", "data", "stats", rows),
        command("data split.data", "data", "split", rows, "-o", out),
        command("data mix.parts", "data", "mix", rows, others, "-o", out),
        command("data queue.data; data queue.knowledge", "data", "queue", rows, "-o", out,
                "--knowledge", ("T", "texts.jsonl")),
        command("data scrub-text.data", "data", "scrub-text", rows, ("O", "copy")),
        command("data shuffle-choices.data", "data", "shuffle-choices", rows, "-o", out),
        command("data export-vlmevalkit.data", "data", "export-vlmevalkit", rows, "-o", ("O", "t.tsv"),
                "--split", "train"),
        command("evaluate run.data; evaluate run.predictions; evaluate run.train", *scored, "-o", run,
                "--train", others, name="evaluate --predictions"),
        command("evaluate run.data", *scored, "--profile", "all", name="evaluate --profile all"),
        command("evaluate run.data", *run_evaluate, *model, "-o", run, name="evaluate"),
        command("evaluate compare.data; evaluate compare.first; evaluate compare.second",
                "evaluate", "compare", rows, answers, ("T", "more.jsonl"), *everything),
        command("evaluate agree.first; evaluate agree.second", "evaluate", "agree",
                ("T", "verdicts.jsonl"), ("T", "verdicts.jsonl")),
        command("evaluate table.results", "evaluate", "table", ("T", "result.json")),
        command("evaluate table.published", "evaluate", "table", ("T", "result.json"), *pages,
                name="evaluate table --leaderboard"),
        command("export.result", "export", ("O", "model"), "-m", ("M", ""), "--result", ("T", "result.json"),
                name="export --result"),
        command("push.result", "push", ("M", ""), "them/theirs", "--card-only", "--result",
                ("T", "result.json"), name="push --result"),
        command("gen-qa.records", "gen-qa", rows, "-o", out, "--dry-run"),
        command("ask.image; ask.file", "ask", picture, "--questions", ("T", "asked.jsonl"), *model),
        command("ask.image; ask.rest", "ask", ("T", ""), picture, "-q", "is it?", "-o", ("O", "o.csv"),
                *model, name="ask FOLDER"),
        command("attn-map.image; attn-map.boxes", "attn-map", picture, "is it?", "-o", ("O", "m.png"),
                "--boxes", ("T", "boxes.json"), *model),
        command("calibrate.records; calibrate.train; calibrate.new_sources", "calibrate", rows,
                "--train", others, "--new-sources", others, *model, refused=True),
        command("train.data; train.validation", "train", "--data", rows, "-o", run, *steps, *model),
        command("filter-images fit.labels", "filter-images", "fit", ("T", "labels.csv"), "-o", run, *CPU,
                refused=True),
        command("filter-images run.images", "filter-images", "run", rows, "-o", out, *moved, *CPU,
                writes=("0.png", "1.png", "2.png")),
        command("filter-images run.images", "filter-images", "run", ("T", ""), "-o", out, *CPU,
                name="filter-images run FOLDER"),
        command("filter-images undo.folder", "filter-images", "undo", ("T", "moved"),
                writes=("7.png", "moved/7.png", "moved/moves.jsonl", "moved")),
        command("filter-images label.images", "filter-images", "label", rows, "-o", ("O", "l.csv"), **label),
    )  # fmt: skip


def _label(place: Place, said: str) -> None:
    """Look at the page and its first pictures."""
    url = re.search(r"http://\S+", said)
    assert url is not None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in ("", "state", "state/0", "image/0", "image/1"):
        with contextlib.suppress(OSError):
            opener.open(url[0].rstrip("/") + "/" + path, timeout=20).read()


STRANGER = Stranger(prepare, tuple(tricks()), _commands())
