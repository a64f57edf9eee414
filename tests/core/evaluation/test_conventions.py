"""The conventions of other tools: worked examples by hand, and their own code's numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score import profiles
from biod2c_core.evaluation.score.extract import (
    after_markers,
    answer_elements,
    elements,
    last_box,
)
from biod2c_core.evaluation.score.metrics import nearest, nearest_of
from biod2c_core.evaluation.score.profiles import (
    Metric,
    Profile,
    get_profile,
    profile_names,
    register_profile,
    rule_profiles,
)
from biod2c_core.evaluation.score.profiles.base import rule_for_each
from biod2c_core.evaluation.score.profiles.open_ended.lmms_slake import normalize as slake_text
from biod2c_core.evaluation.score.rouge import EmptyTextError, rouge_scores
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.score.score_all import score_all
from biod2c_core.evaluation.statistics.intervals import intervals, matrix_intervals

EXPECTED = json.loads((Path(__file__).parent / "expected" / "conventions.json").read_text("utf-8"))


def to_record(row: dict[str, Any]) -> Record:
    tags = {f"choice_{letter.lower()}": text for letter, text in row.get("choices", {}).items()}
    tags |= {k: row[k] for k in ("answer_label", "image_type", "qa_type") if k in row}
    if row["kind"] == "pair":
        tags["pair"] = row["question"]
    image, kind = row.get("image", "x.png"), row["answer_type"]
    return Record(row["id"], image, row["question"], row["answer"], answer_type=kind, tags=tags)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "case", EXPECTED, ids=[f"{c['profile']}-{i}" for i, c in enumerate(EXPECTED)]
)
def test_equals_the_tools_own_code(case: dict[str, Any], data_root: Path) -> None:
    path = data_root.parent / "paper" / "second_set.jsonl"
    if not path.exists():
        pytest.skip("the varied predictions are not there")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [r for r in rows if r["kind"] == case["kind"] and r["id"] not in case["without"]]
    predictions = {row["id"]: Prediction(row["id"], row["prediction"]) for row in rows}
    found = score([to_record(row) for row in rows], predictions, get_profile(case["profile"]))
    totals = found.totals()
    for key, value in case["values"].items():
        mean = found.mean(key).value
        assert (totals[key] if mean is None else mean) == pytest.approx(value, abs=1e-9), key


def closed(name: str, gold: str, said: str) -> float:
    record = Record("1", "x.png", "?", gold, answer_type="CLOSED")
    values = get_profile(name).prepare([record])(record, said)
    keys = ("closed_accuracy_by_type", "closed_accuracy", "accuracy")
    return next(values[key] for key in keys if key in values)


RULES = ("medevalkit", "medevalkit-slake", "llava-med", "lmms-slake", "biomedgpt", "probmed")


@pytest.mark.parametrize(
    ("gold", "said", "right"),
    [
        ("yes", "Yes", "111101"),
        ("No", "no.", "111101"),
        ("no", "abnormal", "111000"),
        ("yes", "Yes, no doubt", "001001"),
        ("yes", "yep", "000100"),
        ("no", "<think>yes?</think> <answer>no</answer>", "111000"),
        ("yes", r"so \boxed{yes}", "111000"),
        ("no", "The answer is no", "111000"),
        ("yes", "", "000000"),
    ],
)
def test_closed_questions_by_hand(gold: str, said: str, right: str) -> None:
    found = "".join(str(int(closed(name, gold, said))) for name in RULES)
    expected = list(right)
    if gold == "No":  # SLAKE's rule knows yes and no in lower case alone, and compares the texts
        expected[1] = "1"
    assert found == "".join(expected)


TAGS = {"choice_a": "heart", "choice_b": "right lung", "choice_c": "lung", "answer_label": "B"}
CHOICES = (
    *("medevalkit-mcq", "mmmu", "vlmevalkit-mcq", "huatuo-choice", "omnimedvqa"),
    *("medvlthinker", "med-r1", "pmc-vqa-td", "pmc-vqa-te"),
)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("B", "111101011"),
        ("b", "1?0001000"),
        ("(B)", "111100001"),
        ("B. right lung", "1?1111001"),
        ("right lung", "1?0011000"),
        ("A or B", "010110010"),
        ("<answer>B</answer>", "110101101"),
        ("Answer: B", "111101010"),
        ("", "0?0000000"),
    ],
)
def test_multiple_choice_by_hand(said: str, right: str) -> None:
    record = Record("1", "x.png", "?", "right lung", tags=TAGS)
    for name, expected in zip(CHOICES, right, strict=True):
        value = get_profile(name).prepare([record])(record, said)["choice_accuracy"]
        assert value == (1 / 3 if expected == "?" else float(expected)), name


def test_medevalkit_prints_three_columns_under_other_names() -> None:
    record = Record("1", "x.png", "?", "left lung")
    predictions = {"1": Prediction("1", "the lung on the left side")}
    found = score([record], predictions, get_profile("medevalkit"))
    # two of two gold words, two of five distinct ones of the answer
    precision, recall = found.mean("open_precision").value, found.mean("open_recall").value
    assert (precision, recall) == (2 / 5, 1)
    assert found.totals() == {
        "printed_precision": pytest.approx(2 * 0.4 / 1.4),
        "printed_recall": 2 / 5,
        "printed_f1": 1,
        "printed_open_acc": 0,
        "empty_answers": 0,
    }


def test_answers_that_stop_medevalkit_are_wrong_and_counted() -> None:
    records = [Record(str(i), "x.png", "?", "lung") for i in range(3)]
    predictions = {str(i): Prediction(str(i), text) for i, text in enumerate(["lung", "", "..."])}
    found = score(records, predictions, get_profile("medevalkit"))
    assert found.mean("open_exact").value == pytest.approx(1 / 3)
    assert found.totals()["empty_answers"] == 2
    assert found.totals()["printed_open_acc"] == pytest.approx(1 / 9)


def test_the_old_rule_of_llava_med_leaves_wrong_answers_out() -> None:
    records = [Record(str(i), "x.png", "?", "yes", answer_type="CLOSED") for i in range(4)]
    said = {str(i): Prediction(str(i), text) for i, text in enumerate(["yes", "no", "no", "?"])}
    old, new = (
        score(records, said, get_profile(name)).mean("closed_accuracy_by_type")
        for name in ("llava-med-2023", "llava-med")
    )
    assert (old.value, old.count) == (1 / 2, 2)
    assert (new.value, new.count) == (1 / 4, 4)


def test_pmc_vqa_shows_both_lists_of_labels() -> None:
    records = [
        Record("1", "x.png", "?", "no", answer_type="CLOSED"),
        Record("2", "x.png", "?", "nodule", answer_type="OPEN"),
        Record("3", "x.png", "?", "yes", answer_type="CLOSED"),
    ]
    rule = get_profile("pmc-vqa").prepare(records)
    values = rule(records[0], "nod")  # "nodule" 2*3/9, "no" 2*2/5
    assert values["closed_accuracy_own_labels"] == values["closed_accuracy"] == 1
    values = rule(records[0], "nodul")
    assert (values["closed_accuracy"], values["closed_accuracy_own_labels"]) == (0, 1)


def test_vqa_med_takes_the_best_of_several_golds() -> None:
    record = Record("1", "x.png", "?", "chest # lungs")
    rule = get_profile("vqa-med").prepare([record])
    assert rule(record, "the Lung") == {
        "accuracy": 0,
        "bleu": 1,
        "bleu_new_nltk": pytest.approx(0, abs=1e-9),
    }
    assert rule(record, "Chest.")["accuracy"] == 1


def test_probmed_couples() -> None:
    def asked(number: int, kind: str, said: str) -> tuple[Record, str]:
        gold = "yes" if "_gt" in kind else "no"
        tags = {"qa_type": kind, "image_type": "ct"}
        return Record(f"{number}{kind}", f"{number}.png", "?", gold, tags=tags), said

    rows = [
        asked(1, "modality_gt", "Yes"),
        asked(1, "modality_hallu", "No"),
        asked(1, "entity_gt_0", "Yes"),
        asked(1, "entity_hallu_0", "yes"),
        asked(2, "modality_gt", "Yes"),  # its partner is missing: left out
        asked(2, "entity_hallu", "Nothing"),  # of a normal image: alone
    ]
    predictions = {record.id: Prediction(record.id, said) for record, said in rows}
    totals = score([r for r, _ in rows], predictions, get_profile("probmed")).totals()
    assert (totals["modality_accuracy"], totals["modality_first"]) == (1, 1)
    assert (totals["entity_accuracy"], totals["entity_first"]) == (1 / 2, 1)
    # modality weighs 1 image with both questions, entity both images
    assert totals["probmed_accuracy"] == pytest.approx((1 * 1 + 0.5 * 2) / 3)


def test_rouge_by_hand() -> None:
    # one word of two, and of three; the longest common subsequence has that word alone
    assert rouge_scores("left. a b", "left lung") == pytest.approx(
        (2 * (1 / 3 * 1 / 2) / (1 / 3 + 1 / 2), 0, 0.4), abs=1e-7
    )
    with pytest.raises(EmptyTextError):
        rouge_scores("..", "x")


@pytest.mark.parametrize("endless", ["lung " * 100_000, "lung. " * 100_000])
def test_rouge_of_what_would_fill_memory_or_time_is_refused(endless: str) -> None:
    assert 0 < rouge_scores(endless, "left lung")[2] < 1
    with pytest.raises(InputError, match=r"every word of 100,00. with every word of 100,00., over"):
        rouge_scores(endless, endless)


def boxes_one_by_one(text: str) -> str | None:
    """The definition, box by box from the last."""
    start = text.rfind(r"\boxed{")
    while start >= 0:
        depth = 0
        for place in range(start + 6, len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                return text[start + 7 : place].strip()
        start = text.rfind(r"\boxed{", 0, start)
    return None


PIECES = [
    r"\boxed{",
    "{",
    "}",
    "a ",
    "<answer>",
    "</answer>",
    "<ANSWER>",
    "(",
    ")",
    "\uff08",
    "\uff09",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_extraction_is_that_of_the_plain_definitions(text: str) -> None:
    assert last_box(text) == boxes_one_by_one(text)
    for flags in (re.DOTALL, re.DOTALL | re.IGNORECASE):
        found = re.findall("<answer>(.*?)</answer>", text, flags)
        assert elements(text, "answer", bool(flags & re.IGNORECASE)) == found
    plain = re.sub(r"\([^)]*\)|\uff08[^\uff09]*\uff09", " ", text.strip().lower())
    assert slake_text(text) == slake_text(plain)


@pytest.mark.parametrize("piece", [r"\boxed{", "<answer>", "(", "\uff08", "(\uff08"])
def test_extraction_takes_one_pass_whatever_stays_open(piece: str) -> None:
    """A second of it would be an hour if each were followed to the end."""
    text = piece * 300_000
    assert last_box(text) is None
    assert elements(text, "answer") == []
    assert slake_text(text + "a").endswith("a")


def test_extraction_by_hand() -> None:
    assert last_box(r"\boxed{a} then \boxed{b_{c}}") == "b_{c}"
    assert last_box(r"\boxed{a} then \boxed{b") == "a"
    assert last_box("a") is None
    assert answer_elements("x <answer>a</answer> <answer>b</answer>") == "a b"
    assert answer_elements("<answer>a") == "<answer>a"
    assert after_markers("Final answer is: the answer: Left") == " left"


@given(
    labels=st.lists(st.text("abc d", min_size=1, max_size=8), min_size=1, max_size=12, unique=True),
    text=st.text("abcde ", max_size=12),
)
def test_the_nearest_of_many_is_the_nearest(labels: list[str], text: str) -> None:
    assert nearest_of(labels)(text) == nearest(labels, text)


def test_all_profiles_at_once_give_what_each_gives() -> None:
    golds = ["yes", "no", "left lung", "x-ray", "right lung"]
    said = ["Yes.", "abnormal", "the left lung", "answer is x-ray", "B"]
    records = [
        Record(
            *(str(i), f"{i % 3}.png", "?", golds[i % 5]),
            answer_type="CLOSED" if i % 5 < 2 else "OPEN",
            tags=TAGS if i % 5 == 4 else {},
        )
        for i in range(40)
    ]
    predictions = {str(i): Prediction(str(i), said[i * 7 % 5]) for i in range(40)}
    everything = score_all(records, predictions, rule_profiles())
    estimates = matrix_intervals(records, everything.values, resamples=50)
    for profile in rule_profiles():
        alone = score(records, predictions, profile)
        keys = [metric.key for metric in profile.metrics]
        expected = intervals(alone.questions, keys, resamples=50)
        assert estimates[everything.columns_of(profile)] == [expected[key] for key in keys]
        assert everything.totals.get(profile.name, {}) == pytest.approx(alone.totals())


@pytest.fixture
def toy() -> Iterator[Profile]:
    def rule(record: Record, prediction: str) -> dict[str, float]:
        return {"same_length": float(len(record.answer) == len(prediction))}

    metric = Metric("same_length", "same length", "As long as the gold.")
    profile = Profile("toy", "1", "a test's own", (metric,), rule_for_each(rule))
    register_profile(profile)
    yield profile
    del profiles._ADDED["toy"]


def test_a_profile_from_outside_the_package(toy: Profile) -> None:
    assert get_profile("toy") is toy
    assert "toy" in profile_names()
    records = [Record("1", "x.png", "?", "lung"), Record("2", "x.png", "?", "heart")]
    predictions = {"1": Prediction("1", "four"), "2": Prediction("2", "four")}
    everything = score_all(records, predictions, rule_profiles())
    assert everything.values[:, everything.columns_of(toy)].mean() == 0.5
    for name in ("toy", "exact", "all"):
        with pytest.raises(InputError, match="there is a profile"):
            register_profile(replace(toy, name=name))
    with pytest.raises(InputError, match="'same_length' twice"):
        register_profile(replace(toy, name="other", metrics=toy.metrics * 2))
