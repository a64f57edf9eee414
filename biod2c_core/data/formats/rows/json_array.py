"""Read a JSON array one element at a time, so that its length does not matter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from biod2c_core.data.records import NOT_A_NUMBER, UnfitJSONError, bom_encoding, check_repeated
from biod2c_core.errors import InputError, RecordError

CHUNK = 1 << 20
MAX_ELEMENT = 16 << 20
_BLANKS = re.compile(r"[ \t\r\n]*")
_AFTER_VALUE = tuple(" \t\r\n,]")


def iter_json_array(path: Path) -> Iterator[tuple[int, Any]]:
    """Decode the elements of a JSON array from a file, in bounded memory.

    Yields:
        The line on which the element starts, and its value; a ``ValueError`` for an element with NaN
        or Infinity in it, which JSON does not have.

    Raises:
        InputError: The file cannot be opened.
        RecordError: The text is not an array, an element is malformed or longer than 16 million
            characters, or the file is cut off. Where the next element starts after a syntax error
            is unknown, so nothing is skipped.
    """
    try:
        with path.open("rb") as start:
            encoding = bom_encoding(start.read(4)) or "utf-8"
        file = path.open(encoding=encoding)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    with file:
        reader = _Reader(path, file)
        try:
            yield from reader.elements()
        except UnicodeError as error:
            raise reader.error("not UTF-8 text") from error


class _Reader:
    """A window on the text: what is read, and how far it is used up."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self.file = file
        self.text = ""
        self.at = 0
        self._line = 1
        self._counted = 0
        self._has_constant = False
        self._decoder = json.JSONDecoder(parse_constant=self._note_constant)

    def _note_constant(self, _: str) -> None:
        self._has_constant = True

    def elements(self) -> Iterator[tuple[int, Any]]:
        self._expect("[", "is not a JSON array")
        if self._peek() == "]":
            return
        separator = ","
        while separator == ",":
            self._peek()
            line = self._count_lines()
            yield line, self._value()
            separator = self._expect(",]", "lacks a ',' or ']' after an element")

    def error(self, problem: str) -> RecordError:
        remedy = "Copy or download the file again, or convert it to one JSON object a line."
        return RecordError(self.path, self._count_lines(), problem, remedy)

    def _value(self) -> Any:
        """Decode the value at the window's start; a value cut by its end is read on."""
        while True:
            self._has_constant = False
            try:
                value, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    raise self.error("the element is malformed or cut off") from error
                continue
            except (ValueError, RecursionError) as error:  # endless number, endless nesting
                raise self.error("the element is nested too deeply or too long") from error
            # a number goes on in the next window: "1" may be "12", and "1." may be "1.5"
            if self.text[end : end + 1] in _AFTER_VALUE or not self._read_on():
                start, self.at = self.at, end
                if self._has_constant:
                    return UnfitJSONError(NOT_A_NUMBER, value)
                try:
                    check_repeated(self.text[start:end], value)
                except ValueError as error:
                    return error
                return value

    def _read_on(self) -> bool:
        return len(self.text) - self.at <= MAX_ELEMENT and self._grow()

    def _expect(self, characters: str, problem: str) -> str:
        found = self._peek()
        if not found or found not in characters:
            raise self.error(f"the file {problem}" if found else "the file is cut off")
        self.at += 1
        return found

    def _peek(self) -> str:
        """Skip blanks and look at the next character; empty at the end of the file."""
        while True:
            blanks = _BLANKS.match(self.text, self.at)
            self.at = blanks.end() if blanks else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._grow():
                return ""

    def _grow(self) -> bool:
        """Read at least as much again as is pending, so that retries cost linear time."""
        more = self.file.read(max(CHUNK, len(self.text) - self.at))
        self._count_lines()
        self.text = self.text[self.at :] + more
        self.at = self._counted = 0
        return bool(more)

    def _count_lines(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
