"""Tables of any data set: which column is which field, whatever its case and common name."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from biod2c_core.data.formats.fields.notes import AS_TAGS, GAPS, NOT_CARRIED, WITHOUT_ID, Notes
from biod2c_core.data.formats.fields.values import answer_type, caption_fields, is_empty
from biod2c_core.data.records import FIELDS, SPLIT_WORDS, text_of

QUEUE_SEPARATOR = ";"
NAMES = {
    "id": ("qid", "question_id", "sample_id", "uid"),
    "image": (
        *(
            "image_path",
            "image_file",
            "image_name",
            "image_filename",
            "img",
            "img_path",
            "img_file",
        ),
        *(
            "img_name",
            "file_name",
            "filename",
            "file_path",
            "file",
            "path",
            "picture",
            "figure_path",
        ),
    ),
    "question": ("question_text", "query", "prompt", "q"),
    "answer": ("gold", "gold_answer", "ground_truth", "groundtruth", "gt", "correct_answer", "a"),
    "answer_type": ("answertype",),
    "split": ("data_split", "dataset_split", "partition"),
}
_LOOSE_SPLITS = ("subset", "set", "phase", "fold")  # a split only where they hold such a word
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_WORD = re.compile(r"[\W_]+")
_GAPS = frozenset(
    {"nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "#N/A", "N/A", "n/a", "NA", "inf", "-inf"}
)
_WHOLE = re.compile(r"-?[0-9]{1,15}\.0")


def plain_column(name: str) -> str:
    """A column's name in one spelling: ``image_path`` for "Image Path" and "imagePath"."""
    return _NOT_WORD.sub("_", _CAMEL.sub("_", name.strip())).strip("_").lower()


def find_columns(header: Iterable[Any]) -> dict[str, str]:
    """Field to the column that holds it; a column named like the field goes before other names.

    Args:
        header: The names of the columns.
    """
    plain: dict[str, str] = {}
    for name in header:
        if isinstance(name, str) and name:
            key = plain_column(name)
            if name == key or key not in plain:
                plain[key] = name
    found = {}
    for field in sorted(FIELDS):
        spelled = next((n for n in (field, *NAMES.get(field, ())) if n in plain), None)
        if spelled is not None:
            found[field] = plain[spelled]
    return found


def missing_columns(found: Collection[str]) -> str:
    """Which columns a table lacks to be read, for a message; empty where it lacks none."""
    missing = [] if "image" in found else ["image"]
    if not {"question", "caption"} & set(found):
        missing.append("question (or caption)")
    return ", ".join(missing)


def whole_number(text: str) -> str:
    """A whole number that a table with gaps wrote as 2.0, as "2"; any other text as it is."""
    return text[:-2] if _WHOLE.fullmatch(text) else text


class TableRows:
    """Turns the rows of a table into the fields of records; other columns become tags.

    Args:
        notes: Told what was kept as a tag or not carried over.
        source: Name of the data set, for rows that name none.
        split: The split of rows that name none.
        name: Begins the ids of rows that have none.
        is_text: The cells are texts of a CSV file, in which gaps and whole numbers are spelled; else
            they are values of a table that holds the images too.
    """

    def __init__(
        self, notes: Notes, source: str, split: str, name: str, is_text: bool = False
    ) -> None:
        self.notes = notes
        self.source = source
        self.split = split
        self.name = name
        self.is_text = is_text
        self._header: tuple[Any, ...] = ()
        self._columns: dict[str, str] = {}
        self._texts: list[tuple[str, str]] = []
        self._others: list[str] = []
        self._loose: list[str] = []
        self._rivals: list[str] = []

    def convert(
        self, line: int, row: Mapping[str, Any], image: str | None = None
    ) -> dict[str, Any]:
        """The fields of one row.

        Args:
            line: Its place, for the id.
            row: Column to value.
            image: The image's name, where the row holds the image itself.

        Raises:
            ValueError: A column is missing, or holds what does not fit.
        """
        header = tuple(row)
        if header != self._header:
            self._read_header(header)
        fields: dict[str, Any] = {}
        for field, column in self._texts:
            value = row[column]
            if type(value) is str:
                value = value.strip()
                if self.is_text and (value in _GAPS or value[-2:] == ".0"):
                    value = self._spelled(field, value)
                fields[field] = value
            else:
                fields[field] = "" if is_empty(value) else text_of(field, value)
        for name in self._rivals:
            rival = text_of(name, row[name])
            if rival and rival not in _GAPS and rival.lower() != fields["answer"].lower():
                column = self._columns["answer"]
                raise ValueError(f"which is the gold answer, column {column!r} or {name!r}?")
        if image is not None:
            fields["image"] = image
        if not fields.get("id"):
            fields["id"] = f"{self.name}-{line}"
            if "id" in self._columns:
                self.notes.add(WITHOUT_ID, self.name)
        fields["answer_type"] = answer_type(fields)
        if fields.get("caption") and not fields.get("question"):
            fields |= caption_fields("", fields["caption"])
        if not fields.get("split"):
            fields["split"] = self._loose_split(row) or self.split
        if not fields.get("source"):
            fields["source"] = self.source
        self._add_nested(fields, row)
        return fields

    def _read_header(self, header: tuple[Any, ...]) -> None:
        self._columns = find_columns(header)
        if missing := missing_columns(self._columns):
            names = ", ".join(str(name) for name in header if name)
            raise ValueError(f"the columns are {names}; missing: {missing}")
        taken = set(self._columns.values())
        self._others = [name for name in header if isinstance(name, str) and name not in taken]
        nested = ("boxes", "tags", "queue")
        self._texts = [(f, c) for f, c in self._columns.items() if f not in nested]
        if not self.is_text:
            self._texts = [(f, c) for f, c in self._texts if f != "image"]
        gold = NAMES["answer"]
        self._rivals = [name for name in self._others if plain_column(name) in gold]
        self._loose = [name for name in self._others if plain_column(name) in _LOOSE_SPLITS]
        self._header = header

    def _spelled(self, field: str, text: str) -> str:
        """What a cell of a text table means that spells a gap, or a whole number as a float does."""
        if text in _GAPS:
            self.notes.add(GAPS, f"{field} {text}")
            return ""
        return whole_number(text) if field in ("answer", "id") else text

    def _loose_split(self, row: Mapping[str, Any]) -> str:
        for name in self._loose:
            word = str(row[name]).strip().lower()
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
        return ""

    def _add_nested(self, fields: dict[str, Any], row: Mapping[str, Any]) -> None:
        """Add the fields that are not a single text: queue, boxes and tags."""
        if "queue" in self._columns:
            queue = row[self._columns["queue"]]
            if isinstance(queue, str):
                queue = [text.strip() for text in queue.split(QUEUE_SEPARATOR) if text.strip()]
            fields["queue"] = queue
        if "boxes" in self._columns:
            fields["boxes"] = self._decoded("boxes", row)
        tags = self._decoded("tags", row) if "tags" in self._columns else None
        if isinstance(tags, dict):  # parquet gives every row the keys of all
            tags = {
                key: text_of("tags", value) for key, value in tags.items() if not is_empty(value)
            }
        for name in self._others:
            value = row[name]
            if is_empty(value):
                continue
            if not isinstance(value, str | int | float):
                self.notes.add(NOT_CARRIED, name)
                continue
            tags = {} if tags is None else tags
            if isinstance(tags, dict):
                tags.setdefault(name, _tag(name, value))
            if not self.is_text:
                self.notes.add(AS_TAGS, name)
        fields["tags"] = tags

    def _decoded(self, field: str, row: Mapping[str, Any]) -> Any:
        value = row.get(self._columns.get(field, ""))
        if not isinstance(value, str):
            return None if is_empty(value) else value
        if not value.strip() or value.strip() in _GAPS:
            return None
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"field {field!r} must be JSON, got {value[:60]!r}") from None


def _tag(name: str, value: Any) -> str:
    return str(value) if isinstance(value, bool) else text_of(name, value)
