"""``biod2c ask --slices``: every slice and the whole are answered, resumably, a slice at a time."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import tiny_models
from PIL import Image
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_core.inference.image_choice import ImageChoice
from biod2c_core.inference.vqa_model import VQAModel

FIRST, SECOND = "is there a lesion?", "where is the arrow?"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ask", *map(str, arguments)])


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_slice_and_the_whole(volume: Path, model: VQAModel) -> None:
    result = invoke(volume, "-q", FIRST, "-q", SECOND, "--slices", "1:5", "--json")
    assert result.exit_code == 0, result.stderr
    rows = rows_of(result.stdout)
    slices, wholes = rows[:8], rows[8:]
    assert [row["slice"] for row in slices] == [1, 1, 2, 2, 3, 3, 4, 4]
    for row in slices:
        alone = model.ask(ImageChoice(str(volume), slice_index=row["slice"]), row["question"])
        assert row["answer"] == alone.answer
        assert row["confidence"] == pytest.approx(alone.confidence, rel=1e-2)
    assert [row["question"] for row in wholes] == [FIRST, SECOND]
    for whole in wholes:
        own = [row for row in slices if row["question"] == whole["question"]]
        sums: dict[str, float] = {}
        for row in own:
            sums[row["answer"]] = sums.get(row["answer"], 0) + row["confidence"] / 4
        assert whole["answer"] == max(sums, key=lambda answer: sums[answer])
        assert whole["confidence"] == pytest.approx(max(sums.values()), rel=1e-3)
        assert (whole["slice"], whole["slices"], whole["calibrated"]) == (None, 4, False)
        assert {each["answer"]: each["slices"] for each in whole["spread"]} == {
            answer: [r["slice"] for r in own if r["answer"] == answer] for answer in sums
        }


def test_tables_for_people(volume: Path, model: VQAModel) -> None:
    result = invoke(volume, FIRST, "--slices", ":")
    assert result.exit_code == 0
    for index in range(6):
        assert f"{volume} (slice {index})" in result.stdout
    assert "of 6" in result.stdout
    alone = invoke(volume, FIRST)  # as ever: one slice, the middle one
    assert alone.stdout == invoke(volume, FIRST, "--slice", 3).stdout


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_second_run_asks_what_is_missing(
    suffix: str, volume: Path, model: VQAModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"answers{suffix}"
    asked = (volume, "-q", FIRST, "-q", SECOND, "--slices", ":", "-o", path)
    assert f"wrote 14 answers to {path}" in invoke(*asked).stderr
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text(
        "".join(lines[:-5]) + lines[-5][:9]
    )  # without 3 slices' answers and both wholes
    encoded: list[int] = []
    encode = VQAModel.encode_pixels
    monkeypatch.setattr(
        VQAModel,
        "encode_pixels",
        lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels),
    )
    assert f"wrote 5 answers to {path}, 9 were there" in invoke(*asked).stderr
    assert encoded == [2]
    for again, before in zip(parsed(path.read_text()), parsed(whole), strict=True):
        for key in ("image", "slice", "question", "answer", "slices"):
            assert again.get(key) == before.get(key)
        assert float(again["confidence"]) == pytest.approx(float(before["confidence"]), rel=1e-2)
    assert f"wrote 0 answers to {path}, 14 were there" in invoke(*asked).stderr
    other = invoke(*asked[:-3], "::2", "-o", path)
    assert (other.exit_code, "begun with slices ':', this run has '::2'" in other.stderr) == (
        2,
        True,
    )


def parsed(text: str) -> list[dict]:
    return rows_of(text) if text.startswith("{") else list(csv.DictReader(io.StringIO(text)))


def test_memory_holds_a_batch_of_what_the_model_sees(
    volume: Path, model: VQAModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biod2c_core.inference.vqa_model.BATCH", 2)
    sizes: list[int] = []
    encode = VQAModel.encode_pixels
    monkeypatch.setattr(
        VQAModel,
        "encode_pixels",
        lambda self, pixels: sizes.append(len(pixels)) or encode(self, pixels),
    )
    assert len(rows_of(invoke(volume, FIRST, "--slices", ":", "--json").stdout)) == 7
    assert sizes == [2, 2, 2]


def test_a_slice_that_cannot_be_read_leaves_the_whole_unsaid(
    model: VQAModel, tmp_path: Path
) -> None:
    pages = [Image.new("L", (9, 9), shade) for shade in (9, 99, 200)]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    data = path.read_bytes()
    with Image.open(path) as picture:
        picture.seek(1)
        start, length = picture.tag_v2[273][0], picture.tag_v2[279][0]  # type: ignore[attr-defined]
    path.write_bytes(data[:start] + b"\xff" * length + data[start + length :])
    result = invoke(path, FIRST, "--slices", ":", "--json")
    assert result.exit_code == 3
    assert [row["slice"] for row in rows_of(result.stdout)] == [0, 2]
    assert f"error: slice 1: {path} is damaged" in result.stderr
    assert "1 of 3 slices could not be read; leave them out with --slices" in result.stderr
    assert "Traceback" not in result.stderr
    good = invoke(path, FIRST, "--slices", "0,2", "--json")
    assert [row["slice"] for row in rows_of(good.stdout)] == [0, 2, None]


def test_slices_that_are_not_sure_enough(volume: Path, model: VQAModel) -> None:
    result = invoke(volume, FIRST, "--slices", ":", "--json", "--min-confidence", 1)
    assert result.exit_code == 3
    whole = rows_of(result.stdout)[-1]
    assert (whole["answer"], whole["abstained"], whole["confidence"]) == (None, True, 0.0)
    assert whole["spread"] == []


def test_bad_input_is_one_line(volume: Path, tmp_path: Path) -> None:
    tiny_models.make_image(0).save(tmp_path / "a.png")
    for arguments, line in (
        ((volume, FIRST, "--slices", "9"), "has slices 0 to 5, not 9"),
        ((volume, FIRST, "--slices", "a"), "is not a choice of slices"),
        ((volume, FIRST, "--slices", ":", "--slice", 1), "both --slice and --slices"),
        ((tmp_path / "a.png", FIRST, "--slices", ":"), "single picture and has no slices"),
        (("-", FIRST, "--slices", ":"), "stdin stands alone"),
        ((volume, "--slices", ":", "--chat"), "--chat reads its questions"),
        ((volume, FIRST, "--slices", ":", "--attn", "a.png"), "--attn draws one image"),
    ):
        result = invoke(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert line in result.stderr
    answers = tmp_path / "out.jsonl"
    assert invoke(volume, FIRST, "--slices", "9", "-o", answers).exit_code == 2
    assert not answers.exists()


@pytest.mark.real_data
def test_real_slices_as_a_series(data_root: Path, tmp_path: Path, model: VQAModel) -> None:
    pydicom = pytest.importorskip("pydicom")
    source = pydicom.dcmread(data_root / "dicom" / "ID_0060.dcm")
    for number in range(3):
        source.ImagePositionPatient = [0, 0, -5 * number]
        source.SOPInstanceUID = f"1.2.{number}"
        source.save_as(tmp_path / f"{number}.dcm")
    rows = rows_of(invoke(tmp_path, FIRST, "--slices", ":", "--json").stdout)
    assert [row["slice"] for row in rows] == [0, 1, 2, None]
    assert len({row["answer"] for row in rows}) == 1
    assert rows[3]["confidence"] == pytest.approx(rows[0]["confidence"], rel=1e-2)
