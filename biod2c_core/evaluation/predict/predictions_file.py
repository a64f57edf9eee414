"""The predictions file: JSONL, one row per question, appended to and never rewritten.

A row is ``{"id": ..., "answer": ..., "confidence": ..., "familiarity": ...}``; more keys are allowed and
kept out of scoring, as the familiarity is. The rows of LLaVA-Med's answer files (``question_id``,
``text``) are read as they are, and so are CSV files and JSON arrays of such rows. A row from which two
answers could be meant is refused. Beside a file that ``predict`` writes stands
``FILE.manifest.json``, which says by which model and on what data, so that a run with another model or
other data is refused instead of mixed in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.append_log import AppendLog, whole_characters
from biod2c_core.atomic import write_json
from biod2c_core.data.formats.fields.columns import plain_column, whole_number
from biod2c_core.data.formats.rows.csv_rows import SUFFIXES, iter_csv
from biod2c_core.data.formats.rows.json_array import iter_json_array
from biod2c_core.data.records import Record, iter_jsonl, text_of
from biod2c_core.errors import InputError, RecordError
from biod2c_core.foreign import read_json

MANIFEST_SUFFIX = ".manifest.json"
_ID_KEYS = ("id", "question_id", "qid")
_ANSWER_KEYS = (  # what other systems call it
    *("answer", "prediction", "text", "pred", "predicted", "predicted_answer", "prediction_text"),
    *("model_answer", "response", "output", "generated_text", "generated_answer", "completion"),
)
_SAME_RUN_KEYS = (
    *("picture", "prompt", "temperature", "repetition"),  # first: they explain another identity
    *("identity", "data", "shuffle_seed"),
)


@dataclass(frozen=True)
class Prediction:
    """One answer of a model.

    Attributes:
        id: Id of the record it answers.
        answer: The text; empty where the model gave none.
        confidence: In [0, 1], or None where unknown.
        line: Line in its file, from 1; 0 for one that was never in a file.
        familiarity: Of its picture, in [0, 1], or None where unknown.
    """

    id: str
    answer: str
    confidence: float | None = None
    line: int = 0
    familiarity: float | None = None

    def to_row(self) -> dict[str, Any]:
        """The prediction as a row of its file."""
        row: dict[str, Any] = {"id": self.id, "answer": self.answer}
        if self.confidence is not None and math.isfinite(self.confidence):
            row["confidence"] = self.confidence
        if self.familiarity is not None:
            row["familiarity"] = self.familiarity
        return row


def _only(row: Mapping[str, Any], keys: Sequence[str], what: str) -> Any:
    """The value of the one of these keys that a row has; null where all that it has are null.

    Raises:
        ValueError: It has none, or several.
    """
    found = [key for key in keys if key in row]
    said = [key for key in found if row[key] is not None]
    if len(said) > 1:
        names = " and ".join(repr(key) for key in said)
        raise ValueError(
            f"which {what} is meant, {names}? Rename or leave out the one that is not the model's"
        )
    if not found:
        wanted = " or ".join(repr(key) for key in keys[:3])
        raise ValueError(f"no field {wanted}; there are {', '.join(map(repr, row)) or 'none'}")
    return row[(said or found)[0]]


def _parse(row: Any, line: int, is_text: bool = False) -> Prediction:
    """Check one row.

    Args:
        row: What was decoded.
        line: Its place.
        is_text: Its values are the cells of a table of texts, where an empty one is null.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    row = _plain_keys(row)
    if is_text:
        row = {key: value if str(value).strip() else None for key, value in row.items()}
    given = _only(row, _ID_KEYS, "id")
    whole = isinstance(given, float) and given.is_integer()
    if isinstance(given, bool) or not (isinstance(given, str | int) or whole):
        raise ValueError(f"the id must be text or a whole number, got {given!r}")
    name = text_of("id", given)
    if not name:
        raise ValueError("the id must be text or a whole number, got nothing")
    answer = _only(row, _ANSWER_KEYS, "answer")
    if isinstance(answer, dict | list):
        raise ValueError(f"the answer must be text, got {type(answer).__name__}")
    text = answer if isinstance(answer, str) else text_of("answer", answer)
    if is_text:
        name, text = whole_number(name), whole_number(text)
    name, text = whole_characters(name), whole_characters(text)
    confidence = _confidence(row.get("confidence"), is_text)
    known = row.get("familiarity")
    familiarity = known if isinstance(known, float) and 0 <= known <= 1 else None
    return Prediction(name, text, confidence, line, familiarity)


def _plain_keys(row: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in row.items():
        name = plain_column(key)
        if name in plain and name in (*_ID_KEYS, *_ANSWER_KEYS, "confidence"):
            raise ValueError(f"field {name!r} is there twice")
        plain[name] = value
    return plain


def _confidence(value: Any, is_text: bool) -> float | None:
    if value is None or (is_text and value.strip().lower() in ("nan", "none", "null")):
        return None
    problem = f"the confidence must be a number from 0 to 1, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(problem)
    if isinstance(value, str) and not is_text:
        raise ValueError(problem)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None
    if not 0 <= number <= 1:
        raise ValueError(problem)
    return number


def _rows(path: Path) -> tuple[Iterable[tuple[int, Any]], bool]:
    """The rows of a file in any of its forms, and whether their values are all text."""
    try:
        with path.open("rb") as file:
            start = file.read(256)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    begins = start.translate(None, b"\xef\xbb\xbf\xff\xfe \t\r\n\0")[:2]
    if begins[:1] == b"[" and begins != b"[]":
        return iter_json_array(path), False
    if begins[:1] not in (b"{", b"[") and path.suffix.lower() in SUFFIXES:
        return iter_csv(path), True
    return iter_jsonl(path), False


def read_predictions(path: str | Path) -> dict[str, Prediction]:
    """Read a predictions file of this or any other system.

    Args:
        path: JSONL, a JSON array, or a CSV or TSV file by its suffix.

    Returns:
        Id to prediction, in the file's order. A null answer is the empty text.

    Raises:
        InputError: The file cannot be opened.
        RecordError: A row is malformed, two answers could be meant, or an id occurs twice;
            ``file:line`` is named.
    """
    found: dict[str, Prediction] = {}
    rows, is_text = _rows(Path(path))
    for line, row in rows:
        try:
            if isinstance(row, ValueError):
                raise row
            prediction = _parse(row, line, is_text)
        except ValueError as error:
            remedy = 'A row is {"id": ..., "answer": ...}.'
            raise RecordError(path, line, str(error), remedy) from error
        if prediction.id in found:
            first = found[prediction.id].line
            problem = f"id {prediction.id!r} was already answered on line {first}"
            raise RecordError(path, line, problem, "Keep one prediction per question.")
        found[prediction.id] = prediction
    return found


def check_complete(
    records: Sequence[Record], predictions: Mapping[str, Prediction], path: str | Path
) -> None:
    """Check that there is one prediction for each record and none besides.

    Raises:
        RecordError: The first unknown id with its line, or the missing ids with the file's last
            line.
    """
    known = {record.id for record in records}
    for prediction in predictions.values():
        if prediction.id not in known:
            problem = f"id {prediction.id!r} is not a question of this data"
            remedy = "Check that data and split are those that were predicted."
            raise RecordError(path, prediction.line, problem, remedy)
    if missing := [record.id for record in records if record.id not in predictions]:
        shown = ", ".join(repr(name) for name in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        last = max((prediction.line for prediction in predictions.values()), default=0)
        problem = f"the file ends without a prediction for id {shown}{more}"
        raise RecordError(path, last, problem, "Predict them, or choose the split that was.")


def split_checksum(records: Iterable[Record]) -> str:
    """SHA-256 over id, image, question, answer, answer type and choices of the records, sorted by id."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.id):
        row = [record.id, record.image, record.question, record.answer, record.answer_type]
        row += sorted(f"{k}={v}" for k, v in record.tags.items() if k.startswith("choice_"))
        digest.update(json.dumps(row, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def same_pictures(before: Mapping[str, Any], now: str | None) -> bool:
    """Whether nothing speaks against the pictures being those that were predicted.

    Args:
        before: The manifest of the predictions. One of an earlier version says nothing about pictures.
        now: Checksum of the pictures; None where one cannot be read.
    """
    return None in (before.get("pictures"), now) or before["pictures"] == now


def manifest_path(path: str | Path) -> Path:
    """Where the manifest of a predictions file stands."""
    return Path(f"{path}{MANIFEST_SUFFIX}")


def read_manifest(path: str | Path) -> dict[str, Any] | None:
    """The manifest of a predictions file; None for a file of another system.

    Raises:
        InputError: The manifest is there and unreadable.
    """
    manifest = manifest_path(path)
    if not manifest.exists():
        return None
    try:
        value = read_json(manifest)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {manifest}", "Remove both files to start again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{manifest} is not a JSON object", "Remove both files to start again.")
    return value


def check_same_run(path: str | Path, manifest: Mapping[str, Any]) -> None:
    """Check that a predictions file, if there is one, was begun by the same run.

    Args:
        path: The file.
        manifest: Of this run; identity, data, pictures and shuffling must be the same.

    Raises:
        InputError: It holds the predictions of another run or of another system.
    """
    before = read_manifest(path)
    if before is None:
        if Path(path).exists() and Path(path).stat().st_size:
            raise InputError(
                f"{path} was not written by this command (no {manifest_path(path)})",
                "Score it without --model, or choose another file.",
            )
        return
    for key in _SAME_RUN_KEYS:
        if before.get(key) != manifest.get(key):
            raise InputError(
                f"{path} was begun with {key} {before.get(key)!r}, this run has "
                f"{manifest.get(key)!r}",
                "Choose another file, or remove it and its manifest.",
            )
    if not same_pictures(before, manifest.get("pictures")):
        raise InputError(
            f"{path} was begun with other pictures of these names",
            "Put the old ones back, or choose another file.",
        )


def shard_path(path: str | Path, index: int) -> Path:
    """Where one of several processes writes its share of a predictions file."""
    return Path(f"{path}.shard-{index}")


class PredictionLog:
    """A predictions file open for appending, resumed where it ended.

    Args:
        path: The file; created with its folder.
        manifest: Says who answers what; a resume must have the same identity, data, pictures and
            shuffling. Of a file that was begun without a checksum of the pictures, as earlier versions
            did, none is known later either.

    Raises:
        InputError: The file holds the predictions of another run, of another system, or is being
            written by another run.
    """

    def __init__(self, path: str | Path, manifest: Mapping[str, Any]) -> None:
        self.path = Path(path)
        check_same_run(self.path, manifest)  # first: a file of another system is not touched
        self._log = AppendLog(self.path, sync_every=0.0)
        try:
            check_same_run(self.path, manifest)  # now no other run can claim it
            begun = read_manifest(self.path)
            known = manifest.get("pictures") if begun is None else begun.get("pictures")
            write_json(manifest_path(self.path), {**manifest, "pictures": known})
            self.done: dict[str, Prediction] = read_predictions(self.path)
        except BaseException:
            self._log.close()
            raise

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._log.close()

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Write predictions and wait until they are on disk."""
        rows = list(predictions)
        self._log.append(row.to_row() for row in rows)
        self.done |= {row.id: row for row in rows}
