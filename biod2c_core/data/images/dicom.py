"""One frame of a DICOM file: where its pixels are, how they are compressed, what it shows.

Nothing but pixels is returned, and no message quotes a value from the file, so names and dates of
patients stay in it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from biod2c_core.data.images.bombs import check_codestream, inflate
from biod2c_core.data.images.dicom_display import (
    DISPLAY_KEYWORDS,
    frame_header,
    show_colour,
    show_grey,
    show_palette,
)
from biod2c_core.data.images.pixels import Window, check_pixels, choose_frame
from biod2c_core.errors import ImageError, MissingDependencyError

_DEFLATED = "1.2.840.10008.1.2.1.99"
_EXPLICIT = "1.2.840.10008.1.2.1"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_RUN_LENGTH = "1.2.840.10008.1.2.5"
_CHILD_SECONDS = 60  # on the clock; the child has 20 of the processor
_GREYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422")
_HEADER_KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"),
    "SOPInstanceUID",
    *DISPLAY_KEYWORDS,
)
_FIRST_GROUPS = (b"\x02", b"\x08", b"\x10", b"\x18", b"\x20", b"\x28")
# The types of values that explicit encodings name; a data set without a header is recognized by them.
_VALUE_TYPES = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR"
    b" US UT UV"
).split()

# pydicom's warnings quote the values they warn about.
warnings.filterwarnings("ignore", module=r"pydicom\b")


class NoPictureError(ImageError):
    """A DICOM file holds something else: a report, a plan, a directory."""


@dataclass(frozen=True)
class DicomFile:
    """An open DICOM file with its header read.

    Attributes:
        file: Positioned anywhere; deflated files are inflated.
        name: How messages name it.
        header: The elements that matter here.
        syntax: UID of the transfer syntax, guessed where the file does not say.
        size: Width and height.
        frames: How many.
    """

    file: BinaryIO
    name: str
    header: Any
    syntax: Any
    size: tuple[int, int]
    frames: int


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes are those of a DICOM file in the standard's form."""
    return head[128:132] == b"DICM"


def may_be_data_set(head: bytes) -> bool:
    """Whether a file can be DICOM without its preamble: it begins with an element of a low group."""
    little, big = head[0:1] in _FIRST_GROUPS, head[1:2] in _FIRST_GROUPS
    if len(head) < 16 or not ((little and head[1] == 0) or (big and head[0] == 0)):
        return False
    if head[4:6] in _VALUE_TYPES:
        return True
    length = int.from_bytes(head[4:8], "little")  # without types: group length, or a short text
    return little and head[3] == 0 and length <= 128 and length % 2 == 0


def open_dicom(file: BinaryIO, name: str) -> DicomFile:
    """Read everything but the pixels.

    Args:
        file: Open binary file.
        name: How messages name it.

    Raises:
        NoPictureError: It holds none.
        ImageError: It is damaged.
        MissingDependencyError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError("pydicom", "medical") from error
    file = _inflated(file, name)
    try:
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(_HEADER_KEYWORDS)
            )
            here = file.tell()
            has_pixels = b"\xe0\x7f" in (tag := file.read(2)) or tag == b"\x7f\xe0"
            file.seek(here)
            if "Rows" in header and not has_pixels:
                raise ImageError(f"{name} is a DICOM file without its pixels", "Copy it again.")
            if "Rows" in header and "Columns" in header:
                size = int(header.Columns), int(header.Rows)
                return DicomFile(
                    file, name, header, _transfer_syntax(header), size, _frames(header)
                )
    except ImageError:
        raise
    except (Exception, MemoryError) as error:
        raise ImageError(
            f"{name} is a damaged DICOM file ({type(error).__name__})", "Export it again."
        ) from None  # the cause may quote the file
    raise NoPictureError(f"{name} is a DICOM file without a picture", "Give one with pixel data.")


def decode_dicom(
    file: BinaryIO, name: str, max_pixels: int, frame: int | None, window: Window | None
) -> np.ndarray:
    """Decode one frame.

    Args:
        file: Open binary file.
        name: How messages name it.
        max_pixels: Refuse a header that announces more.
        frame: Index from 0; by default the first.
        window: Centre and width in rescaled units; by default the file's first window, or else its
            table, or else the frame's own range without padding.

    Returns:
        uint8, (rows, columns) grey or (rows, columns, 3) RGB.

    Raises:
        ImageError: No picture, too large, no such frame, or damaged pixel data.
        MissingDependencyError: pydicom is not installed.
    """
    opened = open_dicom(file, name)
    check_pixels(opened.size, name, max_pixels)
    index = choose_frame(frame or 0, opened.frames, name)
    from pydicom import config

    try:
        with config.disable_value_validation():  # its complaints quote values
            return _shown(opened, index, window)
    except ImageError:
        raise
    except (Exception, MemoryError) as error:  # pydicom and its plugins raise nearly anything
        raise ImageError(
            f"{name}: its pixels cannot be decoded ({type(error).__name__})", "Export it again."
        ) from None  # the cause may quote the file


def _inflated(file: BinaryIO, name: str) -> BinaryIO:
    """The file, or what a deflated one inflates to.

    pydicom would inflate it whole, however long it becomes.
    """
    file.seek(0)
    start = 132 if is_dicom(file.read(132)) else 0
    file.seek(start)
    syntax = ""
    while len(element := file.read(8)) == 8 and element[:2] == b"\x02\0":
        start += 8
        length = int.from_bytes(element[6:8], "little")
        if element[4:6] in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
            length = int.from_bytes(file.read(4), "little")
            start += 4
        value = file.read(length) if element[2:4] == b"\x10\0" and length < 256 else b""
        start += length
        syntax = value.rstrip(b"\0 ").decode("ascii", "replace") or syntax
        file.seek(start)
    file.seek(0)
    if syntax != _DEFLATED:
        return file
    file.seek(start)
    body = inflate(file.read(), name)
    uid = _EXPLICIT.encode() + b"\0"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    meta = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta
    return io.BytesIO(bytes(128) + b"DICM" + meta + body.getbuffer())


def _frames(header: Any) -> int:
    try:
        return max(int(header.get("NumberOfFrames") or 1), 1)
    except (TypeError, ValueError):  # text that is not a number
        return 1


def _transfer_syntax(header: Any) -> Any:
    from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

    said = header.file_meta.get("TransferSyntaxUID")
    if said:
        return UID(said)
    implicit, little = header.original_encoding
    return ImplicitVRLittleEndian if implicit else UID(_EXPLICIT) if little else ExplicitVRBigEndian


def _shown(opened: DicomFile, index: int, window: Window | None) -> np.ndarray:
    header = frame_header(opened.header, index)
    samples = int(header.get("SamplesPerPixel") or 1)
    space = str(header.get("PhotometricInterpretation") or "").strip().upper()
    space = space or ("RGB" if samples == 3 else "MONOCHROME2")
    colour = space in _COLOURS
    if not (colour or space in _GREYS or space == "PALETTE COLOR") or samples != (
        3 if colour else 1
    ):
        raise ImageError(
            f"{opened.name} has {samples} values a pixel in a colour space that is not read",
            "Export it as RGB.",
        )
    header.PhotometricInterpretation = space
    if window is not None and space not in _GREYS:
        raise ImageError(f"{opened.name} is in colour and has no window", "Leave the window out.")
    little = bool(opened.header.original_encoding[1])
    values = _stored_values(opened, header, index)
    if colour:
        return show_colour(values, header)
    if space == "PALETTE COLOR":
        return show_palette(values, header, little)
    return show_grey(values, header, window, little)


def _stored_values(opened: DicomFile, header: Any, index: int) -> np.ndarray:
    """The frame's values, unused bits taken off; 8-bit YBR already as RGB."""
    plugins = _check_decoder(opened, header, index)
    allocated, stored = int(header.get("BitsAllocated", 8)), int(header.get("BitsStored", 0))
    stored = stored or allocated
    header.BitsStored = stored
    high = int(header.get("HighBit", stored - 1))
    shift = high + 1 - stored if stored - 1 < high < allocated else 0
    options: dict[str, Any] = {
        "photometric_interpretation": header.PhotometricInterpretation,
        "number_of_frames": opened.frames,
    }
    if shift and not opened.syntax.is_compressed:
        options["bits_stored"] = high + 1  # pydicom takes the lowest bits for the stored ones
    if header.PhotometricInterpretation == "YBR_PARTIAL_422":
        options["photometric_interpretation"] = "YBR_FULL_422"  # laid out as that one is
    by_pydicom = header.PhotometricInterpretation.startswith("YBR_FULL") and allocated == 8
    options |= {"index": index, "transfer_syntax_uid": opened.syntax, "as_rgb": by_pydicom}
    values = _decoded(opened, plugins, options)
    if by_pydicom or header.PhotometricInterpretation in ("YBR_ICT", "YBR_RCT"):
        header.PhotometricInterpretation = "RGB"
    return values >> shift if "bits_stored" in options else values


def _decoded(opened: DicomFile, plugins: tuple[str, ...], options: dict[str, Any]) -> np.ndarray:
    """What the first of pydicom's plugins makes of the frame that can decode it.

    GDCM, which some codes need, runs in a separate process: see :mod:`.decoder_child`.
    """
    from pydicom.pixels import pixel_array

    opened.file.seek(0)
    if plugins == ("gdcm",):
        child = str(Path(__file__).with_name("decoder_child.py"))
        run = subprocess.run(
            [sys.executable, child, json.dumps(options)],
            input=opened.file.read(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=_CHILD_SECONDS,
        )
        return np.load(io.BytesIO(run.stdout), allow_pickle=False)
    own = [plugin for plugin in plugins if plugin != "gdcm"]
    for plugin in own[:-1]:
        try:
            return pixel_array(opened.file, decoding_plugin=plugin, **options)
        except Exception:  # the next one may know this variant
            opened.file.seek(0)
    return pixel_array(opened.file, decoding_plugin=own[-1] if own else "", **options)


def _check_decoder(opened: DicomFile, header: Any, index: int) -> tuple[str, ...]:
    """That compressed pixels can be decoded here, and will not become more than announced.

    Returns:
        pydicom's plugins that can; none are needed for pixels that are not compressed.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    syntax, name = opened.syntax, opened.name
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(
            f"{name} is compressed in a way that is not read ({_known_name(syntax)})",
            "Export it uncompressed, as JPEG 2000 or as JPEG.",
        ) from None
    if not decoder.is_available:
        raise ImageError(
            f"{name} is compressed as {_known_name(syntax)}, and no decoder for it is installed",
            "Install one with: pip install 'biod2c[medical]'",
        )
    if not syntax.is_encapsulated:
        return ()
    if syntax == _JPEG_EXTENDED and int(header.get("BitsStored", 8)) > 8:
        _check_twelve_bits(name)
    offsets = None
    if "ExtendedOffsetTable" in opened.header:
        offsets = (opened.header.ExtendedOffsetTable, opened.header.ExtendedOffsetTableLengths)
    opened.file.seek(_pixel_start(opened))
    data = get_frame(opened.file, index, extended_offsets=offsets, number_of_frames=opened.frames)
    width, height = opened.size
    samples, allocated = int(header.get("SamplesPerPixel") or 1), int(header.BitsAllocated)
    length = width * height * samples * max(allocated // 8, 1)
    check_codestream(data, opened.size, length, name, run_length=syntax == _RUN_LENGTH)
    return tuple(decoder.available_plugins)


def _check_twelve_bits(name: str) -> None:
    """The one common code whose only decoder is under the GPL, and so in no extra of ours."""
    if importlib.util.find_spec("libjpeg") is None:
        raise ImageError(
            f"{name} is compressed as JPEG of 12 bits, and no decoder for it is installed",
            "Install one with: pip install pylibjpeg pylibjpeg-libjpeg (GPL-3.0); or use dcmdjpeg.",
        )


def _pixel_start(opened: DicomFile) -> int:
    from pydicom import dcmread

    opened.file.seek(0)
    dcmread(opened.file, stop_before_pixels=True, force=True, specific_tags=["Rows"])
    return opened.file.tell() + 12


def _known_name(syntax: Any) -> str:
    return syntax.name if not syntax.is_private and syntax.name != str(syntax) else "unknown"
