"""Results beside the paper's own rows: its marks, its averages, and what does not belong there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biod2c_core.errors import InputError
from biod2c_core.evaluation.report.paper_tables import (
    NamedResult,
    load_result,
    table_1,
    table_2,
    to_json,
)
from biod2c_core.evaluation.report.published import TABLE_1
from biod2c_core.evaluation.report.tables import BEST, SECOND


def result(source: str, value: float, questions: int = 451, **more: Any) -> dict[str, Any]:
    keys = ("closed_accuracy", "open_accuracy", "bleu_1", "token_recall")
    return {
        "profile": {"name": "multimedeval", "version": "1"},
        "data": {"source": source, "split": "test", "questions": questions},
        "predictions": {"model": "mine", "shuffle_seed": None},
        "scores": {key: {"value": value} for key in keys},
        **more,
    }


def named(name: str, value: dict[str, Any]) -> NamedResult:
    return NamedResult(name, Path(f"{name}.json"), value)


def test_the_marks_are_those_that_the_paper_prints() -> None:
    rows = table_1([]).rows
    models = list(TABLE_1)
    # bold and underlined in the paper's Table 1, row by row
    ours, theirs = "BioD2C", "BiMediX2-8B"
    expected = [[theirs, ours], [ours, theirs], [theirs, ours], [ours, theirs]]
    expected += [[ours, theirs], ["RadFM", ours], [theirs, ours], [ours, theirs]]
    found = [
        [
            next(m for m, cell in zip(models, row[2:], strict=True) if cell.mark == mark)
            for mark in (BEST, SECOND)
        ]
        for row in rows[:12]
    ]
    assert found == expected + [[ours, theirs]] * 4


def test_averages_are_recomputed_and_wrong_ones_named() -> None:
    table = table_1([])
    averages = [cell.text for cell in table.rows[-1][2:]]
    assert averages[3:] == ["0.478", "0.634", "0.641"]
    note = next(note for note in table.notes if "prints other averages" in note)
    assert "RadFM 0.453 (recomputed 0.478)" in note
    assert "BiMediX2-8B 0.616 (recomputed 0.634)" in note
    assert "BioD2C" not in note


def test_results_of_one_model_share_a_column() -> None:
    table = table_1(
        [
            named("mine", result("vqa-rad", 0.9)),
            named("mine", result("slake", 0.1, questions=1000)),
            named("other", result("VQA_RAD", 0.2)),
        ]
    )
    assert list(table.columns)[-2:] == ["mine", "other"]
    assert all(column.endswith("(published)") for column in table.columns[2:8])
    assert [(row[-2].text, row[-2].mark) for row in table.rows] == [
        *[("0.100", "")] * 4,
        *[("0.900", BEST)] * 4,
        *[("-", "")] * 5,
    ]
    assert any("mine on slake: 1000 questions" in note for note in table.notes)
    assert not any("other" in note and "not the official" in note for note in table.notes)


def test_table_2() -> None:
    judged = result("biovgq", 0.5, judge={"score": {"value": 8.0}})
    table = table_2([named("a", judged), named("b", result("biovgq", 0.1))])
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts[3] == ["BioD2C (published)", "0.427", "0.494", "0.649", "0.523"]
    assert texts[4] == ["a", "0.500", "0.500", "0.800", "0.600"]
    assert texts[5] == ["b", "0.100", "0.100", "-", "-"]
    # the published averages agree with the printed ones: .491 .463 .380 .523
    assert [row[4] for row in texts[:4]] == ["0.491", "0.463", "0.380", "0.523"]
    assert table.rows[4][4].mark == BEST
    assert table.rows[3][4].mark == SECOND
    assert to_json(table)["rows"] == texts


def test_what_does_not_belong_there() -> None:
    with pytest.raises(InputError, match="about 'pmc-vqa', which Table 1 has not"):
        table_1([named("a", result("pmc-vqa", 0.1))])
    with pytest.raises(InputError, match="two results named 'a'"):
        table_1([named("a", result("slake", 0.1))] * 2)
    with pytest.raises(InputError, match="Table 2 is about 'biovgq'"):
        table_2([named("a", result("slake", 0.1))])


def test_reading_results(tmp_path: Path) -> None:
    path = tmp_path / "run" / "result.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result("slake", 0.1)), "utf-8")
    assert load_result(str(path)).name == load_result(str(path.parent)).name == "mine"
    assert load_result(f"with = sign={path.parent}").name == "with = sign"
    shuffled = result("slake", 0.1, predictions={"model": "mine", "shuffle_seed": 1})
    path.write_text(json.dumps(shuffled), "utf-8")
    assert load_result(str(path)).name == "mine, images shuffled"
    path.write_text(json.dumps(result("slake", 0.1, predictions=None)), "utf-8")
    assert load_result(str(path)).name == "run"
    path.write_text(json.dumps(result("slake", 0.1, profile={"name": "exact"})), "utf-8")
    with pytest.raises(InputError, match="scored by the profile 'exact'"):
        load_result(str(path))
    whole = result("slake", 0.1)
    broken = [{}, {"value": "high"}, {"value": []}, None]
    damaged = [json.dumps(whole | {"scores": {"accuracy": score}}) for score in broken]
    for text in ("[]", "{", "{}", *damaged):
        path.write_text(text, "utf-8")
        with pytest.raises(InputError, match="is not a result of biod2c evaluate"):
            load_result(str(path))
