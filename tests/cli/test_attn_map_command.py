"""``biod2c attn-map``: a picture, rows and scores; bad input writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from PIL import Image
from typer.testing import CliRunner, Result

from biod2c_cli.app import app

QUESTIONS = tiny_models.QUESTIONS[:2]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["attn-map", *map(str, arguments)])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny_models.make_image(0).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_picture_array_and_rows(image: Path, checkpoint: Path, tmp_path: Path) -> None:
    out, npy = tmp_path / "out.png", tmp_path / "maps.npy"
    model = ("-m", checkpoint, "--device", "cpu")
    boxes = ("--boxes", "0,0,20,15;0,0,40,30")
    result = invoke(image, *QUESTIONS, "-o", out, "--npy", npy, "--json", *boxes, *model)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["question"] for row in rows] == list(QUESTIONS)
    for row, values in zip(rows, np.load(npy), strict=True):
        np.testing.assert_allclose(row["map"], values, atol=1e-6)
        assert row["boxes"][1]["mass"] == pytest.approx(1)
        assert row["boxes"][1]["hit"]
    with Image.open(out) as picture:
        assert picture.width > 3 * 320


def test_the_confidence_is_that_of_ask(
    image: Path, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    rows = [json.loads(line) for line in data.read_text().splitlines()] * 4
    records = tmp_path / "records.jsonl"
    records.write_text(
        "".join(json.dumps({**row, "id": str(i)}) + "\n" for i, row in enumerate(rows))
    )
    model = ("-m", str(folder), "--device", "cpu")
    fitted = ["calibrate", str(records), "--image-root", str(data.parent), *model]
    assert CliRunner().invoke(app, fitted).exit_code == 0
    asked = CliRunner().invoke(app, ["ask", str(image), QUESTIONS[0], "--json", *model])
    drawn = invoke(image, QUESTIONS[0], "-o", tmp_path / "map.png", "--json", *model)
    wanted, got = json.loads(asked.stdout), json.loads(drawn.stdout)
    assert (got["answer"], got["calibrated"]) == (wanted["answer"], True)
    assert got["confidence"] == pytest.approx(wanted["confidence"], rel=1e-3)


@pytest.mark.parametrize("option", ["--without-fusion", "--tokens"])
def test_layouts(option: str, image: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = invoke(
        image, *QUESTIONS, "-o", out, option, "--json", "-m", checkpoint, "--device", "cpu"
    )
    assert result.exit_code == 0, result.stderr
    assert out.exists()
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == len(QUESTIONS) == 2
    for row in rows:
        assert ("token_maps" in row, "without_fusion" in row) == (
            option == "--tokens",
            option == "--without-fusion",
        )
        if option == "--tokens":
            maps = np.array(row["token_maps"])
            assert maps.shape == (len(row["tokens"]), *np.shape(row["map"]))
            np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-6)
        else:
            assert row["without_fusion"]["method"] == "language"
            assert row["without_fusion"]["map"] != row["map"]


@pytest.mark.parametrize(("suffix", "head"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_picture_for_print(
    suffix: str, head: bytes, image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"out.{suffix}"
    result = invoke(image, QUESTIONS[0], "-o", out, "-m", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes().startswith(head)
    if suffix == "svg":  # the question is text, and can be searched
        assert QUESTIONS[0] in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "rollout"), "unknown method 'rollout'"),
        (("--layers", "7"), "layers [7] of the attention are not all there"),
        (("--layers", "a"), "--layers 'a' is not a list of numbers"),
        (("--scales", "9"), "scales [9]"),
        (("--scales", "1", "--method", "language"), "'language' shows no scales of blocks"),
        (("--boxes", "1,2"), "has no area"),
        (("--boxes", "900,1,950,9"), "lies outside the image of 40 x 30"),
        (("--frame", "3"), "has frames 0 to 0, not 3"),
    ],
)
def test_bad_options_write_nothing(
    options: tuple[str, ...], message: str, image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    result = invoke(image, QUESTIONS[0], "-o", out, "-m", checkpoint, "--device", "cpu", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_a_name_that_is_no_picture(image: Path, tmp_path: Path) -> None:
    result = invoke(image, QUESTIONS[0], "-o", tmp_path / "out.txt")
    assert (result.exit_code, "is not the name of a picture" in result.stderr) == (2, True)
