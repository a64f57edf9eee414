"""Pictures that are read here and not by Pillow: the server counts their frames without a fault."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "data/images"))
from test_picture_kinds import tiff

from biod2c_core.inference.serving.pictures import PictureRequest, make_picture
from biod2c_core.inference.serving.requests import Limits


def test_a_page_that_only_our_reader_knows() -> None:
    values = np.arange(24, dtype=np.float16).reshape(4, 6)
    shown = make_picture(PictureRequest(tiff(values), "a.tif", None, 2, None), Limits())
    assert (shown["kind"], shown["frames"]) == ("picture", 1)
