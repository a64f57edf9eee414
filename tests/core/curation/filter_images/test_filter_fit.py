"""Fitting: what is held out, what is reported, and what is computed again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from figures import write_images
from PIL import Image

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.fit import fit_filter
from biod2c_core.curation.filter_images.labels import Labelled, read_labels
from biod2c_core.errors import InputError


def labelled(folder: Path, sources: bool) -> list[Labelled]:
    """12 clean and 12 polluted images, each kind from three sources, and one figure of two."""
    rows = []
    for path in sorted(folder.glob("*.png")):
        label, number = path.stem.split("-")
        source = f"{label}{int(number) % 3}" if sources else ""
        rows.append((path.name, label, source, "test" if number == "11" else ""))
    if sources:
        Image.open(folder / "polluted-00.png").save(folder / "both.png")
        rows.append(("both.png", "polluted", "clean0+polluted1", ""))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "source", "split"), *rows])
    return read_labels(folder / "labels.csv")


def predictions(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_sources_are_left_out_in_pairs(encoder: ImageEncoder, tmp_path: Path) -> None:
    rows = labelled(write_images(tmp_path / "images"), sources=True)
    report = fit_filter(rows, tmp_path / "fit", encoder)
    assert report.by_source
    assert [fold.held_out for fold in report.folds] == [
        "clean0+polluted0",
        "clean1+polluted1",
        "clean2+polluted2",
    ]
    # 22 plain images that are trained on; the figure's two sources are never left out together
    assert report.held_out.images == 22
    assert predictions(tmp_path / "fit")["both.png"]["polluted"] == ""
    assert report.test is not None
    assert report.test.images == 2
    assert (report.clean, report.polluted) == (11, 12)
    assert report.held_out.f1 > 0.9


def test_without_sources_every_image_is_left_out_once(
    encoder: ImageEncoder, tmp_path: Path
) -> None:
    rows = labelled(write_images(tmp_path / "images"), sources=False)
    report = fit_filter(rows, tmp_path / "fit", encoder)
    assert not report.by_source
    assert sum(fold.quality.images for fold in report.folds) == report.held_out.images == 22
    assert all(row["polluted"] for row in predictions(tmp_path / "fit").values())


def test_the_folder_holds_a_filter_and_its_report(encoder: ImageEncoder, tmp_path: Path) -> None:
    rows = labelled(write_images(tmp_path / "images"), sources=False)
    report = fit_filter(rows, tmp_path / "fit", encoder)
    loaded = ImageFilter.load(tmp_path / "fit", encoder.identity)
    assert loaded.about["clean"] == report.clean
    written = json.loads((tmp_path / "fit" / "report.json").read_text())
    assert written["held_out"]["f1"] == report.held_out.f1
    assert written["test"]["images"] == 2
    with Image.open(tmp_path / "fit" / "mistakes.png") as sheet:
        assert sheet.format == "PNG"


def test_features_are_computed_once(
    encoder: ImageEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = labelled(write_images(tmp_path / "images"), sources=False)
    first = fit_filter(rows, tmp_path / "fit", encoder)
    (index,) = (tmp_path / "fit" / "features").glob("*.jsonl")
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:-5]) + lines[-5][:9])  # a kill between the two files
    encoded: list[int] = []
    original = ImageEncoder.__call__

    def counting(self: ImageEncoder, pixels: np.ndarray) -> np.ndarray:
        encoded.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(ImageEncoder, "__call__", counting)
    again = fit_filter(rows, tmp_path / "fit", encoder)
    assert sum(encoded) == 5
    assert again.held_out == first.held_out


def test_an_image_that_cannot_be_read_is_left_out(encoder: ImageEncoder, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    rows = labelled(folder, sources=False)
    (folder / "clean-00.png").write_bytes(b"broken")
    (folder / "clean-01.png").unlink()
    report = fit_filter(rows, tmp_path / "fit", encoder)
    assert (report.unreadable, report.clean) == (2, 9)
    for path in folder.glob("polluted-*.png"):
        path.unlink()
    with pytest.raises(InputError, match="too few images of one label"):
        fit_filter(rows, tmp_path / "other", encoder)
