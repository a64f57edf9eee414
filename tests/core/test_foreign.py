"""JSON and YAML of strangers: what is honest is read as ever, the rest ends in one error."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.errors import InputError
from biod2c_core.foreign import parse_json, parse_yaml, read_json, read_yaml
from biod2c_core.llm_api import load_price

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@given(PLAIN)
def test_honest_json_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@given(PLAIN)
def test_honest_yaml_is_read_as_by_pyyaml(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 500 + "]" * 500, b"\xff", "{", '{"a": 1'])
def test_other_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases stand for more than"),
        ("a: &a [*a]", "nested more than|holds itself"),
        ("[" * 5000, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested more than 100"),
        ("a: 1" + ":59" * 100_000, "more than 200 characters"),
        ("a: " + "9" * 100_000, "more than 200 characters"),
        ("a: 2001-99-99", "month"),
        ("? [a]\n: b", "unhashable"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_other_yaml_is_a_yaml_error_soon(text: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(yaml.YAMLError, match=message):
        parse_yaml(text)
    assert time.monotonic() - start < 20  # seconds on a busy machine, where it took for ever


def test_anchors_and_merges_still_work() -> None:
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n"
    assert parse_yaml(text) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}] * 2}
    assert parse_yaml("") is None


def test_files_over_the_limit_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('"' + "a" * 100 + '"')
    assert read_json(tmp_path / "a", 102) == "a" * 100
    with pytest.raises(ValueError, match="more than 101 bytes"):
        read_json(tmp_path / "a", 101)
    with pytest.raises(yaml.YAMLError, match="more than 101 bytes"):
        read_yaml(tmp_path / "a", 101)


@pytest.mark.parametrize("table", [LAUGHS, "[" * 5000, "models: {m: {input: 1e300, output: 1}}"])
def test_a_price_table_of_a_stranger_ends_in_one_line(tmp_path: Path, table: str) -> None:
    (tmp_path / "p.yaml").write_text(table)
    with pytest.raises(InputError, match="is malformed") as caught:
        load_price("m", tmp_path / "p.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(ValueError, match="no ordinary file"):
        read_json(tmp_path / "result.json")
