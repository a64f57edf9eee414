"""``biod2c filter-images`` from the outside: label, fit, run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from biod2c_cli import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app.app, ["filter-images", *map(str, arguments)])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve dark smooth pictures and twelve white pages with lines."""
    folder = tmp_path_factory.mktemp("filter") / "images"
    folder.mkdir()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        small = Image.fromarray(rng.integers(0, 150, (5, 5, 3), dtype=np.uint8))
        small.resize((60, 60), Image.Resampling.BICUBIC).save(folder / f"clean-{seed:02d}.png")
        pixels = np.full((60, 60, 3), 255, np.uint8)
        pixels[rng.integers(5, 55, 6)] = 0
        Image.fromarray(pixels).save(folder / f"polluted-{seed:02d}.png")
    with (folder.parent / "labels.csv").open("w", newline="") as file:
        rows = [(f"images/{p.name}", p.name.split("-")[0]) for p in sorted(folder.iterdir())]
        csv.writer(file).writerows([("image", "label"), *rows])
    return folder


@pytest.fixture(scope="module")
def fitted(images: Path, checkpoint: Path) -> Path:
    folder = images.parent / "fitted"
    labels = images.parent / "labels.csv"
    result = run("fit", labels, "-o", folder, "--encoder", checkpoint, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "trained on 12 clean and 12 polluted images" in result.stdout
    assert "all held out" in result.stdout
    return folder


def test_a_fitted_filter_tells_new_images_apart(
    images: Path, fitted: Path, checkpoint: Path, tmp_path: Path
) -> None:
    output, kept, moved = tmp_path / "out.jsonl", tmp_path / "kept.txt", tmp_path / "moved"
    source = tmp_path / "images"
    source.mkdir()
    for path in images.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    options = ("--filter", fitted, "--encoder", checkpoint, "--device", "cpu")
    result = run("run", source, "-o", output, *options, "--list", kept, "--move", moved, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["images"], report["clean"], report["polluted"]) == (24, 12, 12)
    assert all(name.startswith("clean") for name in kept.read_text().split())
    assert len(list(moved.iterdir())) == 13  # and the journal
    assert len(list(source.iterdir())) == 12
    (source / "polluted-00.png").write_text("another")
    result = run("undo", moved)
    assert result.exit_code == 3
    assert result.stdout == "11 images moved back\n"
    assert "polluted-00.png stays: another file is at" in result.stderr
    assert (source / "polluted-00.png").read_text() == "another"


def test_unreadable_images_give_exit_code_3(
    images: Path, fitted: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes((images / "clean-00.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"broken")
    output = tmp_path / "o" / "out.jsonl"
    options = ("--filter", fitted, "--encoder", checkpoint, "--device", "cpu")
    result = run("run", tmp_path, "-o", output, *options)
    assert result.exit_code == 3
    assert "unreadable images: 1" in result.stderr
    assert "2 images: 1 clean, 0 polluted, 1 unreadable" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent", "-o", "x.jsonl"], "no images at absent"),
        (["run", ".", "-o", "x.jsonl", "--gpus", "99"], "--gpus 99, but this machine has"),
        (["run", ".", "-o", "x.jsonl", "--num-shards", "4"], "Expected I/N"),
        (["run", ".", "-o", "x.jsonl", "--engine", "spark"], "local, ray"),
        (["fit", "absent.csv", "-o", "x"], "absent.csv"),
        (["label", "absent", "-o", "x.csv"], "no images at absent"),
        (["run", "a.jsonl", "-o", "x.jsonl", "--list", "a.jsonl"], "would overwrite a.jsonl"),
        (["undo", "absent"], "holds no moves.jsonl"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_filter_of_another_encoder_is_refused(images: Path, checkpoint: Path) -> None:
    result = run("run", images, "-o", images.parent / "x.jsonl", "--encoder", checkpoint)
    assert result.exit_code == 2
    assert "trained on other features" in result.stderr
