"""Pictures: places stay where they are, sizes and layouts as announced."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from biod2c_core.errors import InputError
from biod2c_core.inference.attention.attention_map import AttentionMap, View
from biod2c_core.inference.attention.export import (
    arrange_maps,
    check_picture_path,
    draw_maps,
    map_row,
    save_array,
    save_picture,
    save_sheet,
)
from biod2c_core.inference.attention.render import PANEL, Panel, colours, figure, overlay

GREY = Image.new("RGB", (80, 40), (100, 100, 100))


def corner_map() -> np.ndarray:
    values = np.zeros((4, 4))
    values[3, 0] = 1.0
    return values


def shown(question: str = "where is it?", tokens: int = 2) -> AttentionMap:
    each = np.stack([corner_map()] * tokens)
    return AttentionMap(question, "lower left", 0.5, View(), corner_map(), ("lower", "left"), each)


def test_colours_become_lighter_from_least_to_most() -> None:
    lightness = colours().astype(float) @ [0.299, 0.587, 0.114]
    assert colours().shape == (256, 3)
    assert (np.diff(lightness) > -0.6).all()
    assert lightness[-1] - lightness[0] > 150


def test_the_map_is_painted_where_it_is_large() -> None:
    picture = np.asarray(overlay(GREY, corner_map()), int)
    assert picture.shape == (40, 80, 3)
    changed = np.abs(picture - 100).sum(-1)
    assert changed[32:, :15].mean() > 1.5 * changed[:20, 40:].mean()
    yellow = picture[36, 2]
    assert yellow[0] > 150 > yellow[2]


def test_boxes_are_drawn_in_pixels_of_the_image() -> None:
    plain = np.asarray(overlay(GREY, corner_map()))
    boxed = np.asarray(overlay(GREY, corner_map(), [(50, 5, 70, 20)]))
    rows, columns = np.nonzero((plain != boxed).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 20, 50, 70)


def test_questions_stand_side_by_side_and_wrap() -> None:
    panel = Panel("a question that is longer than one line of the panel can hold", "yes", GREY)
    one, three, five = figure([[panel]]), figure([[panel] * 3]), figure([[panel] * 5])
    assert three.width - one.width == 2 * (PANEL + 10)
    assert three.height == one.height
    assert five.height > 1.8 * one.height


def test_layouts() -> None:
    maps = [shown(), shown("and this?")]
    side_by_side = draw_maps(GREY, maps)
    beside = draw_maps(GREY, maps, beside=maps)
    tokens = draw_maps(GREY, maps, tokens=True)
    assert side_by_side.width == beside.width  # image + 2 in one row; image + without + with in two
    assert beside.height > 1.7 * side_by_side.height
    assert tokens.width > beside.width  # image, answer, two tokens


def test_a_question_in_any_script_can_be_drawn() -> None:
    draw_maps(GREY, [shown("¿dónde está 病变 \N{SNOWMAN}" + "x" * 300)])


def test_files(tmp_path: Path) -> None:
    save_array(tmp_path / "maps.npy", [shown(), shown()])
    loaded = np.load(tmp_path / "maps.npy", allow_pickle=False)
    assert (loaded.shape, loaded.dtype) == ((2, 4, 4), np.float32)
    for name in ("out.png", "out.jpg", "out.webp"):
        save_picture(tmp_path / name, GREY)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (80, 40)
    with pytest.raises(InputError, match="is not the name of a picture"):
        check_picture_path(tmp_path / "out.txt")


def test_no_empty_band_stands_above_the_pictures() -> None:
    short = np.asarray(figure([[Panel("image", "", GREY)]]))
    ink = (short != 255).any(-1).any(-1)
    rows = np.nonzero(ink)[0]
    assert np.diff(rows).max() < 16  # less than a line between the title and the picture
    long = figure([[Panel("image", "", GREY), Panel("a long question " * 8, "yes", GREY)]])
    assert long.height == short.shape[0] + 3 * 16  # three lines and the answer's, against one


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_a_figure_for_print(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sheet = arrange_maps(GREY, [shown("does $5 or <b> matter?")])
    paths = [check_picture_path(tmp_path / f"{name}{suffix}") for name in "ab"]
    for path in paths:
        save_sheet(path, sheet)
    data = paths[0].read_bytes()
    assert data == paths[1].read_bytes()  # nothing of date or chance
    if suffix == ".pdf":
        assert data.startswith(b"%PDF")
        return
    root = ElementTree.fromstring(data)
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "does $5 or <b> matter?" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) == 3  # image, map, scale


def test_a_figure_for_print_needs_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"biod2c\[plots\]"):
        check_picture_path(tmp_path / "map.pdf")


def test_a_json_row_holds_map_peak_and_boxes() -> None:
    row = json.loads(json.dumps(map_row(shown(), (80, 40), [(0, 30, 20, 40), (40, 0, 80, 20)])))
    assert row["peak"] == [10.0, 35.0]
    assert row["map"][3][0] == 1.0
    assert [box["hit"] for box in row["boxes"]] == [True, False]
    assert [box["mass"] for box in row["boxes"]] == [1.0, 0.0]
    assert (row["method"], row["layers"], row["image_size"]) == ("fusion", None, [80, 40])
