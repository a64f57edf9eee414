"""The streaming array reader agrees with json.load wherever the windows happen to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biod2c_core.data.formats.rows import json_array
from biod2c_core.data.formats.rows.json_array import iter_json_array
from biod2c_core.errors import RecordError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    values=st.lists(VALUES, max_size=8),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_array_in_any_window(
    tmp_path: Path, values: list[object], chunk: int, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    path.write_text("\n " + text + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK", chunk)
        assert [value for _, value in iter_json_array(path)] == values


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_have_spoils_its_element(
    constant: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_array, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(f'[{{"a": {constant}}}, 1, {{"a": "NaN"}}, {constant}]')
    first, *others, last = (value for _, value in iter_json_array(tmp_path / "a.json"))
    assert others == [1, {"a": "NaN"}]
    assert "no NaN" in str(first) + str(last)
    assert isinstance(first, ValueError)
    assert isinstance(last, ValueError)


def test_lines_are_where_elements_start(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\ufeff[\n\n{"a":\n1},\n\n 2\n,3]')
    assert list(iter_json_array(path)) == [(3, {"a": 1}), (6, 2), (7, 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: the file is cut off"),
        ('{"a": 1}', "1: the file is not a JSON array"),
        ('[\n{"a": 1},\n{"b"', "3: the element is malformed or cut off"),
        ("[1\n2]", "2: the file lacks a ',' or ']'"),
        ("[1,\n", "2: the element is malformed or cut off"),
        ("[1\n", "2: the file is cut off"),
        ("[nope]", "1: the element is malformed"),
        ("[" * 100_000, "1: the element is nested too deeply"),
        ("[" + "9" * 5000 + "]", "1: the element is nested too deeply or too long"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        list(iter_json_array(path))
    assert f"a.json:{message}" in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'["a", "\xff"]')
    with pytest.raises(RecordError, match="not UTF-8"):
        list(iter_json_array(path))
