"""Answers in other scripts than Latin: measured like English ones, which stay as they are."""

# ruff: noqa: RUF001 (texts in other scripts)

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from biod2c_core.data.formats.fields.yes_no import polarity, yes_or_no
from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.metrics import rouge_1
from biod2c_core.evaluation.score.normalize import closed_answer, plain, vqa_clean
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import describe_split
from biod2c_core.evaluation.score.scripts import spaced, words

SAME = [
    *(
        "肝脏",
        "包含左肺。",
        "左肺的肿块",
        "ตับ",
        "ปอดซ้าย",
        "左の肺",
        "はいえん",
        "カルシウム",
        "왼쪽 폐",
    ),
    *("лёгкое слева", "الرئة اليسرى", "פגיעה בריאה", "बायाँ फेफड़ा", "CT图像", "ປອດ", "សួត", "အဆုတ်"),
]


def values(profile: str, gold: str, said: str, kind: str = "OPEN") -> dict[str, float]:
    record = Record("1", "x.png", "?", gold, answer_type=kind)
    return get_profile(profile).prepare([record])(record, said)


@pytest.mark.parametrize("text", SAME)
def test_the_same_answer_is_right_by_every_measure(text: str) -> None:
    assert rouge_1(text, text) == pytest.approx(1)
    assert values("exact", text, f" {text}。")["exact_match"] == 1
    for said in (text, text + "。", text + "."):
        found = values("multimedeval", text, said)
        for column in ("bleu_1", "token_recall", "token_f1", "rouge_1", "open_accuracy"):
            assert found[column] == pytest.approx(1, abs=1e-6), (column, said)
        found = values("llava-med", text, said)
        for column in ("open_recall", "open_f1", "open_bleu_1", "open_exact"):
            assert found[column] == pytest.approx(1), (column, said)
        assert values("pmc-vqa", text, said)["open_accuracy"] == 1


def test_by_hand() -> None:
    assert spaced("CT图像，左肺。") == "CT 图 像 左 肺"
    assert words("ปอดซ้าย") == ["ป", "อ", "ด", "ซ้", "า", "ย"]  # a tone mark stays with its letter
    assert vqa_clean("２型") == "2 型"
    assert values("multimedeval", "左肺", "右肺")["token_recall"] == 0.5
    assert rouge_1("左肺", "左肺上叶") == pytest.approx(2 * 2 / 6)
    assert values("multimedeval", "왼쪽 폐", "폐")["token_recall"] == 0.5


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("left lung", "“left lung”"),
        ("T2 weighted", "T2—weighted".replace("—", " — ")),
        ("it's", "it’s"),
        ("x-ray", "x–ray"),
        ("肝脏", "肝 脏！"),
        ("ＣＴ", "CT。"),
        ("naïve", unicodedata.normalize("NFD", "naïve")),
        ("yes", "yes\u200b…"),
        ("a, b", "a、b".replace("、", "、 ")),
    ],
)
def test_exact_treats_all_punctuation_alike(gold: str, said: str) -> None:
    assert values("exact", gold, said)["exact_match"] == 1
    assert values("exact", said, gold)["exact_match"] == 1


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "是",
            ["是", "是的。", "是的，有肿块", "图中有肿瘤"],
            ["不是", "没有", "否", "图中没有肿瘤", "不知道", "", "左"],
        ),
        ("不是", ["不是。", "不是的", "否", "没有", "未见异常"], ["是", "是的", "有", "不清楚"]),
        ("没有", ["没有", "无", "不存在", "没有肿瘤"], ["有", "存在", "包含"]),
        ("包含", ["包含", "是的"], ["不包含", "不是"]),
        ("不可以", ["不可以", "不能"], ["可以"]),
        ("はい", ["はい。", "はい、あります"], ["いいえ", "ありません"]),
        ("아니요", ["아니요", "아니오.", "없습니다"], ["예", "네", "있습니다"]),
        ("ใช่", ["ใช่", "มี。", "ใช่!"], ["ไม่ใช่", "ไม่มี"]),
    ],
)
def test_yes_and_no_of_other_languages(gold: str, right: list[str], wrong: list[str]) -> None:
    assert closed_answer(gold) == yes_or_no(gold)
    for profile in ("multimedeval", "llava-med"):
        for said, expected in [(s, 1) for s in right] + [(s, 0) for s in wrong]:
            found = values(profile, gold, said, "CLOSED")
            assert found["closed_accuracy"] == expected, (profile, said)
            assert found["closed_accuracy_by_type"] == expected, (profile, said)
    records = [Record("1", "x.png", "?", gold), Record("2", "x.png", "?", "肝脏")]
    assert describe_split(records)["closed_by_answer"] == 1


def test_an_answer_that_is_no_yes_or_no_stays_open() -> None:
    for gold in ("无", "正常", "左侧", "是左肺", "T2"):
        assert closed_answer(gold) == ""
    assert closed_answer("No.") == "no"
    assert polarity("不知道") == polarity("肝脏") == ""


LATIN = st.text(st.characters(max_codepoint=0x3FF, exclude_categories=["Cs"]), max_size=30)


@given(text=LATIN)
def test_latin_and_greek_texts_are_left_alone(text: str) -> None:
    assert spaced(text) == text


@given(gold=st.text(st.characters(codec="ascii"), max_size=30))
def test_exact_on_english_is_what_it_was(gold: str) -> None:
    import string

    before = " ".join(gold.lower().translate(str.maketrans("", "", string.punctuation)).split())
    assert plain(gold) == before


@given(text=st.text(max_size=20))
@example("\u00af\u00b8\u0400")  # two spacing accents, whose marks have an order
@example("\u00a8\uffff\u00af\u0400")  # a mark behind a blank behind a mark
def test_cutting_twice_is_cutting_once(text: str) -> None:
    assert spaced(spaced(text)) == spaced(text)
    assert 0 <= rouge_1(text, text) <= 1 + 1e-9
