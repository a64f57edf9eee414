"""The other conventions: the worked examples of the decisions, and LLaVA-Med's own numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from varied_predictions import PLAIN_GOLDS, vary

from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.metrics import covered_share, multiset_overlap, nearest
from biod2c_core.evaluation.score.profiles import get_profile, profile_names
from biod2c_core.evaluation.score.score import Evaluation, describe_split, score

EXPECTED = json.loads((Path(__file__).parent / "expected" / "llava_med.json").read_text("utf-8"))
LLAVA_MED_COLUMNS = {
    "exact match score": "open_exact",
    "f1 score": "open_f1",
    "recall": "open_recall_by_type",
    "bleu_score_1": "open_bleu_1",
    "yes/no accuracy": "closed_accuracy_2023",
}


def evaluate(
    profile: str, golds: Sequence[str], answers: Sequence[str], types: Sequence[str]
) -> Evaluation:
    records = [
        Record(str(i), "x.png", "?", gold, answer_type=kind)
        for i, (gold, kind) in enumerate(zip(golds, types, strict=True))
    ]
    predictions = {str(i): Prediction(str(i), text) for i, text in enumerate(answers)}
    return score(records, predictions, get_profile(profile))


def assert_equals_llava_med(evaluation: Evaluation, expected: dict[str, float]) -> None:
    for theirs, ours in LLAVA_MED_COLUMNS.items():
        assert evaluation.mean(ours).value == pytest.approx(expected[theirs], abs=1e-9), theirs


def test_equals_llava_med_on_written_answers() -> None:
    golds = PLAIN_GOLDS * 23
    types = [("CLOSED", "OPEN")[i % 2] for i in range(len(golds))]
    assert_equals_llava_med(evaluate("llava-med", golds, vary(golds), types), EXPECTED["plain"])


@pytest.mark.real_data
def test_equals_llava_med_on_vqa_rad(data_root: Path) -> None:
    rows = json.loads((data_root / "vqa_rad" / "testset.json").read_text("utf-8"))
    golds = [str(row["answer"]).strip() for row in rows]
    types = [row["answer_type"].strip() for row in rows]
    assert_equals_llava_med(evaluate("llava-med", golds, vary(golds), types), EXPECTED["vqa_rad"])


# gold, prediction, answer type, then what each convention says
WORKED = [
    ("Lung", "The lung.", "OPEN", 1, ("open_recall", 1), 0, 0),
    ("Lung, Spinal Cord", "Lung", "OPEN", 0, ("open_recall", 1 / 3), 0, 0),
    ("2", "two", "OPEN", 1, ("open_recall", 1), 0, 0),
    ("X-Ray", "x-ray", "OPEN", 1, ("open_recall", 1), 0, 1),
    ("No", "abnormal", "CLOSED", 0, ("closed_accuracy_by_type", 1), 0, 0),
    ("Lung", "Lung", "CLOSED", 1, ("closed_accuracy_by_type", 0), 1, 1),
]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("gold", "prediction", "kind", "multimedeval", "llava_med", "pmc_vqa", "exact"), WORKED
)
def test_worked_examples(
    data_root: Path,
    gold: str,
    prediction: str,
    kind: str,
    multimedeval: int,
    llava_med: tuple[str, float],
    pmc_vqa: int,
    exact: int,
) -> None:
    records = read_records(data_root / "slake_text", split="test")
    record = Record("worked", "x.png", "?", gold, answer_type=kind)

    def values(profile: str) -> dict[str, float]:
        return get_profile(profile).prepare([*records, record])(record, prediction)

    by_type = f"{kind.lower()}_accuracy_by_type"
    assert values("multimedeval")[by_type] == multimedeval
    assert values("llava-med")[llava_med[0]] == pytest.approx(llava_med[1])
    assert values("pmc-vqa")[by_type] == pmc_vqa
    assert values("exact")[by_type] == values("exact")["exact_match"] == exact
    counted = "closed_accuracy" if gold == "No" else "open_accuracy"
    assert {"closed_accuracy", "open_accuracy"} & set(values("multimedeval")) == {counted}


@pytest.mark.real_data
def test_counts_of_the_test_sets(data_root: Path) -> None:
    slake = describe_split(read_records(data_root / "slake_text", split="test"))
    assert (slake["questions"], slake["open_by_type"], slake["closed_by_type"]) == (1061, 645, 416)
    assert (slake["open_by_answer"], slake["closed_by_answer"]) == (706, 355)
    rad = describe_split(read_records(data_root / "vqa_rad", split="test"))
    assert (rad["questions"], rad["open_by_type"], rad["closed_by_type"]) == (451, 179, 272)
    assert (rad["open_by_answer"], rad["closed_by_answer"]) == (200, 251)


def test_nearest_label_by_hand() -> None:
    # difflib's ratio is 2 * matches / total length: "Left Lung" .63, "Lung" .62, "Liver" .27
    assert nearest(["Liver", "Lung", "Left Lung"], "The lung.") == "Left Lung"
    assert nearest(["xy", "zw"], "abc") is None
    assert nearest(["ab", "ab "], "") is None
    assert nearest(["abX", "abY"], "abZ") == "abX"


def test_pmc_vqa_compares_a_multiple_choice_record_with_its_choices() -> None:
    tags = {"choice_a": "Liver", "choice_b": "Left lung", "choice_c": "Heart", "choice_d": "A"}
    record = Record("1", "x.png", "?", "Left lung", tags=tags)
    rule = get_profile("pmc-vqa").prepare([record, Record("2", "x.png", "?", "the lung")])
    assert rule(record, "the lung") == {"choice_accuracy": 1}
    for right in ("B", " b. ", "(B)", "B: the liver"):
        assert rule(record, right) == {"choice_accuracy": 1}
    assert rule(record, "A") == rule(record, "liver") == rule(record, "") == {"choice_accuracy": 0}


def test_the_released_llava_med_column_leaves_out_wrong_answers_with_yes_or_no() -> None:
    answers = ["yes", "no", "no", "maybe"]
    result = evaluate("llava-med", ["yes"] * 4, answers, ["CLOSED"] * 4)
    assert result.mean("closed_accuracy_by_type").value == pytest.approx(1 / 4)
    assert result.mean("closed_accuracy_2023").value == pytest.approx(1 / 2)


def test_repeated_words_by_hand() -> None:
    # "lung" is found and counts twice, as predicted; "left" is missing once: recall 2 / 3
    f1, precision, recall = multiset_overlap(["left", "lung"], ["lung", "lung", "heart"])
    assert (precision, recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert f1 == pytest.approx(2 / 3)
    assert multiset_overlap([], ["a"]) == multiset_overlap(["a"], []) == (0, 0, 0)
    assert covered_share(["a", "a", "b"], ["a", "b", "b", "c"]) == pytest.approx(2 / 4)
    assert covered_share(["a"], []) == 0


def test_every_profile_explains_each_of_its_columns() -> None:
    for name in profile_names():
        profile = get_profile(name)
        assert profile.name == name
        assert profile.version
        assert all(metric.label and metric.meaning for metric in profile.metrics)
        assert max(Counter(metric.key for metric in profile.metrics).values()) == 1


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="multimedeval, llava-med, pmc-vqa, exact"):
        get_profile("bleu")
