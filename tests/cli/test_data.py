"""``biod2c data`` from the command line: what it prints, where it writes, how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from biod2c_cli import app
from biod2c_core.data import burnt_text
from biod2c_core.data.burnt_text import FoundText
from biod2c_core.data.formats import read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.records import ShareBox


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six questions on three images as VQA-RAD is published, one row without a question."""
    folder = tmp_path / "rad"
    (folder / "images").mkdir(parents=True)
    for index in range(3):
        picture = Image.effect_noise((32, 32), 60 + index).convert("RGB")
        picture.save(folder / "images" / f"{index}.png")
    rows = [
        {"qid": n, "image_name": f"{n % 3}.png", "question": f"Is it {n}?", "answer": "yes"}
        for n in range(6)
    ]
    (folder / "trainset.json").write_text(
        json.dumps([*rows, {**rows[0], "qid": 9, "question": ""}])
    )
    return folder


@pytest.fixture
def records(source: Path, tmp_path: Path) -> Path:
    """The good rows, imported."""
    assert run("import", source, "-o", tmp_path / "rad.jsonl").exit_code == 3
    return tmp_path / "rad.jsonl"


def run(*args: Any) -> Result:
    """Run ``biod2c data`` with stdout and stderr apart."""
    return CliRunner().invoke(app.app, ["data", *map(str, args)])


def test_import_and_validate_name_what_is_not_carried_over(source: Path, tmp_path: Path) -> None:
    path = source / "trainset.json"
    rows = [
        {**row, "evaluation": "given", "scanner": n}
        for n, row in enumerate(json.loads(path.read_text()))
    ]
    path.write_text(json.dumps(rows[:-1]))
    said = "not carried over: evaluation (6 rows), scanner (6 rows)"
    result = run("import", source, "-o", tmp_path / "rad.jsonl")
    assert result.exit_code == 0
    assert said in result.stderr
    assert said in run("validate", source, "-o", tmp_path / "report.json").stderr
    plain = run("import", source, "-o", tmp_path / "rad.jsonl", "--json")
    assert json.loads(plain.stdout)["notes"] == [said]


def test_import_reports_what_it_left_out(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "rad.jsonl"
    result = run("import", "vqa-rad", source, "-o", out)
    assert result.exit_code == 3
    assert f"6 records of format vqa-rad written to {out}; images through" in result.stdout
    assert "error: rejected rows: 1" in result.stderr
    rejected = json.loads((out.parent / "rad.rejected.jsonl").read_text())
    assert (rejected["line"], rejected["reason"]) == (1, "field 'question' is missing or empty")
    for record in read_records(out):
        load_image(record.image, root=out.parent)
    report = json.loads(run("import", source, "-o", out, "--json").stdout)
    assert (report["format"], report["accepted"], report["rejected"]) == ("vqa-rad", 6, 1)


def test_import_strict_stops_and_keeps_what_was_there(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "rad.jsonl"
    out.write_text("mine\n")
    result = run("import", source, "-o", out, "--strict")
    assert result.exit_code == 2
    assert "trainset.json:1: field 'question' is missing or empty" in result.stderr
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["import", "nowhere", "-o", "x.jsonl"], "no data at nowhere"),
        (
            ["import", "vqa-read", ".", "-o", "x.jsonl"],
            "unknown format 'vqa-read'. Name one of: vqa-med",
        ),
        (["import", "a", "b", "c", "-o", "x.jsonl"], "expected [FORMAT] SOURCE, got 3 names"),
        (["stats", "."], "'.' looks like no known format"),
        (["validate", "nowhere"], "no data at nowhere"),
        (["mix", "a=0", "-o", "x.jsonl"], "cannot read the part 'a=0'"),
    ],
)
def test_bad_requests_end_in_one_line(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_validate_writes_its_report(records: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    clean = run("validate", records, "-o", report)
    assert clean.exit_code == 0
    assert "6 records, 3 images" in clean.stdout
    assert json.loads(report.read_text())["findings"] == []
    (tmp_path / "rad/images/0.png").write_text("broken")
    (tmp_path / "rad/images/1.png").unlink()
    result = run("validate", records, "-o", report, "--json")
    assert result.exit_code == 3
    assert "error: findings: 2" in result.stderr
    counts = {"missing image": 1, "unusable image": 1}
    assert json.loads(result.stdout)["counts"] == json.loads(report.read_text())["counts"] == counts


def test_validate_leaves_nothing_where_nothing_is_asked_for(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rad/images/1.png").unlink()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = run("validate", records)
    assert result.exit_code == 3
    assert "All of them, as JSON: -o FILE." in result.stderr
    assert list((tmp_path / "here").iterdir()) == []


def test_stats_prints_and_plots(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    result = run("stats", records, "--plot", tmp_path / "s.png", "--json")
    assert result.exit_code == 0
    plain = json.loads(result.stdout)
    assert (plain["records"], plain["images"], plain["sources"]) == (6, 3, {"vqa-rad": 6})
    assert load_image(tmp_path / "s.png").width > 800
    assert "6 records, 3 images" in run("stats", records).stdout


def test_split_and_mix(records: Path, tmp_path: Path) -> None:
    halves = tmp_path / "halves.jsonl"
    result = run("split", records, "-o", halves, "--fractions", "0.5", "0", "0.5", "--seed", "3")
    assert result.exit_code == 0
    sides = {(record.image, record.split) for record in read_records(halves)}
    assert len(sides) == 3
    assert {split for _, split in sides} == {"train", "test"}
    mixed = tmp_path / "mixed.jsonl"
    result = run("mix", f"{halves}@train=2", records, "-o", mixed)
    assert result.exit_code == 0
    training = sum(record.split == "train" for record in read_records(halves))
    assert len(read_records(mixed)) == 2 * training + 6
    assert "all" in result.stdout
    assert run("split", records, "-o", halves, "--group", "patient").exit_code == 2


def test_biovgq_takes_training_rows_alone(source: Path, tmp_path: Path) -> None:
    (source / "testset.json").write_text((source / "trainset.json").read_text())
    run("import", source, "-o", tmp_path / "rad.jsonl")
    assert run("mix", "--biovgq", tmp_path / "rad.jsonl", "-o", tmp_path / "m.jsonl").exit_code == 0
    assert {record.split for record in read_records(tmp_path / "m.jsonl")} == {"train"}


def test_a_mix_names_the_parts_that_give_nothing(records: Path, tmp_path: Path) -> None:
    result = run("mix", f"{records}=0.5", f"{records}@test", "-o", tmp_path / "mix.jsonl")
    assert result.exit_code == 0
    assert "nothing was taken of" in result.stderr
    assert f"{records}@test: none of its 6 records is of the split 'test'" in result.stderr
    assert len(read_records(tmp_path / "mix.jsonl")) == 3


def test_a_report_that_is_cut_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biod2c_core.data.validate.MOST_FINDINGS", 2)
    path = source / "bad.jsonl"
    path.write_text("x\n" * 5)
    result = run("validate", path, "--format", "jsonl", "-o", tmp_path / "report.json")
    assert result.exit_code == 3
    assert "error: findings: 5. The first 2 of each kind:" in result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["left_out"], len(report["findings"])) == ({"malformed row": 3}, 2)


class NameReader:
    """Takes a picture whose first pixel is red to hold a name."""

    identity = "name 1"

    def read(self, picture: Any) -> list[FoundText]:
        red = picture.getpixel((0, 0))[0] > 200
        return [FoundText("DOE^JANE", ShareBox((0.1, 0.2, 0.5, 0.4)), 0.9)] if red else []


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(burnt_text, "TextReader", NameReader)
    folder = tmp_path / "in"
    folder.mkdir()
    rows = []
    for index, colour in enumerate(["red", "blue"]):
        Image.new("RGB", (40, 40), colour).save(folder / f"{index}.gif")
        rows.append(
            {"id": f"q{index}", "image": f"{index}.gif", "question": "What?", "answer": "a"}
        )
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_validate_lists_text_in_pixels_only_when_asked(pictures: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = ["data", "validate", str(pictures), "-o", str(report)]
    assert CliRunner().invoke(app.app, command).exit_code == 0
    assert "text" not in json.loads(report.read_text())
    shown = CliRunner().invoke(app.app, [*command, "--text"])
    assert shown.exit_code == 3
    assert "DOE^JANE" in shown.stdout
    assert "0.10 0.20 0.50 0.40" in shown.stdout
    found = json.loads(report.read_text())
    assert found["counts"] == {"text in pixels": 1}
    text = {"text": "DOE^JANE", "box": [0.1, 0.2, 0.5, 0.4], "confidence": 0.9}
    assert found["text"] == [{"image": "0.gif", "texts": [text], "records": ["q0"]}]
    surer = CliRunner().invoke(app.app, [*command, "--text", "--min-confidence", "0.95"])
    assert surer.exit_code == 0
    alone = CliRunner().invoke(app.app, [*command, "--min-confidence", "0.95"])
    assert alone.exit_code == 2


def test_scrub_text_says_what_it_masked_and_what_became_a_png(
    pictures: Path, tmp_path: Path
) -> None:
    command = ["data", "scrub-text", str(pictures), str(tmp_path / "out")]
    result = CliRunner().invoke(app.app, command)
    assert result.exit_code == 0, result.stderr
    assert "2 records and 2 images" in result.stdout
    assert "1 of them masked" in result.stdout
    assert "written as PNG: 1 image, the first 0.gif as 0.gif.png" in result.stderr
    again = CliRunner().invoke(app.app, command)
    assert again.exit_code == 2
    (pictures.parent / "1.gif").unlink()
    partly = CliRunner().invoke(app.app, [*command[:-1], str(tmp_path / "other"), "--json"])
    assert partly.exit_code == 3
    assert json.loads(partly.stdout)["records_left_out"] == 1


@pytest.fixture
def choices(tmp_path: Path) -> Path:
    """Six questions of multiple choice about two images."""
    for name in "ab":
        Image.new("RGB", (16, 16), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    tags = {"choice_a": "lung", "choice_b": "liver", "choice_c": "kidney", "answer_label": "A"}
    rows = [
        {"id": f"q{n}", "image": f"{'ab'[n % 2]}.png", "question": f"Which, {n}?", "answer": "lung"}
        for n in range(6)
    ]
    path = tmp_path / "choices.jsonl"
    path.write_text(
        "".join(json.dumps({**row, "split": "test", "tags": tags}) + "\n" for row in rows)
    )
    return path


def test_shuffle_choices_says_what_it_did(choices: Path, records: Path, tmp_path: Path) -> None:
    out = tmp_path / "shuffled.jsonl"
    result = run("shuffle-choices", choices, "-o", out, "--seed", 4)
    assert result.exit_code == 0
    assert f"6 questions shuffled, written to {out}" in result.stdout
    shuffled = read_records(out)
    assert {record.answer for record in shuffled} == {"lung"}
    assert len({record.tags["answer_label"] for record in shuffled}) > 1
    again = run("shuffle-choices", choices, "-o", tmp_path / "b.jsonl", "--seed", 4, "--json")
    assert json.loads(again.stdout)["shuffled"] == 6
    assert read_records(tmp_path / "b.jsonl") == shuffled
    refused = run("shuffle-choices", records, "-o", tmp_path / "none.jsonl")
    assert refused.exit_code == 2
    assert "no multiple choice to shuffle" in refused.stderr


def test_export_vlmevalkit_writes_a_table_that_is_read_again(choices: Path, tmp_path: Path) -> None:
    table = tmp_path / "MyBench.tsv"
    result = run("export-vlmevalkit", choices, "-o", table)
    assert result.exit_code == 0
    assert f"6 questions about 2 images written to {table}" in result.stdout
    back = run("import", table, "-o", tmp_path / "back.jsonl")
    assert back.exit_code == 0
    assert [r.tags["answer_label"] for r in read_records(tmp_path / "back.jsonl")] == ["A"] * 6
    refused = run("export-vlmevalkit", choices, "-o", tmp_path / "x.csv")
    assert refused.exit_code == 2
    assert "Call it NAME.tsv" in refused.stderr
    assert run("export-vlmevalkit", choices, "-o", table, "--split", "train").exit_code == 2
