"""From the stored values of one DICOM frame to what a display shows.

The order is the standard's (PS3.3, C.7.6.3, C.11 and C.7.6.16; PS3.4, N.2): stored values ->
modality (table, or rescale) -> values of interest (window, or table) -> presentation (MONOCHROME1,
presentation LUT). Each step is that of the frame: functional groups, the frame's own before the
shared ones, stand above the data set. pydicom's ``apply_*`` functions are not used for tables:
they fail on 12-bit entries, on packed 8-bit ones and on tables longer than their entries' range.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from biod2c_core.data.images.pixels import (
    Window,
    apply_window,
    asked_window_function,
    has_width,
    scale_from_bits,
    scale_to_bytes,
)

_GROUPS = {  # a functional group, and what it replaces as a whole
    "PixelValueTransformationSequence": (
        *("RescaleIntercept", "RescaleSlope", "ModalityLUTSequence"),
    ),
    "FrameVOILUTSequence": (*("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),),
}
DISPLAY_KEYWORDS = (
    *(keyword for keywords in _GROUPS.values() for keyword in keywords),
    *("PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *(
        f"{kind}PixelPadding{part}"
        for kind in ("", "Float", "DoubleFloat")
        for part in ("Value", "RangeLimit")
    ),
    *("PresentationLUTShape", "PresentationLUTSequence"),
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
)


def frame_header(header: Any, index: int) -> Any:
    """The elements that decide how one frame is shown.

    Args:
        header: Data set of the file.
        index: The frame, from 0.

    Returns:
        A data set of :data:`DISPLAY_KEYWORDS`, with those of the frame's functional groups.
    """
    from pydicom.dataset import Dataset

    own = Dataset()
    own.set_original_encoding(*header.original_encoding)  # for words in tables
    for keyword in DISPLAY_KEYWORDS:
        if keyword in header:
            own[keyword] = header[keyword]
    for groups, place in (
        (header.get("SharedFunctionalGroupsSequence"), 0),
        (header.get("PerFrameFunctionalGroupsSequence"), index),
    ):
        if not groups or place >= len(groups):
            continue
        for group, keywords in _GROUPS.items():
            items = groups[place].get(group)
            if not items:
                continue
            for keyword in keywords:
                if keyword in own:
                    del own[keyword]
                if keyword in items[0]:
                    own[keyword] = items[0][keyword]
    return own


def show_colour(values: np.ndarray, header: Any) -> np.ndarray:
    """Colours of any number of bits as RGB.

    Args:
        values: (rows, columns, 3), RGB or YBR by ``header``.
        header: What :func:`frame_header` gives, its photometric interpretation that of ``values``.

    Returns:
        uint8, (rows, columns, 3).
    """
    from pydicom.pixels import convert_color_space

    bits = int(header.BitsStored)
    if int(header.get("PixelRepresentation", 0)) and values.dtype.kind == "i":
        values = values.astype(np.int64) + (1 << (bits - 1))  # signed colours: zero is the middle
    shown = scale_from_bits(values, bits)
    space = str(header.PhotometricInterpretation)
    if space in ("YBR_FULL", "YBR_FULL_422"):
        return convert_color_space(shown, "YBR_FULL", "RGB")
    if space.startswith("YBR_PARTIAL"):
        return _from_partial(shown)
    return shown


def _from_partial(shown: np.ndarray) -> np.ndarray:
    """YBR_PARTIAL (PS3.3, C.7.6.3.1.2): luminance 16 to 235, colour differences 16 to 240."""
    matrix = np.array(
        [[1.1644, 0, 1.5960], [1.1644, -0.3917, -0.8130], [1.1644, 2.0173, 0]], np.float32
    )
    colours = (shown.astype(np.float32) - np.array([16, 128, 128], np.float32)) @ matrix.T
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def show_palette(values: np.ndarray, header: Any, little: bool) -> np.ndarray:
    """Look up palette colours.

    Args:
        values: (rows, columns) of indices.
        header: What :func:`frame_header` gives.
        little: Whether the file's words are little-endian.

    Returns:
        uint8, (rows, columns, 3).
    """
    from pydicom.pixels import apply_color_lut

    if "RedPaletteColorLookupTableData" not in header:  # a segmented one, which pydicom expands
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
        return scale_from_bits(apply_color_lut(values, header)[..., :3], bits)
    channels = []
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        descriptor, data = header[f"{keyword}Descriptor"].value, header[f"{keyword}Data"].value
        table, first, bits = _table(descriptor, data, little, values.dtype.kind == "i")
        channels.append(scale_from_bits(_look_up(values, table, first), bits))
    return np.stack(channels, axis=-1)


def show_grey(values: np.ndarray, header: Any, window: Window | None, little: bool) -> np.ndarray:
    """The grey pipeline.

    Args:
        values: (rows, columns), stored values as integers of their sign, or floats.
        header: What :func:`frame_header` gives.
        window: Centre and width instead of the file's.
        little: Whether the file's words are little-endian.

    Returns:
        uint8, (rows, columns). Padding is black.
    """
    padding = _padding(values, header)
    values, signed = _modality(values, header, little)
    shown = _of_interest(values, padding, header, window, little, signed)
    shown = _presented(shown, header, little)
    if padding is not None:
        shown[padding] = 0
    return shown


def _padding(values: np.ndarray, header: Any) -> np.ndarray | None:
    """Where the stored value is padding: equal to it, or between it and the limit of its range."""
    floats = {4: "Float", 8: "DoubleFloat"}
    kind = "" if values.dtype.kind != "f" else floats[values.dtype.itemsize]
    both = [header.get(f"{kind}PixelPadding{part}") for part in ("Value", "RangeLimit")]
    ends = [each for each in both if isinstance(each, int | float)]
    if not isinstance(both[0], int | float):
        return None
    if not kind:
        ends = [_as_stored(int(each), values, header) for each in ends]
    return (values >= min(ends)) & (values <= max(ends))


def _as_stored(value: int, values: np.ndarray, header: Any) -> int:
    """A padding value in the sign of the pixels: US and SS are often taken for one another."""
    signed = values.dtype.kind == "i"
    for bits in (int(header.BitsStored), int(header.BitsAllocated)):
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if low <= value <= high:
            return value
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if signed and wrapped > high else wrapped


def _modality(values: np.ndarray, header: Any, little: bool) -> tuple[np.ndarray, bool]:
    """The values of the modality, and whether they can be negative."""
    signed = values.dtype.kind != "u"
    tables = header.get("ModalityLUTSequence")
    if tables and "LUTData" in tables[0]:
        table, first, _ = _item_table(tables[0], little, signed)
        return _look_up(values, table, first), False
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    if slope is None and intercept is None:
        return values, signed
    slope, intercept = slope or 1.0, intercept or 0.0  # a slope of 0 would leave one grey
    rescaled = values.astype(np.float64) * slope
    rescaled += intercept
    return rescaled, signed or intercept < 0 or slope < 0


def _of_interest(
    values: np.ndarray,
    padding: np.ndarray | None,
    header: Any,
    window: Window | None,
    little: bool,
    signed: bool,
) -> np.ndarray:
    if window is not None:
        return apply_window(values, window, asked_window_function(window))
    centre, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    if centre is not None and width is not None and has_width(width, function):
        return apply_window(values, (centre, width), function)
    tables = header.get("VOILUTSequence")
    if tables and "LUTData" in tables[0]:
        table, first, bits = _item_table(tables[0], little, signed)
        return scale_from_bits(_look_up(values, table, first), bits)
    return scale_to_bytes(values, None if padding is None else ~padding)


def _presented(shown: np.ndarray, header: Any, little: bool) -> np.ndarray:
    tables = header.get("PresentationLUTSequence")
    if tables and "LUTData" in tables[0]:
        table, _, bits = _item_table(tables[0], little, False)
        steps = np.rint(np.arange(256) * ((len(table) - 1) / 255)).astype(np.int64)
        return scale_from_bits(table[steps], bits)[shown]
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if shape not in ("IDENTITY", "INVERSE"):
        shape = {"MONOCHROME1": "INVERSE"}.get(str(header.get("PhotometricInterpretation")), "")
    return 255 - shown if shape == "INVERSE" else shown


def _item_table(item: Any, little: bool, signed: bool) -> tuple[np.ndarray, int, int]:
    return _table(item["LUTDescriptor"].value, item["LUTData"].value, little, signed)


def _table(descriptor: Any, data: Any, little: bool, signed: bool) -> tuple[np.ndarray, int, int]:
    """A look-up table's entries, the value of the first one, and the bits that make white.

    The data may be 16-bit words, bytes, or bytes packed in words; the first value may be written
    in the other sign.
    """
    entries, first, bits = (int(each) for each in descriptor)
    entries = (entries % 65536) or 65536
    first = first - 65536 if signed and first > 32767 else first
    first = first + 65536 if not signed and first < 0 else first
    order = "<" if little else ">"
    if not isinstance(data, bytes):
        words = np.array([data] if isinstance(data, int) else list(data), np.int64) & 0xFFFF
        data = words.astype(f"{order}u2").tobytes()
    if len(data) < 2 * entries and entries <= len(data):
        table = np.frombuffer(data, np.uint8)
        if not little:
            table = np.frombuffer(data[: len(data) // 2 * 2], np.uint8).reshape(-1, 2)
            table = table[:, ::-1].reshape(-1)
    else:
        table = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    table = table[:entries].astype(np.uint16)
    if bits not in range(1, 17) or int(table.max()) >= 1 << bits:
        bits = 8 if int(table.max()) < 256 else 16
    return table, first, bits


def _look_up(values: np.ndarray, table: np.ndarray, first: int) -> np.ndarray:
    """Values below the first entry get the first, those above the last one the last."""
    kind = np.int64 if values.dtype.itemsize > 2 else np.int32
    places = np.rint(np.nan_to_num(values)) if values.dtype.kind == "f" else values
    return table[np.clip(places.astype(kind) - first, 0, len(table) - 1)]


def _number(header: Any, keyword: str) -> float | None:
    """The first value of an element, if it is a finite number."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return None
        number = float(value if isinstance(value, str | float | int) else value[0])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return number if math.isfinite(number) else None
