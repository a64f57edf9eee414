"""What a stranger wrote: JSON and YAML, read within limits, cells of tables. None of it is ever run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20  # of a JSON or YAML file that is read whole
MOST_DEPTH = 100  # of lists and objects inside each other
MOST_NODES = 200_000  # of a YAML file, its aliases written out
LONGEST_NUMBER = 200  # characters of a number in YAML
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what a spreadsheet would compute, quoted or not


def real_path(path: Path) -> Path:
    """The absolute path, links followed; of links that name each other, as far as they lead.

    ``Path.resolve`` raises RuntimeError for those before Python 3.13.
    """
    return Path(os.path.realpath(path))


def escape_formula(text: str) -> str:
    """A text for a CSV that people open: an apostrophe keeps a spreadsheet from running a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """What :func:`escape_formula` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def parse_json(text: str | bytes, most_depth: int = MOST_DEPTH) -> Any:
    """Decode JSON.

    Args:
        text: What to decode; bytes are UTF-8.
        most_depth: Of lists and objects inside each other.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _is_deeper(value, most_depth):
        raise ValueError(f"it is nested more than {most_depth} deep")
    return value


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON file.

    Args:
        path: The file, UTF-8.
        most_bytes: The longest that is read.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no ordinary file, not JSON, too long, or nested too deeply.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no ordinary file")  # a pipe that nobody writes is read for ever
    return parse_json(_read(path, most_bytes))


def read_text(path: Path, most_bytes: int = 2**20) -> str:
    """Read a text file.

    Args:
        path: The file, UTF-8, with or without a byte order mark.
        most_bytes: The longest that is read.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too long or no UTF-8.
    """
    return _read(path, most_bytes).decode("utf-8-sig")


def read_yaml(path: Path, most_bytes: int = 2**20) -> Any:
    """Read a YAML file.

    Args:
        path: The file, UTF-8.
        most_bytes: The longest that is read.

    Raises:
        OSError: It cannot be read.
        yaml.YAMLError: See :func:`parse_yaml`; also where the file is too long or no UTF-8.
    """
    import yaml

    try:
        return parse_yaml(read_text(path, most_bytes))
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error


def parse_yaml(text: str) -> Any:
    """Decode YAML: plain values only, bounded also where aliases multiply.

    Args:
        text: One document.

    Raises:
        yaml.YAMLError: It is not YAML, nested too deeply, or too large with its aliases written out.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _yaml_nodes(node, {}, 0) > MOST_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_NODES:,} values")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, OverflowError, TypeError) as error:  # of dates, numbers and keys
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def _read(path: Path, most_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return data


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for each in level
            if isinstance(each, list | dict)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def _yaml_nodes(node: Any, known: dict[int, int], depth: int) -> int:
    """How many values a node stands for, its aliases written out."""
    import yaml

    if depth > MOST_DEPTH:
        raise yaml.YAMLError(f"it is nested more than {MOST_DEPTH} deep, or an alias holds itself")
    if id(node) in known:
        return known[id(node)]
    count = 1
    if isinstance(node, yaml.MappingNode):
        count += sum(_yaml_nodes(each, known, depth + 1) for pair in node.value for each in pair)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_yaml_nodes(each, known, depth + 1) for each in node.value)
    elif node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
        raise yaml.YAMLError(f"a number has more than {LONGEST_NUMBER} characters")
    known[id(node)] = count
    return count
