"""The ablation's tables: means over seeds, and differences question by question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ablation import pointing_records, print_scores, seeds_mean, spread

from biod2c_core.data.records import Record

RECORDS = [
    Record("a", "1.png", "Is it left?", "yes", answer_type="CLOSED"),
    Record("b", "2.png", "Is it right?", "no", answer_type="CLOSED"),
    Record("c", "2.png", "Which organ?", "the lung", answer_type="OPEN"),
    Record("d", "3.png", "What plane?", "axial", answer_type="OPEN"),
]


def answered(folder: Path, *answers: str) -> Path:
    """A trained model's folder with its predictions."""
    path = folder / "scores" / "test" / "predictions.jsonl"
    path.parent.mkdir(parents=True)
    rows = [{"id": r.id, "answer": a} for r, a in zip(RECORDS, answers, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_question_counts_with_its_mean_over_seeds(tmp_path: Path) -> None:
    one = answered(tmp_path / "0", "yes", "no", "the lung", "axial")
    two = answered(tmp_path / "1", "yes", "yes", "the heart", "axial")
    both = seeds_mean([one, two], RECORDS, "test")
    closed = [q.values["closed_accuracy"] for q in both.questions[:2]]
    assert closed == [1, 0.5]
    assert both.mean("open_accuracy").value == 0.75
    assert spread([0.5, 0.75]) == "0.625 (0.500-0.750)"


def test_the_tables_name_each_arm_and_its_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {
        "full": [answered(tmp_path / "0", "yes", "no", "the lung", "axial")],
        "no_sem": [answered(tmp_path / "1", "no", "no", "the lung", "axial")],
    }
    print_scores("title", "test", RECORDS, arms)
    rows = capsys.readouterr().out.splitlines()
    cells = [row.split(" | ") for row in rows if row.startswith("| without L_sem")]
    assert cells[0][1] == "0.500 (0.500-0.500)"
    assert cells[1][1].startswith("-0.500 (-1.000 to +0.000)")
    assert not any(row.startswith("| full | +") for row in rows)


def test_a_place_is_pointed_at_once_a_picture() -> None:
    def asked(image: str, question: str, task: str, **tags: str) -> Record:
        box = ((0.1, 0.1, 0.3, 0.4),)
        tags = {"task": task, **tags}
        return Record(image, image, question, "left", answer_type="OPEN", boxes=box, tags=tags)

    records = [
        asked("1.png", "Where is the polyp?", "quadrant"),
        asked("1.png", "In which quadrant is the polyp?", "quadrant"),
        asked("2.png", "Where is the platelet?", "quadrant"),  # too small to be pointed at
        asked("3.png", "Where does the arrow point?", "arrow_where", arrows="1"),
        asked("4.png", "Where does the red arrow point?", "arrow_where", arrows="2"),
        asked("5.png", "On which side is the polyp?", "side"),
    ]
    found = pointing_records(records)
    assert {thing: [r.image for r in own] for thing, own in found.items()} == {
        "polyp": ["1.png"],
        "drawn arrow": ["3.png"],
    }
