"""The profile of the paper's table against the package itself, and against decisions.md."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from varied_predictions import PLAIN_GOLDS, vary

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.bleu import clipped, nltk_bleu, torchmetrics_bleu
from biod2c_core.evaluation.score.metrics import rouge_1, set_f1, set_recall
from biod2c_core.evaluation.score.normalize import vqa_clean
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import Evaluation, score

EXPECTED = json.loads((Path(__file__).parent / "expected" / "multimedeval.json").read_text("utf-8"))
COLUMNS = {
    "bleu": "bleu_1",
    "F1": "token_f1",
    "recall": "token_recall",
    "closedQuestionsAccuracy": "closed_accuracy",
    "openQuestionsRecall": "open_recall",
    "openQuestionsAccuracy": "open_accuracy",
}


def evaluate(golds: Sequence[str], answers: Sequence[str]) -> Evaluation:
    records = [Record(str(i), "x.png", "?", gold) for i, gold in enumerate(golds)]
    predictions = {str(i): Prediction(str(i), text) for i, text in enumerate(answers)}
    return score(records, predictions, get_profile("multimedeval"))


def assert_equals_the_package(evaluation: Evaluation, expected: dict[str, float]) -> None:
    assert set(expected) == set(COLUMNS)
    for theirs, ours in COLUMNS.items():
        assert evaluation.mean(ours).value == pytest.approx(expected[theirs], abs=1e-9), theirs


@pytest.mark.real_data
def test_equals_the_package_on_vqa_rad(data_root: Path) -> None:
    rows = json.loads((data_root / "vqa_rad" / "testset.json").read_text("utf-8"))
    golds = [str(row["answer"]).strip() for row in rows]
    assert len(golds) == 451
    assert_equals_the_package(evaluate(golds, vary(golds)), EXPECTED["vqa_rad"])


def test_equals_the_package_on_written_answers() -> None:
    golds = PLAIN_GOLDS * 23
    assert_equals_the_package(evaluate(golds, vary(golds)), EXPECTED["plain"])


@pytest.mark.parametrize(
    ("gold", "prediction", "column", "value"),
    [
        ("Lung", "The lung.", "open_accuracy", 1),
        ("Lung, Spinal Cord", "Lung", "open_accuracy", 0),
        ("Lung, Spinal Cord", "Lung", "open_recall", 1 / 3),
        ("2", "two", "open_accuracy", 1),
        ("X-Ray", "x-ray", "open_accuracy", 1),
        ("No", "abnormal", "closed_accuracy", 0),
        ("Lung", "Lung", "open_accuracy", 1),
        ("No", "it is not", "closed_accuracy", 1),
        ("Yes", "it is not", "closed_accuracy", 0),
    ],
)
def test_worked_examples(gold: str, prediction: str, column: str, value: float) -> None:
    assert evaluate([gold], [prediction]).mean(column).value == pytest.approx(value)


def test_a_closed_record_that_is_no_yes_no_question_counts_as_open() -> None:
    record = Record("1", "x.png", "?", "Lung", answer_type="CLOSED")
    result = score([record], {"1": Prediction("1", "Lung")}, get_profile("multimedeval"))
    assert result.mean("closed_accuracy").count == 0
    assert result.mean("open_accuracy").value == 1
    assert result.mean("closed_accuracy_by_type").value == 1
    assert result.mean("open_accuracy_by_type").count == 0


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The lung.", "lung"),
        ("none", "0"),
        ("X-Ray", "x ray"),
        (
            "X-Ray - left",
            "xray left",
        ),  # a mark that touches a blank somewhere is deleted everywhere
        ("1,000 a/b", "1000 ab"),
        ("a/b", "b"),  # "a" became a word, and an article
        ("It isnt\n2.5 cm.", "it isn't 2.5 cm"),
        ("." * 40, "." * 8),  # only the first 32 full stops go
        ("", ""),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert vqa_clean(text) == cleaned


def bleu_1(gold: list[str], predicted: list[str]) -> float:
    (value,) = torchmetrics_bleu(gold, predicted, 1)
    return value


PAIRS = [
    ("left lung", "left lung"),
    ("left lung", "lung"),
    ("left lung", "the left upper lung lobe"),
    ("a b c d e", "c c c"),
    ("a a b", "a a a a"),
    ("x", "y"),
]


@pytest.mark.parametrize(("gold", "predicted"), PAIRS)
def test_bleu_1_agrees_with_nltk(gold: str, predicted: str) -> None:
    expected = sentence_bleu([gold.split()], predicted.split(), weights=(1,))
    expected = 0.0 if expected < 1e-100 else expected  # nltk's stand-in for zero matches
    assert bleu_1(gold.split(), predicted.split()) == pytest.approx(expected, abs=1e-6)
    assert torchmetrics_bleu(gold.split(), predicted.split())[0] == bleu_1(
        gold.split(), predicted.split()
    )


TOKENS = st.lists(st.sampled_from(["a", "b", "c", "the", ""]), max_size=9)
SETS = ((1,), (0, 1), (0.5, 0.5), (0.25, 0.25, 0.25, 0.25), (1 / 3, 1 / 3, 1 / 3), (0, 0, 0, 1))


@given(gold=TOKENS, predicted=TOKENS)
def test_bleu_is_that_of_nltk_bit_by_bit(gold: list[str], predicted: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nltk's, about orders without a match
        expected = [float(sentence_bleu([gold], predicted, weights=each)) for each in SETS]
    assert nltk_bleu(gold, predicted, SETS) == expected
    assert [nltk_bleu(gold, predicted, [each])[0] for each in SETS] == expected


TEXTS = st.lists(
    st.sampled_from(
        ["Lung", "the", "x-ray", "2.5", "T2", "\u00e9", "\u0130", "_", "left\tlobe", "!"]
    )
).map(" ".join)


@given(gold=TEXTS, predicted=TEXTS)
def test_rouge_1_is_that_of_rouge_score_bit_by_bit(gold: str, predicted: str) -> None:
    scorer = RougeScorer(["rouge1"])
    assert rouge_1(gold, predicted) == float(scorer.score(gold, predicted)["rouge1"].fmeasure)


@given(gold=TOKENS, predicted=TOKENS, order=st.integers(1, 4))
def test_matches_are_those_of_counted_ngrams(
    gold: list[str], predicted: list[str], order: int
) -> None:
    def count(tokens: list[str]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))

    both = count(gold) & count(predicted)
    assert clipped(gold, predicted, order) == (both.total(), max(1, count(predicted).total()))


def test_bleu_1_by_hand() -> None:
    assert bleu_1(["a", "b", "c", "d"], ["a", "b"]) == pytest.approx(math.exp(1 - 4 / 2))
    assert bleu_1(["a", "b"], ["a", "b", "c", "d"]) == pytest.approx(2 / 4)
    assert bleu_1([], ["a"]) == bleu_1(["a"], []) == bleu_1([], []) == 0
    assert len(torchmetrics_bleu(["a"], ["a"])) == 4


def test_set_measures_by_hand() -> None:
    assert set_recall(["a", "b", "c", "a"], ["a", "c", "x"]) == pytest.approx(2 / 3)
    assert set_f1(["a", "b", "c"], ["a", "c", "x", "x"]) == pytest.approx(2 / 3)
    assert set_recall([], ["a"]) == set_f1([], []) == 0


def test_rouge_1_by_hand() -> None:
    # 2 of 3 gold words and 2 of 4 predicted: F = 2 * (2/3) * (2/4) / (2/3 + 2/4)
    assert rouge_1("Left upper lobe", "the upper, left one") == pytest.approx(4 / 7)
