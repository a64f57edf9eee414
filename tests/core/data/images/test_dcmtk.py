"""DCMTK, an independent reader, shows the same pictures: pydicom's files, and files made here.

Where the two differ, :data:`EXPLAINED` and ``docs/data-formats.md`` say why.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medical_files import dicom, palette, table
from PIL import Image

from biod2c_core.data.images import load_image
from biod2c_core.errors import ImageError

READERS = ("dcmj2pnm", "dcml2pnm")  # JPEG and run lengths; JPEG-LS
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, READERS)), reason="DCMTK is not installed (apt-get install dcmtk)"
)
pydicom = pytest.importorskip("pydicom", reason="the extra 'medical' is not installed")

JPEG_2000 = "DCMTK has no decoder for JPEG 2000"
BIG_ENDIAN = "DCMTK reads big-endian words of 32 bits in the wrong order"
GROUPS = "DCMTK knows no functional groups, so neither rescale nor window of the frame"
TWELVE_BITS = "12-bit JPEG needs a decoder under the GPL, which the user installs"
NO_NUMBER = "its number of frames is '1A'"
DAMAGED = "damaged on purpose"
WIDE_COLOUR = "DCMTK reads no colour of 32 bits"
PALETTE = "DCMTK refuses this retired palette"
EXPLAINED = {
    "JPEG-lossy.dcm": TWELVE_BITS,
    "JPGExtended.dcm": TWELVE_BITS,
    "badVR.dcm": NO_NUMBER,
    "rtdose_expb.dcm": BIG_ENDIAN,
    "rtdose_expb_1frame.dcm": BIG_ENDIAN,
    "JPEG2000-embedded-sequence-delimiter.dcm": DAMAGED,
    "MR_truncated.dcm": DAMAGED,
    "SC_rgb_jpeg.dcm": DAMAGED,
    "emri_small_jpeg_2k_lossless_too_short.dcm": DAMAGED,
    "eCT_Supplemental.dcm": GROUPS,
    "gdcm-US-ALOKA-16.dcm": PALETTE,
    "gdcm-US-ALOKA-16_big.dcm": PALETTE,
    "SC_rgb_32bit.dcm": WIDE_COLOUR,
    "SC_rgb_32bit_2frame.dcm": WIDE_COLOUR,
    "SC_rgb_expb_32bit.dcm": WIDE_COLOUR,
    "SC_rgb_expb_32bit_2frame.dcm": WIDE_COLOUR,
}
# The same pictures without JPEG 2000, which DCMTK does read.
TWINS = {
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR2_J2KR.dcm": "MR2_UNCR.dcm",
    "MR2_J2KI.dcm": "MR2_UNCI.dcm",
    "RG1_J2KR.dcm": "RG1_UNCR.dcm",
    "RG1_J2KI.dcm": "RG1_UNCI.dcm",
    "RG3_J2KR.dcm": "RG3_UNCR.dcm",
    "RG3_J2KI.dcm": "RG3_UNCI.dcm",
    "US1_J2KR.dcm": "US1_UNCR.dcm",
    "US1_J2KI.dcm": "US1_UNCI.dcm",
    "693_J2KR.dcm": "693_UNCR.dcm",
    "693_J2KI.dcm": "693_UNCI.dcm",
    "emri_small_jpeg_2k_lossless.dcm": "emri_small.dcm",
}


def by_dcmtk(path: Path, window: list[str], frame: int, out: Path) -> np.ndarray | None:
    """The picture by DCMTK, without the overlays that are not drawn here."""
    for reader in READERS:
        command = [reader, "-q", "-O", *window, "+F", str(frame + 1), "+op", str(path), str(out)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            with Image.open(out) as picture:
                return np.asarray(picture.convert("RGB"))
    return None


def window_options(header: Any) -> list[str]:
    """What is the default here, asked of DCMTK."""
    if "MONOCHROME" not in str(header.get("PhotometricInterpretation", "MONOCHROME2")):
        return []
    if header.get("WindowWidth") not in (None, ""):
        return ["+Wi", "1"]
    return ["+Wl", "1"] if "VOILUTSequence" in header else ["+Wm"]


def pictures(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".gz", ".json", ".txt", ".icc", ".py", ".pyc") or not path.is_file():
            continue
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if "Rows" in header:
            yield path, header


def compare(folder: Path, out: Path, last_too: bool = False) -> dict[str, list[str]]:
    """Every picture of a folder, first frame: ``equal``, ``explained``, or how it differs."""
    found: dict[str, list[str]] = {"equal": [], "explained": [], "differ": []}
    places = {path.name: path for path in folder.rglob("*.dcm")}
    for path, header in pictures(folder):
        other = places.get(TWINS.get(path.name, ""), path)
        reason = EXPLAINED.get(path.name)
        syntax = header.file_meta.get("TransferSyntaxUID", "")
        if syntax and "JPEG 2000" in syntax.name and other == path:
            reason = reason or JPEG_2000
        frames = int(str(header.get("NumberOfFrames") or 1).rstrip("A"))
        for frame in sorted({0, frames - 1 if last_too else 0}):
            theirs = None if reason else by_dcmtk(other, window_options(header), frame, out)
            try:
                ours = np.asarray(load_image(path, frame=frame)).astype(int)
            except ImageError as error:
                found["explained" if reason else "differ"].append(f"{path.name}: {error}")
                continue
            if reason:
                found["explained"].append(path.name)
            elif theirs is None or ours.shape != theirs.shape:
                found["differ"].append(f"{path.name} {frame}: no picture of this size")
            elif (mean := np.abs(ours - theirs).mean()) > 1:
                found["differ"].append(f"{path.name} {frame}: {mean:.1f} greys")
            else:
                found["equal"].append(path.name)
    print({kind: len(names) for kind, names in found.items()})
    return found


def test_the_files_of_pydicom(tmp_path: Path) -> None:
    folder = Path(pydicom.__path__[0]) / "data" / "test_files"
    found = compare(folder, tmp_path / "o.ppm")
    assert found["differ"] == []
    assert len(found["equal"]) >= 70
    assert len(found["explained"]) <= 16


@pytest.mark.real_data
def test_the_files_of_pydicom_data(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("pydicom-data is not installed (pip install pydicom-data)")
    found = compare(Path(spec.submodule_search_locations[0]), tmp_path / "o.ppm", last_too=True)
    assert found["differ"] == []
    assert len(found["equal"]) >= 60


VALUES = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
SIGNED = VALUES.astype(np.int16) - 1500
CURVE = (np.arange(4096) ** 2 // 4095).astype("<u2")
WINDOW = {"WindowCenter": "1000", "WindowWidth": "1500"}
MIDDLE = {"WindowCenter": "0", "WindowWidth": "1500"}
LOW = {"WindowCenter": "100", "WindowWidth": "600"}
COLOURS = np.random.default_rng(0).integers(0, 4096, (8, 12, 3)).astype(np.uint16)
HALVED = np.random.default_rng(1).integers(0, 256, 8 * 12 * 2, dtype=np.uint8).tobytes()
TABLES = {colour: np.roll(CURVE, turn) for turn, colour in enumerate(("Red", "Green", "Blue"))}
RESCALE = {"RescaleSlope": "0.5", "RescaleIntercept": "-300"}
TWELVE = {"BitsStored": 12, "HighBit": 11}
MADE: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "no window": (VALUES, {}),
    "window": (VALUES, WINDOW),
    "signed": (SIGNED, MIDDLE),
    "sigmoid": (VALUES, WINDOW | {"VOILUTFunction": "SIGMOID"}),
    "width 1": (VALUES, {"WindowCenter": "1000", "WindowWidth": "1"}),
    "rescaled": (VALUES, RESCALE | LOW),
    "falling": (VALUES, WINDOW | {"RescaleSlope": "-1", "RescaleIntercept": "3000"}),
    "unused bits": (VALUES | 0xF000, WINDOW | TWELVE),
    "high bit": (VALUES << 4, WINDOW | {"BitsStored": 12, "HighBit": 15}),
    "high bit, signed": ((SIGNED << 4).astype("i2"), MIDDLE | {"BitsStored": 12, "HighBit": 15}),
    "32 bits": (VALUES.astype(np.uint32) * 1000, {"WindowCenter": "1e6", "WindowWidth": "1500000"}),
    "padding": (VALUES, {"PixelPaddingValue": 0}),
    "table": (VALUES, {"VOILUTSequence": [[4096, 0, 12]]}),
    "table after rescale": (VALUES, RESCALE | {"VOILUTSequence": [[4096, -300, 12]]}),
    "modality table": (VALUES, {"ModalityLUTSequence": [[4096, 0, 12]]}),
    "modality table, window": (VALUES, WINDOW | {"ModalityLUTSequence": [[4096, 0, 12]]}),
    "both tables": (
        VALUES,
        {"ModalityLUTSequence": [[4096, 0, 12]], "VOILUTSequence": [[4096, 0, 12]]},
    ),
    "colour of 12 bits": (COLOURS, TWELVE),
    "YBR of 12 bits": (COLOURS, TWELVE | {"PhotometricInterpretation": "YBR_FULL"}),
    "YBR": ((COLOURS >> 4).astype("u1"), {"PhotometricInterpretation": "YBR_FULL"}),
    "YBR halved": (
        (COLOURS >> 4).astype("u1"),
        {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": HALVED},
    ),
    "YBR partial": (
        (COLOURS >> 4).astype("u1"),
        {"PhotometricInterpretation": "YBR_PARTIAL_422", "PixelData": HALVED},
    ),
    "palette": (VALUES, palette(TABLES, 0, 12)),
    "palette from 500": (VALUES, palette({c: t[:900] for c, t in TABLES.items()}, 500, 16)),
}
for space in ("MONOCHROME1", "MONOCHROME2"):
    for shape in ("IDENTITY", "INVERSE"):
        tags = {"PhotometricInterpretation": space, "PresentationLUTShape": shape}
        MADE[f"{space} {shape}"] = (VALUES, WINDOW | tags)


@pytest.mark.parametrize("name", MADE)
def test_files_made_here(name: str, tmp_path: Path) -> None:
    values, elements = MADE[name]
    elements = {
        keyword: [table(value[0], CURVE.tobytes(), "SS" if value[0][1] < 0 else "US")]
        if keyword.endswith("LUTSequence")
        else value
        for keyword, value in elements.items()
    }
    data = dicom(values, **elements)
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    options = window_options(pydicom.dcmread(io.BytesIO(data)))
    theirs = by_dcmtk(path, options, 0, tmp_path / "o.ppm")
    assert theirs is not None
    difference = np.abs(np.asarray(load_image(data)).astype(int) - theirs)
    assert difference.mean() <= 1
    assert difference.max() <= 2
