"""One frame of a DICOM file as grey or colour values for the eye.

The order is the standard's (PS3.3, C.11): stored values -> modality (rescale) -> values of interest
(window) -> presentation (MONOCHROME1 inverted). Nothing but pixels is returned, and no message
quotes a value from the file, so names and dates of patients stay in it.
"""

from __future__ import annotations

import warnings
from typing import Any, BinaryIO

import numpy as np

from biod2c_core.data.pixels import Window, apply_window, check_pixels, choose_frame, scale_to_bytes
from biod2c_core.errors import ImageError, MissingDependencyError

_DEFLATED = b"1.2.840.10008.1.2.1.99"  # the library would inflate it whole, however large

# pydicom's warnings quote the values they warn about.
warnings.filterwarnings("ignore", module=r"pydicom\b")


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes are those of a DICOM file."""
    return head[128:132] == b"DICM"


def decode_dicom(
    file: BinaryIO, name: str, max_pixels: int, frame: int | None, window: Window | None
) -> np.ndarray:
    """Decode one frame.

    Args:
        file: Open binary file.
        name: How messages name it.
        max_pixels: Refuse a header that announces more.
        frame: Index from 0; by default the first.
        window: Centre and width in rescaled units; by default the file's first window, or else the
            frame's own range without padding.

    Returns:
        uint8, (rows, columns) grey or (rows, columns, 3) RGB.

    Raises:
        ImageError: No picture, too large, no such frame, or damaged pixel data.
        MissingDependencyError: pydicom is not installed.
    """
    header, size, frames = _header(file, name)
    check_pixels(size, name, max_pixels)
    index = choose_frame(frame or 0, frames, name)
    try:
        return _shown(_stored_values(file, index), header, window)
    except (Exception, MemoryError) as error:  # pydicom and its plugins raise nearly anything
        raise ImageError(
            f"{name}: its pixels cannot be decoded ({type(error).__name__})",
            "If they are compressed, pip install 'pylibjpeg[all]'; else export the file again.",
        ) from None  # the cause may quote the file


def _header(file: BinaryIO, name: str) -> tuple[Any, tuple[int, int], int]:
    """Everything but the pixels, width and height, and the number of frames."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError("pydicom", "medical") from error
    if _DEFLATED in file.read(4096):
        raise ImageError(f"{name} is a deflated DICOM file", "Convert it with dcmconv.")
    file.seek(0)
    try:
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(file, stop_before_pixels=True)
            if "Rows" in header:
                size = int(header.Columns), int(header.Rows)
                return header, size, int(header.get("NumberOfFrames") or 1)
    except (Exception, MemoryError) as error:
        raise ImageError(
            f"{name} is a damaged DICOM file ({type(error).__name__})", "Export it again."
        ) from None  # the cause may quote the file
    raise ImageError(f"{name} is a DICOM file without a picture", "Give one with pixel data.")


def _stored_values(file: BinaryIO, index: int) -> np.ndarray:
    from pydicom import config
    from pydicom.pixels import pixel_array

    file.seek(0)
    with config.disable_value_validation():
        return pixel_array(file, index=index)


def _shown(values: np.ndarray, header: Any, window: Window | None) -> np.ndarray:
    """From stored values to what is shown."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

    photometric = header.get("PhotometricInterpretation", "")
    if photometric == "PALETTE COLOR":
        values = apply_color_lut(values, header)
    if values.ndim == 3:
        return _eight_bits(values)
    padding = values == header.get("PixelPaddingValue") if "PixelPaddingValue" in header else None
    values = apply_modality_lut(values, header)
    asked = window or _first_window(header)
    if asked is not None:
        function = "LINEAR" if window else header.get("VOILUTFunction", "LINEAR")
        shown = apply_window(values, asked, function)
    elif "VOILUTSequence" in header:
        shown = scale_to_bytes(apply_voi_lut(values, header))
    else:
        values = values.astype(np.float32)
        if padding is not None:
            values[padding] = np.nan  # shown black, and no part of the range
        shown = scale_to_bytes(values)
    return 255 - shown if photometric == "MONOCHROME1" else shown


def _first_window(header: Any) -> Window | None:
    values = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = header.get(keyword)
        if value is None or value == "":
            return None
        values.append(float(value if isinstance(value, str | float | int) else value[0]))
    return values[0], values[1]


def _eight_bits(colours: np.ndarray) -> np.ndarray:
    """Colours of more than eight bits, brought down by their dtype's full range."""
    if colours.dtype == np.uint8:
        return colours[..., :3]
    full = np.iinfo(colours.dtype).max
    return (colours[..., :3].astype(np.float32) * (255.0 / full)).astype(np.uint8)
