"""Text in the pixels of pictures: names and dates of patients, marks of archives. Found, and masked.

The reader runs offline: its models are files of the package. What it misses is measured in
``docs/commands/data.md``; it is a help for whoever removes names, not a proof that there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw

from biod2c_core.append_log import AppendLog
from biod2c_core.data.images import load_image, resolve_image
from biod2c_core.data.records import ShareBox
from biod2c_core.errors import ImageError, MissingDependencyError, RecordError
from biod2c_core.workers import worker_pool

MIN_CONFIDENCE = 0.5
PACKAGE = "rapidocr-onnxruntime"
# Captions of archives, which name who sent a picture in, are eight pixels high in one of a thousand: at
# its own size the reader misses most of them.
_ENLARGED = 2
_LONGEST = 2600  # pixels of a side; more would take over 2 GB
_MOST_ELONGATED = 4  # longer than that many times its breadth, a picture is blown up without bounds
_MARGIN = 0.15  # of a box's height: strokes reach beyond what the reader marks


@dataclass(frozen=True)
class FoundText:
    """One line of text in a picture.

    Attributes:
        text: What was read; letters may be wrong where there is text all the same.
        box: Where, upright, in shares of width and height.
        confidence: Of the reading, in [0, 1].
    """

    text: str
    box: ShareBox
    confidence: float


class ReadsText(Protocol):
    """Something that finds text.

    Attributes:
        identity: Equal only where equal pictures give equal findings.
    """

    identity: str

    def read(self, picture: Image.Image) -> list[FoundText]:
        """All text in an RGB picture, however unsure."""
        ...


class TextReader:
    """RapidOCR with the PP-OCRv4 models of its package, on one thread.

    Raises:
        MissingDependencyError: It is not installed.
    """

    def __init__(self) -> None:
        try:
            import cv2
            from rapidocr_onnxruntime import RapidOCR
        except ImportError as error:
            raise MissingDependencyError(PACKAGE, "text") from error
        cv2.setNumThreads(1)
        self._engine = RapidOCR(
            intra_op_num_threads=1, inter_op_num_threads=1, max_side_len=_LONGEST
        )
        self.identity = f"{PACKAGE} {version(PACKAGE)}, {_ENLARGED} times to {_LONGEST}"

    def read(self, picture: Image.Image) -> list[FoundText]:
        """All text in an RGB picture, however unsure.

        It is read at twice its size, up to 2,600 pixels a side.
        """
        factor = min(_ENLARGED, _LONGEST / max(picture.size))
        width, height = (max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture)[:, :, ::-1]  # BGR, as OpenCV has it
        wide, high = (
            max(0, -(-a // _MOST_ELONGATED) - b) for a, b in ((height, width), (width, height))
        )
        pixels = np.pad(pixels, ((0, high), (0, wide), (0, 0)))
        lines, _ = self._engine(np.ascontiguousarray(pixels), text_score=0.0)
        found = []
        for corners, text, confidence in lines or []:
            xs, ys = (np.clip(np.array(corners).T / [[width], [height]], 0, 1)).tolist()
            box = ShareBox((min(xs), min(ys), max(xs), max(ys)))
            if text.strip() and box[0] < box[2] and box[1] < box[3]:
                found.append(FoundText(text.strip(), box, round(float(confidence), 4)))
        return found


def require_reader() -> None:
    """Check, before long work, that there will be a reader.

    Raises:
        MissingDependencyError: There is none.
    """
    TextReader()


@dataclass
class TextReport:
    """What was found in a set of pictures.

    Attributes:
        images: How many were read.
        texts: Image name to the text in it, for those that have any.
        unreadable: Image name to why it could not be decoded.
    """

    images: int = 0
    texts: dict[str, list[FoundText]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> list[dict[str, Any]]:
        """One object an image with text, by name."""
        return [
            {"image": name, "texts": [asdict(each) for each in self.texts[name]]}
            for name in sorted(self.texts)
        ]


def find_text(
    names: Sequence[str],
    root: Path,
    journal: Path,
    *,
    min_confidence: float = MIN_CONFIDENCE,
    workers: int = 1,
    make_reader: Callable[[], ReadsText] | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> TextReport:
    """Look for text in pictures; started again, a picture that has not changed is not read again.

    Args:
        names: The pictures, each once.
        root: The image root.
        journal: JSONL that holds what was found in each, whatever its confidence.
        min_confidence: What is less sure is left out of the report.
        workers: Processes that read.
        make_reader: Makes the reader, in each process; :class:`TextReader` by default.
        advance: Called with the number of pictures done.

    Raises:
        InputError: Another run has the journal open, or it is damaged.
        MissingDependencyError: The reader, or an image, needs an extra that is not installed.
    """
    make = make_reader or TextReader
    reader = make()
    report = TextReport()
    found: dict[str, list[FoundText]] = {}
    with AppendLog(journal) as log:
        states = {name: [reader.identity, *_state(root, name)] for name in names}
        for line, row in log.rows():
            try:
                if states.get(row["image"]) == row["state"]:
                    found[row["image"]] = [_from_json(each) for each in row["texts"]]
            except (KeyError, TypeError, AttributeError) as error:
                raise RecordError(
                    journal, line, "not a row of text that was found", "Remove that file."
                ) from error
        advance(len(found))
        todo = [name for name in names if name not in found]
        for name, result in zip(todo, _read_all(todo, root, reader, workers, make), strict=True):
            advance(1)
            if isinstance(result, str):
                report.unreadable[name] = result
                continue
            texts = [asdict(each) for each in result]
            log.append([{"image": name, "state": states[name], "texts": texts}])
            found[name] = result
    report.images = len(found)
    for name in names:
        if sure := [each for each in found.get(name, []) if each.confidence >= min_confidence]:
            report.texts[name] = sure
    return report


def _state(root: Path, name: str) -> tuple[int, int]:
    """Length and time of a file, which change when it does; zeros where there is none."""
    try:
        status = resolve_image(root, name).stat()
    except (ImageError, OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _from_json(row: dict[str, Any]) -> FoundText:
    return FoundText(row["text"], ShareBox(tuple(row["box"])), row["confidence"])


@cache
def _reader_of(make: Callable[[], ReadsText]) -> ReadsText:
    """The one reader of a worker process."""
    return make()


def _read_in_worker(make: Callable[[], ReadsText], root: Path, name: str) -> list[FoundText] | str:
    return _read(_reader_of(make), root, name)


def _read(reader: ReadsText, root: Path, name: str) -> list[FoundText] | str:
    """What is in one picture, or why it cannot be decoded."""
    try:
        picture = load_image(name, root=root)
    except MissingDependencyError:
        raise
    except ImageError as error:
        return error.problem
    return reader.read(picture)


def _read_all(
    names: Sequence[str],
    root: Path,
    reader: ReadsText,
    workers: int,
    make: Callable[[], ReadsText],
) -> Iterator[list[FoundText] | str]:
    if workers <= 1 or len(names) <= 1:
        yield from (_read(reader, root, name) for name in names)
        return
    remedy = "Run the same command again with fewer --workers; what was read is kept."
    with worker_pool(workers, "reads text", remedy) as pool:
        yield from pool.map(partial(_read_in_worker, make, root), names, chunksize=1)


def mask_text(picture: Image.Image, texts: Sequence[FoundText]) -> Image.Image:
    """A copy with black boxes over the text, each a little larger than what the reader marks."""
    masked = picture.copy()
    draw = ImageDraw.Draw(masked)
    width, height = picture.size
    for each in texts:
        left, top, right, bottom = (
            share * side for share, side in zip(each.box, (width, height) * 2, strict=True)
        )
        margin = 1 + _MARGIN * min(right - left, bottom - top)
        draw.rectangle((left - margin, top - margin, right + margin, bottom + margin), fill="black")
    return masked
