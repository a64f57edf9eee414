"""Conventions that rest on a language model: what it is sent, how it is read, what it comes to."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.judge.convention import ConventionVerdicts, ask_convention
from biod2c_core.evaluation.judge.judge_run import Judging
from biod2c_core.evaluation.predict.models import Endpoint
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.profiles.judged import medevalkit_judge, vlmevalkit_judge
from biod2c_core.evaluation.score.score import score
from biod2c_core.testing.scripted_endpoint import FakeEndpoint

# id, gold, answer
ROWS = [
    ("0", "yes", "Yes."),
    ("1", "no", "yes"),
    ("2", "left lung", r"so \boxed{left lung}"),
    ("3", "left lung", "heart"),
    ("4", "{answer}", "{question}"),
]
RECORDS = [
    Record(name, f"{name}.png", "What?", gold, answer_type="CLOSED" if i < 2 else "OPEN")
    for i, (name, gold, _) in enumerate(ROWS)
]
PREDICTIONS = {name: Prediction(name, said) for name, _, said in ROWS}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def ask(name: str, endpoint: FakeEndpoint, folder: Path) -> ConventionVerdicts:
    return ask_convention(
        RECORDS,
        PREDICTIONS,
        get_profile(name),
        Judging("fake", Endpoint(endpoint.base_url)),
        folder,
        lambda _: nullcontext(lambda _: None),
    )


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("<think>same</think><judge>0</judge>", 1),
        ("<judge>1</judge>", 0),
        ("<judge> 0 </judge>", 1),
        ("0", 1),
        ("<judge>0</judge> or <judge>0</judge>", 0),
        ("<judge>0", 0),
        ("<judge>correct</judge>", 0),
        ("", 0),
    ],
)
def test_medevalkit_reads_0_as_right(reply: str, verdict: float) -> None:
    assert medevalkit_judge.read_reply(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("x [Begin Correctness] Yes. [End Correctness] no", 1),
        ("[Begin Correctness]no[End Correctness]", 0),
        ("[Begin Correctness]yes and no[End Correctness]", None),
        ("[Begin Correctness]?[End Correctness]", None),
        ("yes", None),
    ],
)
def test_vlmevalkit_reads_one_word_between_its_marks(reply: str, verdict: float | None) -> None:
    assert vlmevalkit_judge.read_reply(reply) == verdict


def test_medevalkit_asks_about_open_questions_and_resumes(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(request: dict[str, Any]) -> str:
        asked.append(request["messages"][0]["content"])
        return (
            "<judge>0</judge>" if "answer: left lung\n" in asked[-1].split("Standard")[-1] else "1"
        )

    with FakeEndpoint(reply=reply) as endpoint:
        first = ask("medevalkit-judge", endpoint, tmp_path)
        again = ask("medevalkit-judge", endpoint, tmp_path)
    assert len(asked) == 3
    assert first.verdicts == again.verdicts == {"2": 1, "3": 1, "4": 0}
    sent = next(text for text in asked if "boxed" not in text and "answer: left lung" in text)
    assert "User's answer: left lung" in "".join(asked)  # taken out of its box
    assert sent.startswith("Decide whether")
    literal = next(text for text in asked if "{question}" in text)
    assert "Standard answer: {answer}\nUser's answer: {question}\n" in literal
    profile = get_profile("medevalkit-judge")
    found = score(RECORDS, PREDICTIONS, profile, verdicts=first.verdicts, judged_by=first.to_dict())
    assert found.mean("closed_accuracy").value == 1 / 2
    assert found.mean("open_accuracy").value == pytest.approx(2 / 3)
    assert found.mean("accuracy").value == pytest.approx(3 / 5)
    judge = found.header()["profile"]["judge"]
    assert (judge["model"], judge["asked"], judge["undecided"]) == ("fake", 3, 0)
    assert judge["rubric"]["text"] == medevalkit_judge.RUBRIC
    rows = (tmp_path / "medevalkit-judge.verdicts.jsonl").read_text().splitlines()
    assert json.loads(rows[0]) == {"id": "2", "verdict": 1.0, "decided": True}


def test_vlmevalkit_asks_three_times_before_an_answer_is_wrong(tmp_path: Path) -> None:
    temperatures: list[float] = []

    def reply(request: dict[str, Any]) -> str:
        temperatures.append(request["temperature"])
        return "well"

    with FakeEndpoint(reply=reply) as endpoint:
        found = ask("vlmevalkit-judge", endpoint, tmp_path)
    assert sorted(temperatures) == [0.0] * 5 + [0.5] * 5 + [1.0] * 5
    assert found.undecided == frozenset("01234")
    assert set(found.verdicts.values()) == {0}


def test_the_scripted_endpoint_judges_for_conventions(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        assert ask("medevalkit-judge", endpoint, tmp_path).verdicts == {"2": 1, "3": 0, "4": 0}
        found = ask("vlmevalkit-judge", endpoint, tmp_path)
    assert not found.undecided
    assert found.verdicts["0"] == 1
    assert found.verdicts["1"] == 0


def test_columns_that_need_the_judge_are_left_out_without_it() -> None:
    found = score(RECORDS, PREDICTIONS, get_profile("medevalkit-judge"))
    assert found.mean("closed_accuracy").count == 2
    assert found.mean("open_accuracy").count == 0
    assert found.mean("accuracy").count == 2


def test_a_profile_without_a_judge_asks_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="asks no judge"):
        ask_convention(
            *(RECORDS, PREDICTIONS, get_profile("exact"), Judging("fake", Endpoint())),
            *(tmp_path, lambda _: nullcontext(lambda _: None)),
        )
