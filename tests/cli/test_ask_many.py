"""``biod2c ask`` about many pictures: every one is asked, once, and a second run completes a file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from typer.testing import CliRunner, Result

from biod2c_cli import console
from biod2c_cli.app import app
from biod2c_cli.console import one_line
from biod2c_core.append_log import lock_alone
from biod2c_core.inference.answer_rows import AnswerFile
from biod2c_core.inference.questions import Question
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.generation import Answerer

FIRST, SECOND = "is there a lesion?", "where is the arrow?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them below a folder, and a note."""
    for index, name in enumerate(("a.png", "b.png", "deeper/c.png")):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        tiny_models.make_image(index).save(tmp_path / "scans" / name)
    (tmp_path / "scans" / "notes.txt").write_text("not a picture")
    return tmp_path / "scans"


@pytest.fixture
def pictures(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


@pytest.fixture
def model(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Loads the tiny model for the embedded one; collects how many pictures each encoding holds."""
    encoded: list[int] = []
    tiny = VQAModel.load(checkpoint, "cpu")
    encode = VQAModel.encode_pixels

    def counted(self: VQAModel, pixels: list) -> object:
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(VQAModel, "load", lambda *_: tiny)
    monkeypatch.setattr(VQAModel, "encode_pixels", counted)
    return encoded


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ask", *map(str, arguments)])


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def rows_of(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def expected(pictures: list[Path], questions: list[str], checkpoint: Path) -> list[tuple[str, ...]]:
    answerer = Answerer.load(str(checkpoint), "cpu")
    asked = [(path, question) for path in pictures for question in questions]
    images = [tiny_models.make_image(pictures.index(path)) for path, _ in asked]
    answers = answerer.answer(images, [question for _, question in asked])
    return [
        (str(path), question, answer.text)
        for (path, question), answer in zip(asked, answers, strict=True)
    ]


def test_every_picture_gets_every_question_and_is_encoded_once(
    pictures: list[Path], model: list[int], checkpoint: Path
) -> None:
    result = invoke(*pictures, "--question", FIRST, "-q", SECOND, "--json")
    assert result.exit_code == 0, result.stderr
    got = [(row["image"], row["question"], row["answer"]) for row in rows_of(result)]
    assert got == expected(pictures, [FIRST, SECOND], checkpoint)
    assert sum(model) == len(pictures)


def test_the_last_argument_is_the_question_of_all(
    pictures: list[Path], folder: Path, model: list[int], checkpoint: Path
) -> None:
    wanted = expected(pictures, [FIRST], checkpoint)
    for named in (pictures, [folder], [folder, pictures[1]]):
        result = invoke(*named, FIRST, "--json")
        assert [(r["image"], r["question"], r["answer"]) for r in rows_of(result)] == wanted


def test_more_pictures_than_fit_into_a_batch(
    pictures: list[Path], model: list[int], monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.setattr("biod2c_core.inference.vqa_model.BATCH", 2)
    result = invoke(*pictures, FIRST, "--json")
    assert [row["answer"] for row in rows_of(result)] == [
        answer for *_, answer in expected(pictures, [FIRST], checkpoint)
    ]
    assert model == [2, 1]


def test_a_table_for_people_and_csv_for_programs(pictures: list[Path], model: list[int]) -> None:
    table = invoke(*pictures, FIRST)
    assert table.exit_code == 0
    for path in pictures:
        assert sum(str(path) in line and FIRST in line for line in table.stdout.splitlines()) == 1
    result = invoke(*pictures, FIRST, "--csv", "--n-best", 2)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["image"] for row in rows] == [str(path) for path in pictures]
    assert all(float(row["confidence"]) > 0 and row["confidence_2"] for row in rows)


def test_one_picture_as_csv(pictures: list[Path], model: list[int]) -> None:
    (row,) = csv.DictReader(io.StringIO(invoke(pictures[0], FIRST, "--csv").stdout))
    assert (row["image"], row["question"]) == (str(pictures[0]), FIRST)


def said(text: str) -> list[tuple[str, ...]]:
    """Picture, question and answer of each row of a file; confidences depend a little on the batch."""
    is_json = text.startswith("{")
    rows = map(json.loads, text.splitlines()) if is_json else csv.DictReader(io.StringIO(text))
    return [(row["image"], row["question"], one_line(row["answer"])) for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_second_run_asks_what_is_missing(
    suffix: str, pictures: list[Path], model: list[int], tmp_path: Path
) -> None:
    path = tmp_path / f"answers{suffix}"
    asked = (*pictures, "-q", FIRST, "-q", SECOND, "-o", path)
    result = invoke(*asked)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"wrote 6 answers to {path}" in result.stderr
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])  # a kill in the middle of a line
    model.clear()
    result = invoke(*asked)
    assert f"wrote 3 answers to {path}, 3 were there" in result.stderr
    assert sum(model) == 2  # the first picture is not read again
    assert said(path.read_text()) == said(whole.decode())
    assert f"wrote 0 answers to {path}, 6 were there" in invoke(*asked).stderr


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_names_that_are_not_utf8_or_are_formulas(
    suffix: str, folder: Path, model: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names = [os.fsdecode(b"\xff.png"), "=1+1.png"]
    for name in names:
        shutil.copy(next(folder.glob("*.png")), name)
    path = tmp_path / f"answers{suffix}"
    asked = (*names, FIRST, "-o", path)
    assert invoke(*asked).exit_code == 0
    assert f"wrote 0 answers to {path}, 2 were there" in invoke(*asked).stderr
    if suffix == ".csv":
        cells = [row["image"] for row in csv.DictReader(io.StringIO(path.read_text("utf-8")))]
        assert cells == ["\\udcff.png", "'=1+1.png"]


def test_a_kill_before_the_first_answer_leaves_a_file_to_go_on_with(tmp_path: Path) -> None:
    class KilledError(BaseException):
        pass

    class Killed(AnswerFile):
        def _write(self, line: str) -> None:
            super()._write(line)  # the head of the table
            raise KilledError

    path, manifest = tmp_path / "answers.csv", {"model": "tiny"}
    with pytest.raises(KilledError):
        Killed(path, manifest)
    assert path.read_text("utf-8").startswith("image,id,question")
    with AnswerFile(path, manifest) as again:
        assert again.lacks("a.png", Question("Is it?"))


def test_a_file_of_another_run_is_not_touched(
    pictures: list[Path], model: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    invoke(pictures[0], FIRST, "-o", path)
    before = path.read_bytes()
    other = invoke(pictures[1], FIRST, "-o", path, "--n-best", 3)
    assert other.exit_code == 2
    assert "was begun with n_best 1, this run has 3" in other.stderr
    assert path.read_bytes() == before
    with path.open("ab") as held:
        lock_alone(held, path)
        assert "is in use by another run" in invoke(pictures[1], FIRST, "-o", path).stderr
    strange = tmp_path / "strange.csv"
    strange.write_text("x,y\n1,2\n")
    assert "was not written by this command" in invoke(pictures[1], FIRST, "-o", strange).stderr
    assert strange.read_text() == "x,y\n1,2\n"
    assert "Let it end in .jsonl or .csv" in refused(invoke(pictures[1], FIRST, "-o", "a.txt"))


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(
    pictures: list[Path], model: list[int], tmp_path: Path
) -> None:
    pictures[1].write_bytes(pictures[1].read_bytes()[:60])
    result = invoke(*pictures, tmp_path / "missing.png", FIRST, "--json")
    assert result.exit_code == 3
    assert [row["image"] for row in rows_of(result)] == [str(pictures[0]), str(pictures[2])]
    assert f"{pictures[1]} is damaged" in result.stderr
    assert "image not found" in result.stderr
    assert "2 of 4 pictures could not be read" in result.stderr


def test_dicom_without_a_suffix_is_found_in_a_folder(
    folder: Path, model: list[int], tmp_path: Path
) -> None:
    files = pytest.importorskip("pydicom.data").get_testdata_file("CT_small.dcm")
    shutil.copy(files, folder / "IM0001")
    names = [row["image"] for row in rows_of(invoke(folder, FIRST, "--json"))]
    assert str(folder / "IM0001") in names
    assert len(names) == 4


def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path, model: list[int]) -> None:
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "IM0001")  # as scanners name DICOM files
    result = invoke(folder, FIRST, "--json")
    assert len(rows_of(result)) == 3
    assert "pipe.png is no regular file" in result.stderr


def test_a_folder_with_one_series_is_one_picture(model: list[int], tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    source = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        source.InstanceNumber, source.SOPInstanceUID = number, f"1.2.{number}"
        source.ImagePositionPatient = [0, 0, number]
        source.save_as(series / f"{number}.dcm")
    alone = invoke(series, FIRST)
    assert alone.exit_code == 0
    assert alone.stdout == invoke(series / "1.dcm", FIRST).stdout  # as ever: the middle slice
    assert invoke(series, FIRST, "--slice", 2).stdout == invoke(series / "2.dcm", FIRST).stdout
    source.SeriesInstanceUID = "9.9"
    source.save_as(series / "other.dcm")
    names = [row["image"] for row in rows_of(invoke(series, FIRST, "--json"))]
    assert names == [str(series / f"{name}.dcm") for name in (0, 1, 2, "other")]


def test_swapped_arguments_say_so(pictures: list[Path]) -> None:
    line = refused(invoke(FIRST, pictures[0]))
    assert f"'{FIRST}' is not a file, and '{pictures[0]}' is one" in line
    assert "Pictures come first, the question last" in line
    assert "stands between pictures" in refused(invoke(pictures[0], FIRST, pictures[1]))
    two = refused(invoke(pictures[0], pictures[1], FIRST, SECOND))
    assert "2 arguments are not files" in two
    assert "--question" in two
    beside = refused(invoke(pictures[0], FIRST, "--question", SECOND))
    assert "Beside --question all arguments are images" in beside


def test_what_is_for_one_picture_says_so(pictures: list[Path]) -> None:
    assert "--attn draws one image" in refused(invoke(*pictures, FIRST, "--attn", "map.png"))
    assert "stdin stands alone" in refused(invoke("-", pictures[0], FIRST))
    assert "both --json and --csv" in refused(invoke(pictures[0], FIRST, "--json", "--csv"))
    assert "--chat reads its questions" in refused(invoke(*pictures, "--chat"))
    assert "there is no question" in refused(invoke(*pictures))


def test_a_log_gets_lines_and_no_bars(
    pictures: list[Path], model: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\u2501" not in invoke(*pictures, FIRST).stderr
    monkeypatch.setattr(console, "LOG_EVERY", 0.0)
    assert "Asking: 2 of 3\n" in invoke(*pictures, FIRST).stderr
