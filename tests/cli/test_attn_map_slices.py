"""``biod2c attn-map --slices``: a tile each slice, the same answers as ``ask``, a slice at a time."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_models
from PIL import Image
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_core.inference.volumes import ask
from biod2c_core.inference.volumes.contact_sheet import MAX_TILES
from biod2c_core.inference.vqa_model import VQAModel

QUESTION = "is there a lesion?"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["attn-map", *map(str, arguments)])


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_rows_are_those_of_ask_and_of_the_single_maps(
    volume: Path, model: VQAModel, tmp_path: Path
) -> None:
    npy = tmp_path / "maps.npy"
    drawn = ("-o", tmp_path / "sheet.png", "--npy", npy, "--json")
    result = invoke(volume, QUESTION, "--slices", "4,1:3", *drawn)
    assert result.exit_code == 0, result.stderr
    *rows, whole = rows_of(result.stdout)
    assert [row["slice"] for row in rows] == [4, 1, 2]
    options = ["ask", str(volume), QUESTION, "--slices", "4,1:3", "--json"]
    *asked, asked_whole = rows_of(CliRunner().invoke(app, options).stdout)
    maps = np.load(npy)
    for row, wanted, values in zip(rows, asked, maps, strict=True):
        assert (row["slice"], row["answer"]) == (wanted["slice"], wanted["answer"])
        assert row["confidence"] == pytest.approx(wanted["confidence"], rel=1e-2)
        np.testing.assert_allclose(row["map"], values, atol=1e-6)
    for key in ("slice", "question", "answer", "slices"):
        assert whole[key] == asked_whole[key]
    assert whole["confidence"] == pytest.approx(asked_whole["confidence"], rel=1e-2)
    single = invoke(volume, QUESTION, "--slice", 4, "-o", tmp_path / "one.png", "--json")
    np.testing.assert_allclose(rows_of(single.stdout)[0]["map"], maps[0], atol=1e-5)
    assert not np.allclose(maps[0], maps[1], atol=1e-3)  # or mixing them up would not show


def test_the_sheet_says_slices_answers_and_the_whole(
    volume: Path, model: VQAModel, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    sheet = tmp_path / "sheet.svg"
    result = invoke(volume, QUESTION, "--slices", ":", "-o", sheet)
    assert result.exit_code == 0, result.stderr
    *lines, whole = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"slice {index}" for index in range(6)]
    root = ElementTree.fromstring(sheet.read_bytes())
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 6 + 1  # and the scale
    said = " ".join(texts)
    assert said.startswith(f"{QUESTION} the {whole} in ")
    for line in lines:
        assert line.replace(": ", " ") in said
    png = sheet.with_suffix(".png")
    assert invoke(volume, QUESTION, "--slices", ":", "-o", png).exit_code == 0
    with Image.open(png) as picture:
        assert 3 * 160 < picture.width < 4 * 160  # six tiles stand in two rows of three


def test_one_slice_is_in_memory(
    volume: Path, model: VQAModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    pictures: list[weakref.ref[Image.Image]] = []
    opened = ask.Slice.load

    def load(self: ask.Slice) -> Image.Image:
        alive.append(sum(each() is not None for each in pictures))
        picture = opened(self)
        pictures.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr(ask.Slice, "load", load)
    assert invoke(volume, QUESTION, "--slices", ":", "-o", tmp_path / "a.png").exit_code == 0
    assert alive == [0] * 7  # the first one is read before a model is loaded, too


def test_slices_unlike_those_of_training_are_counted(
    volume: Path, checkpoint: Path, tmp_path: Path
) -> None:
    own = tiny_models.with_reference(checkpoint, tmp_path / "own")
    options = ("--slices", "1:3", "-o", tmp_path / "a.png", "-m", own, "--device", "cpu")
    result = invoke(volume, QUESTION, *options)
    assert result.stderr == (
        f"note: 2 of 2 slices are unlike those that {own} was trained on (familiarity below 0.05), "
        "the first slice 1.\n"
    )


def test_bad_input_is_one_line_and_writes_nothing(
    volume: Path, model: VQAModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VQAModel, "load", lambda *_: pytest.fail("a model is loaded"))
    tiny_models.make_image(0).save(tmp_path / "a.png")
    many = tiny_models.write_volume(tmp_path / "many.nii", MAX_TILES + 1)
    out, every = tmp_path / "out.png", ("--slices", ":")
    for arguments, line in (
        ((many, QUESTION, *every), "121 slices of"),
        ((many, QUESTION, *every), f"has room for {MAX_TILES}. Choose fewer, a range or every"),
        ((many, QUESTION, *every), "--slices ::2"),
        ((volume, QUESTION, "where?", *every), "2 questions are given"),
        ((volume, QUESTION, *every, "--tokens"), "--tokens does not go with --slices"),
        ((volume, QUESTION, *every, "--without-fusion"), "--without-fusion does not go"),
        ((volume, QUESTION, *every, "--boxes", "1,1,2,2"), "--boxes does not go"),
        ((volume, QUESTION, *every, "--slice", 1), "both --slice and --slices"),
        ((volume, QUESTION, *every, "--method", "magic"), "unknown method 'magic'"),
        ((volume, QUESTION, "--slices", "9"), "has slices 0 to 5, not 9"),
        ((tmp_path / "a.png", QUESTION, *every), "single picture and has no slices"),
        (("-", QUESTION, *every), "stdin"),
    ):
        result = invoke(*arguments, "-o", out)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), line
        assert line in result.stderr
        assert not out.exists()
    result = invoke(volume, QUESTION, *every, "-o", tmp_path / "out.txt")
    assert "is not the name of a picture" in result.stderr


def test_a_damaged_slice_leaves_no_sheet(volume: Path, model: VQAModel, tmp_path: Path) -> None:
    pages = [Image.new("L", (9, 9), shade) for shade in (9, 99, 200)]
    path, out = tmp_path / "pages.tif", tmp_path / "out.png"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
    data = path.read_bytes()
    with Image.open(path) as picture:
        picture.seek(1)
        start, length = picture.tag_v2[273][0], picture.tag_v2[279][0]  # type: ignore[attr-defined]
    path.write_bytes(data[:start] + b"\xff" * length + data[start + length :])
    result = invoke(path, QUESTION, "--slices", ":", "-o", out)
    assert (result.exit_code, result.stdout, out.exists()) == (2, "", False)
    assert f"error: slice 1: {path} is damaged" in result.stderr
    assert invoke(path, QUESTION, "--slices", "0,2", "-o", out).exit_code == 0
