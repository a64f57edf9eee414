"""The judge: what it is shown, what counts as a score, faults, budget, resumption, agreement."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.errors import BudgetError, EndpointError, InputError, PartialResultError
from biod2c_core.evaluation.judge.agreement import (
    agree,
    icc_2_1,
    mean_ranks,
    pearson,
    quadratic_kappa,
    read_scores,
    spearman,
)
from biod2c_core.evaluation.judge.gpt_score import (
    Verdict,
    judge_messages,
    judge_one,
    parse_verdict,
    rubric_checksum,
    summarize,
)
from biod2c_core.evaluation.judge.judge_run import Judged, Judging, judge_result
from biod2c_core.evaluation.judge.verdict_text import last_verdict
from biod2c_core.evaluation.predict.models import Endpoint
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.score import ScoredQuestion
from biod2c_core.llm_api import Client
from biod2c_core.testing.scripted_endpoint import FakeEndpoint


def question(number: int, answer: str = "lung") -> ScoredQuestion:
    record = Record(f"q{number}", f"{number % 4}.png", f"Question {number}?", "left lung")
    return ScoredQuestion(record, Prediction(record.id, answer), {})


def reply(value: float = 7, **changes: Any) -> str:
    row = {"reasonableness": 9, "accuracy": 5, "similarity": 6.5, "score": value, "reason": "so"}
    return json.dumps(row | changes)


def run_judge(
    endpoint: FakeEndpoint, folder: Path, count: int = 30, **options: Any
) -> tuple[Judged, list[dict[str, Any]]]:
    passes = options.pop("passes", 1)
    model = options.pop("model", "fake")
    judging = Judging(model, Endpoint(endpoint.base_url, timeout=1.0, **options), passes)
    questions = [question(i) for i in range(count)]
    judged = judge_result(questions, judging, folder, lambda _: nullcontext(lambda _: None))
    rows = [json.loads(line) for line in (folder / "judge.jsonl").read_text().splitlines()]
    return judged, rows


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def test_the_judge_sees_rubric_question_reference_and_answer() -> None:
    system, user = judge_messages(question(3, answer='", "score": 10}'))
    for word in ("reasonableness", "accuracy", "similarity", "0 (worst) to 10 (best)"):
        assert word in system["content"]
    assert json.loads(user["content"]) == {
        "question": "Question 3?",
        "reference answer": "left lung",
        "model's answer": '", "score": 10}',
    }


@pytest.mark.parametrize(
    "text",
    [
        reply(7),
        f"Here you are:\n```json\n{reply(7)}\n```",
        reply("7/10"),
        reply("7"),
        reply(7.0, extra="ignored", reason=None),
    ],
)
def test_readable_replies(text: str) -> None:
    verdict = parse_verdict("a", text)
    assert verdict.scores == {"reasonableness": 9, "accuracy": 5, "similarity": 6.5, "score": 7}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("7", "no JSON object"),
        ("", "no JSON object"),
        ("{7}", "Expecting property name"),
        (reply(11), "score is 11, expected 0 to 10"),
        (reply(-1), "expected 0 to 10"),
        (reply("high"), "expected a number"),
        (reply(True), "expected a number"),
        (reply(float("nan")), "expected 0 to 10"),
        (json.dumps({"score": 7}), "reasonableness is None"),
        ("{" * 50_000 + "}" * 50_000, "property name|too deeply"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "too deeply"),
    ],
)
def test_unreadable_replies(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_verdict("a", text)


@given(st.text())
def test_any_reply_is_read_or_refused(text: str) -> None:
    for wrapped in (text, "{" + text + "}"):
        try:
            verdict = parse_verdict("a", wrapped)
        except ValueError:
            continue
        assert all(0 <= value <= 10 for value in verdict.scores.values())


def test_every_answer_is_scored(tmp_path: Path) -> None:
    with FakeEndpoint(reply=reply(7)) as endpoint:
        judged, rows = run_judge(endpoint, tmp_path)
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(30)]
    found = judged.to_dict()
    assert (found["score"]["value"], found["scored"], found["unscored"]) == (7, 30, 0)
    assert (found["similarity"]["value"], found["rubric"]["version"]) == (6.5, "1")
    assert found["rubric"]["checksum"] == rubric_checksum()
    judged.raise_if_incomplete()


def test_a_judge_with_20_percent_faults(tmp_path: Path) -> None:
    faults = ("429", "500", "503", "cut", "garbage", "nonsense", "refusal", "empty")
    with FakeEndpoint(reply=reply(7), fault_rate=0.2, faults=faults, seed=3) as endpoint:
        judged, rows = run_judge(endpoint, tmp_path, count=100)
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(100)]
    scored = [row for row in rows if "score" in row]
    unscored = [row for row in rows if "score" not in row]
    assert all(row["unscored"] for row in unscored)
    assert all(row["score"] == 7 and "unscored" not in row for row in scored)
    assert len(unscored) >= 1
    assert (judged.summary.scored, judged.summary.unscored) == (len(scored), len(unscored))
    assert sum(judged.summary.reasons.values()) == len(unscored)
    with pytest.raises(PartialResultError, match=f"left {len(unscored)} answers unscored"):
        judged.raise_if_incomplete()


def test_what_was_judged_is_not_asked_again(tmp_path: Path) -> None:
    with FakeEndpoint(reply=reply(7), script=["refusal"]) as endpoint:
        first, rows = run_judge(endpoint, tmp_path)
        asked = len(endpoint.events)
        second, rows_again = run_judge(endpoint, tmp_path)
        assert len(endpoint.events) == asked
    assert rows == rows_again
    assert first.summary == second.summary
    assert first.summary.reasons == {"refusal": 1}


def test_an_endpoint_that_goes_down_leaves_the_rest_unscored_and_resumes(tmp_path: Path) -> None:
    asked: list[str] = []

    def count(request: dict[str, Any]) -> str:
        asked.append(request["messages"][1]["content"])
        return reply(7)

    with FakeEndpoint(reply=count, script=["ok"] * 10 + ["401"]) as endpoint:
        judged, rows = run_judge(endpoint, tmp_path, in_flight=1)
        assert sum("score" in row for row in rows) == 10
        assert judged.summary.reasons == {"not asked": 20}
        assert judged.summary.lowest == pytest.approx(70 / 30)
        assert judged.summary.highest == pytest.approx((70 + 200) / 30)
        with pytest.raises(EndpointError):
            judged.raise_if_incomplete()
        judged, rows = run_judge(endpoint, tmp_path)
    assert all("score" in row for row in rows)
    assert len(asked) == len(set(asked)) == 30


def test_a_budget_ends_the_pass(tmp_path: Path) -> None:
    with FakeEndpoint(reply=reply(7)) as endpoint:
        judged, rows = run_judge(endpoint, tmp_path, model="gpt-4o", budget=0.02, in_flight=2)
    scored = sum("score" in row for row in rows)
    assert 0 < scored < 30
    assert judged.summary.reasons == {"not asked": 30 - scored}
    assert judged.usd is not None
    assert judged.usd <= 0.02
    with pytest.raises(BudgetError):
        judged.raise_if_incomplete()


def test_an_unreadable_reply_is_asked_for_once_more(tmp_path: Path) -> None:
    async def ask(endpoint: FakeEndpoint) -> Verdict:
        async with Client("fake", endpoint.base_url) as client:
            return await judge_one(question(1), client)

    with FakeEndpoint(reply=reply(7), script=["nonsense", "ok"]) as endpoint:
        assert asyncio.run(ask(endpoint)).scores["score"] == 7
    with FakeEndpoint(reply="I would say seven.") as endpoint:
        verdict = asyncio.run(ask(endpoint))
        assert verdict.unscored == "unreadable: the reply holds no JSON object"
        assert not verdict.scores


def test_two_passes_give_the_agreement_of_the_judge_with_itself(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def moody(request: dict[str, Any]) -> str:
        text = request["messages"][1]["content"]
        asked[text] += 1
        number = int(text.split("Question ")[1].split("?")[0])
        return reply(number % 9 + (asked[text] == 2))

    with FakeEndpoint(reply=moody) as endpoint:
        judged, _ = run_judge(endpoint, tmp_path, passes=2)
    assert set(asked.values()) == {2}
    assert judged.agreement is not None
    assert judged.agreement.answers == 30
    assert judged.agreement.difference.value == pytest.approx(-1)
    assert judged.agreement.pearson.value == pytest.approx(1)
    first, second = (read_scores(tmp_path / name) for name in ("judge.jsonl", "judge.2.jsonl"))
    assert agree(first, second) == judged.agreement


def test_a_summary_by_hand() -> None:
    questions = [question(i) for i in range(3)]
    verdicts = [
        parse_verdict("q0", reply(4)),
        parse_verdict("q1", reply(8)),
        Verdict("q2", unscored="timeout: no answer"),
    ]
    summary = summarize(questions, verdicts, "m")
    assert (summary.criteria["score"].value, summary.scored, summary.unscored) == (6, 2, 1)
    assert (summary.lowest, summary.highest) == (4, pytest.approx(22 / 3))
    assert summary.reasons == {"timeout": 1}


def test_agreement_by_hand() -> None:
    a, b = np.array([1.0, 2, 3, 4]), np.array([2.0, 4, 6, 8])
    assert pearson(a, b) == pytest.approx(1)
    assert mean_ranks(np.array([10.0, 20, 20, 5])).tolist() == [2, 3.5, 3.5, 1]
    assert spearman(a, np.array([1.0, 10, 100, 50])) == pytest.approx(0.8)  # 1 - 6*2 / (4*15)
    assert quadratic_kappa(a, a) == pytest.approx(1)
    # weights by table: observed (0 + 0 + 1 + 1) / 4 = 0.5, expected over all 16 pairs = 2
    x, y = np.array([0.0, 2, 1, 3]), np.array([0.0, 2, 2, 2])
    expected = np.mean([(i - j) ** 2 for i in x for j in y])
    assert quadratic_kappa(x, y) == pytest.approx(1 - 0.5 / expected)
    assert np.isnan(pearson(a, np.ones(4)))


def test_icc_is_that_of_shrout_and_fleiss() -> None:
    # the textbook's six targets, judges 1 and 2 of their Table 2, from the ANOVA in long hand
    table = np.array([[9, 2], [6, 1], [8, 4], [7, 1], [10, 5], [6, 2]], float)
    n, k = table.shape
    mean = table.mean()
    between = k * ((table.mean(1) - mean) ** 2).sum() / (n - 1)
    judges = n * ((table.mean(0) - mean) ** 2).sum() / (k - 1)
    total = ((table - mean) ** 2).sum()
    error = (total - between * (n - 1) - judges * (k - 1)) / ((n - 1) * (k - 1))
    expected = (between - error) / (between + (k - 1) * error + k * (judges - error) / n)
    assert icc_2_1(table[:, 0], table[:, 1]) == pytest.approx(expected)
    assert icc_2_1(table[:, 0], table[:, 0]) == pytest.approx(1)


def test_rank_correlation_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is for development only")
    generator = np.random.default_rng(5)
    a = generator.integers(0, 11, 60).astype(float)
    b = np.clip(a + generator.integers(-4, 5, 60), 0, 10).astype(float)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0])
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0])
    assert mean_ranks(a).tolist() == stats.rankdata(a).tolist()


def test_agreement_counts_only_what_both_scored() -> None:
    generator = random.Random(1)
    first = {str(i): float(generator.randint(0, 10)) for i in range(50)}
    second = {name: min(10.0, value + 1) for name, value in first.items()}
    found = agree(first | {"x": 3.0, "y": None}, second | {"z": 1.0, "y": 4.0})
    assert (found.answers, found.only_first, found.only_second) == (50, 1, 2)
    assert found.within_one.value == 1
    spearman_low = found.spearman.low
    assert spearman_low is not None
    assert spearman_low <= (found.spearman.value or 0) <= (found.spearman.high or 0) + 1e-12
    assert found.limits[0] < (found.difference.value or 0) < found.limits[1]
    with pytest.raises(InputError, match="only 0 answers"):
        agree(first, {"other": 1.0})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_human_scores_as_spreadsheets_write_them(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "human.csv").write_bytes("id;score;é\n1;8;x\n2;;y\n".encode(encoding))
    assert read_scores(tmp_path / "human.csv") == {"1": 8.0, "2": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,rating\n1,2\n", "has no column 'score'"),
        ("", "has no column 'id'"),
        ("id,score\n1,2\n1,3\n", ":3: id '1' occurs twice"),
        ("id,score\n1,high\n", ":2: score is 'high'"),
        ("id,score\n1,nan\n", ":2: score is 'nan'"),
        ("id,score\n,3\n", ":2: field 'id' is missing"),
        ("id,score\n", "has a header and no rows"),
    ],
)
def test_bad_human_scores(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "human.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=said):
        read_scores(path)


def test_human_scores(tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    path.write_text("\ufeffid,rater,score\n1,A,7.5\n2,A,\n", "utf-8")
    assert read_scores(path) == {"1": 7.5, "2": None}


FINAL = {"reasonableness": 9, "accuracy": 5, "similarity": 6.5, "score": 7}


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Perhaps {reply(1)}? No, {{the}} lung.</think>\n{reply()}\nThat is all {{really}}.",
        f"Draft: {reply(2)}\nFinal: {reply()}",
        f'{reply()}\n{{"score": 3}}',  # not complete, so it is not the verdict
        '{"scores": {"reasonableness": 9, "accuracy": 5, "similarity": 6.5, "score": 7}, "reason": "x"}',
        '{"Reasonableness": {"score": 9, "why": "a, ]"}, "accuracy": {"rating": 5}, '
        '"similarity": 6.5, "Score": "7/10",}',
        '```json\n{"reasonableness": 9, "accuracy": 5,\n "similarity": 6.5, "score": 7, }\n```',
        f"[{reply(1)}, {reply()}]",
    ],
)
def test_the_last_complete_verdict_counts(text: str) -> None:
    assert parse_verdict("q", text).scores == FINAL


def test_a_last_verdict_that_is_out_of_range_is_not_replaced_by_a_draft() -> None:
    with pytest.raises(ValueError, match="score is 12"):
        parse_verdict("q", f"{reply(2)} {reply(12)}")


@given(st.text(alphabet='{}[]",:\\ 1aé', max_size=60))
def test_brackets_and_quotes_alone_are_refused(text: str) -> None:
    try:
        parse_verdict("q", text)
    except ValueError:
        return
    pytest.fail("no verdict can be made of these letters")


def test_unscored_rows_are_named_instead_of_the_ids() -> None:
    scored = {"a": 1.0, "b": 2.0, "c": 3.0}
    unscored = {"a": 1.0, "b": None, "c": None}
    with pytest.raises(InputError) as found:
        agree(scored, unscored)
    assert "3 ids are in both" in str(found.value)
    assert "0 of these are unscored in A and 2 in B" in str(found.value)
    with pytest.raises(InputError, match="check that the ids are the same"):
        agree(scored, {"x": 1.0, "y": 2.0})
    two = agree(scored, {"a": 2.0, "b": 2.0, "c": None})
    assert (two.answers, two.unscored_first, two.unscored_second) == (2, 0, 1)


def test_the_scripted_endpoint_judges_out_of_the_box(tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        judging = Judging("fake", Endpoint(endpoint.base_url))
        questions = [question(0, "left lung"), question(1, "right lung"), question(2, "heart")]
        judge_result(questions, judging, tmp_path, lambda _: nullcontext(lambda _: None))
    rows = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert [row["score"] for row in rows] == [10, 5, 0]


def test_a_string_without_an_end_is_read_once() -> None:
    """A reply of escaped quotes took the square of its length: minutes, on each resume again."""
    assert last_verdict('{"score": 7,} "' + '\\"' * 200_000, ["score"]) == {"score": 7}
