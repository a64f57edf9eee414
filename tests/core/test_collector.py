"""Imports for good: the collector rests while they are made, and never searches them again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from biod2c_core.collector import imports_for_good


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """How many objects the collector leaves alone before; transformers is not imported yet."""
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    yield gc.get_freeze_count()
    gc.unfreeze()


def test_the_collector_rests_and_then_leaves_alone_what_was_imported(
    frozen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with imports_for_good():
        assert not gc.isenabled()
        monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen + 1000


def test_what_is_dropped_after_the_first_import_is_collected(frozen: int) -> None:
    with imports_for_good():
        pass  # nothing heavy was imported
    assert gc.get_freeze_count() == frozen


def test_a_second_time_nothing_is_set_apart(frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    with imports_for_good():
        pass
    assert gc.get_freeze_count() == frozen


def test_the_collector_works_again_after_an_import_that_fails(frozen: int) -> None:
    with pytest.raises(ImportError), imports_for_good():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_switched_off_stays_off(frozen: int) -> None:
    gc.disable()
    try:
        with imports_for_good():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
