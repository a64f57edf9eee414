"""A folder with the DICOM files of one series, as a volume: its slices sorted by position."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biod2c_core.data.images.dicom import DicomFile, NoPictureError, open_dicom
from biod2c_core.data.images.files import TimedFile, check_image_file
from biod2c_core.data.images.pixels import choose_frame
from biod2c_core.data.images.recognize import DICOM, PEEK_BYTES, recognize
from biod2c_core.errors import ImageError, counted

MAX_FILES = 5000
MAX_SECONDS = 60.0  # of processor time, for all headers
_SAME_PLACE = 1e-3  # mm
_GAP = 1.5  # times the usual step: a slice may be missing there


@dataclass(frozen=True)
class _Slice:
    path: Path
    series: str
    shape: tuple[Any, ...]
    position: tuple[float, ...]
    normal: tuple[float, ...]
    number: int
    instance: str


@dataclass(frozen=True)
class Series:
    """The slices of a volume.

    Attributes:
        files: From the patient's left, back or feet.
        remarks: Lines on what is odd about them: copies, gaps, places that are not known.
    """

    files: tuple[Path, ...]
    remarks: tuple[str, ...]


def choose_slice(folder: Path, slice_index: int | None, frame: int | None, max_bytes: int) -> Path:
    """The file of one slice.

    Args:
        folder: With the files of one series; others that are not DICOM pictures are skipped.
        slice_index: From 0, from the patient's left, back or feet; by default the middle one.
        frame: Which volume, where the series has several at the same places; by default the first.
        max_bytes: Refuse longer files.

    Raises:
        ImageError: No series, several, or one whose slices make no volume.
        MissingDependencyError: pydicom is not installed.
    """
    files = find_series(folder, frame, max_bytes).files
    middle = len(files) // 2
    asked = middle if slice_index is None else slice_index
    return files[choose_frame(asked, len(files), str(folder), "slices")]


def find_series(folder: Path, frame: int | None, max_bytes: int) -> Series:
    """All slices of a volume; arguments and errors as in :func:`choose_slice`."""
    slices, copies = _without_copies(_one_series(folder, _read(folder, max_bytes)))
    volumes = _volumes(folder, slices)
    volume = volumes[choose_frame(frame or 0, len(volumes), str(folder), "volumes")]
    remarks = [_said_of_copies(folder, copies), _said_of_places(folder, volume)]
    return Series(tuple(each.path for each in volume), tuple(filter(None, remarks)))


def _read(folder: Path, max_bytes: int) -> list[_Slice]:
    try:
        files = (path for path in folder.iterdir() if not path.name.startswith("."))
        paths = sorted(path for path in files if path.is_file())
    except OSError as error:
        raise ImageError(
            f"cannot read {folder}: {error.strerror}", "Check its permissions."
        ) from error
    if len(paths) > MAX_FILES:
        raise ImageError(
            f"{folder} is a folder of {len(paths):,} files, over the limit of {MAX_FILES:,}",
            "Name the folder of one DICOM series.",
        )
    slices, end = [], time.thread_time() + MAX_SECONDS
    for path in paths:
        if time.thread_time() > end:
            raise ImageError(
                f"the headers in {folder} take over {MAX_SECONDS:g} s to read",
                "Name the folder of one DICOM series, or one file.",
            )
        found = _slice(path, max_bytes)
        slices += [] if found is None else [found]
    if not slices:
        raise ImageError(
            f"{folder} is a folder, expected an image file or the DICOM files of one series",
            "Name one image file, or the folder of one DICOM series.",
        )
    return slices


def _slice(path: Path, max_bytes: int) -> _Slice | None:
    try:
        with check_image_file(path, max_bytes).open("rb") as file:
            if not _is_dicom(file.read(PEEK_BYTES)):
                return None
            file.seek(0)
            opened = open_dicom(TimedFile(file, str(path)), str(path))  # type: ignore[arg-type]
    except NoPictureError:
        return None  # a report, a plan, a directory
    if opened.frames > 1:
        raise ImageError(
            f"{path.parent} holds a file of several frames, {path.name}",
            "Name that file, and the frame.",
        )
    return _described(path, opened)


def _is_dicom(head: bytes) -> bool:
    try:
        return recognize(head, "") == DICOM
    except ImageError:  # of a format that is not read
        return False


def _described(path: Path, opened: DicomFile) -> _Slice:
    header = opened.header
    position = _numbers(header, "ImagePositionPatient", 3)
    directions = _numbers(header, "ImageOrientationPatient", 6)
    normal = np.cross(directions[:3], directions[3:]) if directions else np.zeros(0)
    number = _numbers(header, "InstanceNumber", 1)
    shape = (opened.size, tuple(np.round(directions, 2)))
    series = str(header.get("SeriesInstanceUID") or "")
    instance = str(header.get("SOPInstanceUID") or "")
    at = int(number[0]) if number else 0
    return _Slice(path, series, shape, position, tuple(normal), at, instance)


def _numbers(header: Any, keyword: str, count: int) -> tuple[float, ...]:
    """The element's numbers, or nothing if it has not ``count`` finite ones."""
    try:
        value = header.get(keyword)
        values = [float(each) for each in np.atleast_1d(value)]
    except (TypeError, ValueError):
        return ()
    return tuple(values) if len(values) == count and np.isfinite(values).all() else ()


def _one_series(folder: Path, slices: list[_Slice]) -> list[_Slice]:
    """The slices, if they are of one series, one size and one direction."""
    for what, keys in (
        ("series", [each.series for each in slices]),
        ("sizes or directions of slices", [each.shape for each in slices]),
    ):
        kinds: dict[Any, list[str]] = {}
        for key, each in zip(keys, slices, strict=True):
            kinds.setdefault(key, []).append(each.path.name)
        if len(kinds) > 1:
            shown = [f"{len(names)} files like {names[0]}" for names in kinds.values()]
            shown = [*shown[:5], "..."] if len(shown) > 5 else shown
            raise ImageError(
                f"{folder} holds {len(kinds)} {what}: {', '.join(shown)}",
                "Put each series in a folder of its own, or name one file.",
            )
    return slices


def _without_copies(slices: list[_Slice]) -> tuple[list[_Slice], list[_Slice]]:
    """Each slice once, and what is the same one in another file.

    Programs that take names out of files may give all of them one identity, so place and number count too.
    """
    kept: dict[tuple[Any, ...], _Slice] = {}
    copies: list[_Slice] = []
    for each in slices:
        identity = each.instance or each.path, each.position, each.number
        if kept.setdefault(identity, each) is not each:
            copies.append(each)
    return list(kept.values()), copies


def _said_of_copies(folder: Path, copies: list[_Slice]) -> str:
    if not copies:
        return ""
    noun = "file is a copy" if len(copies) == 1 else "files are copies"
    return (
        f"{folder}: {len(copies)} {noun} of another and left out, the first {copies[0].path.name}"
    )


def _said_of_places(folder: Path, volume: list[_Slice]) -> str:
    """That slices seem to be missing, or that nothing but their numbers orders them."""
    if len(volume) > 1 and not _all_placed(volume):
        return f"{folder}: not all slices say where they lie, so they are sorted by their numbers"
    if len(volume) < 3:
        return ""
    steps = np.diff([float(np.dot(_along(volume), each.position)) for each in volume])
    usual = float(np.median(steps))
    wide = np.flatnonzero(steps > _GAP * usual)
    if not len(wide):
        return ""
    first = int(wide[0])
    missing = sum(round(float(steps[index]) / usual) - 1 for index in wide)
    return (
        f"{folder}: {counted(missing, 'slice')} may be missing: {steps[first]:g} mm between slices "
        f"{first} and {first + 1}, usually {usual:g} mm"
    )


def _all_placed(slices: list[_Slice]) -> bool:
    return all(each.position and each.normal for each in slices)


def _along(slices: list[_Slice]) -> np.ndarray:
    """Unit vector, (3,), from the patient's left, back or feet on through slices that are placed."""
    normal = np.array(slices[0].normal)
    main = int(np.argmax(np.abs(normal)))
    towards = 1 if main == 2 else -1  # DICOM's axes run to the left, the back and the head
    return normal * (np.sign(normal[main]) * towards)


def _volumes(folder: Path, slices: list[_Slice]) -> list[list[_Slice]]:
    """Slices sorted from the patient's left, back or feet, one list for each time."""
    if not _all_placed(slices):
        return [sorted(slices, key=lambda each: (each.number, each.path.name))]
    along = _along(slices)
    places: list[tuple[float, list[_Slice]]] = []
    for place, each in sorted(
        ((float(np.dot(along, each.position)), each) for each in slices),
        key=lambda pair: (pair[0], pair[1].number, pair[1].path.name),
    ):
        if places and place - places[-1][0] < _SAME_PLACE:
            places[-1][1].append(each)
        else:
            places.append((place, [each]))
    times = {len(each) for _, each in places}
    if len(times) > 1:
        raise ImageError(
            f"{folder} holds {min(times)} to {max(times)} slices at a place, which make no volume",
            "Put each volume in a folder of its own, or name one file.",
        )
    ordered = [sorted(each, key=lambda one: (one.number, one.path.name)) for _, each in places]
    return [[each[time] for each in ordered] for time in range(times.pop())]
