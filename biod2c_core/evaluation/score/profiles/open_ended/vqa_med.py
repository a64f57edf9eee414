"""ImageCLEF VQA-Med 2019 to 2021: strict accuracy, and BLEU of stemmed words.

Counts all questions; several golds stand in one text with ``#`` between them and the best counts. BLEU
drops stop words ("no" and "not" among them) and stems the rest. The nltk version decides its value:
3.2, which 2021 pins, ends the product at the first order without a match; from 3.4 on, which 2020
pins, that order makes the value almost 0. Both are given, not rounded (the tools round to 4 places).
"""

from __future__ import annotations

import string
from functools import cache, lru_cache

from biod2c_core.data.records import Record
from biod2c_core.evaluation.score.bleu import CUMULATIVE, nltk_bleu, old_nltk_bleu_4
from biod2c_core.evaluation.score.normalize import vqa_clean
from biod2c_core.evaluation.score.profiles.base import Metric, Profile, rule_for_each

_MARKS = str.maketrans("", "", string.punctuation)
# nltk's English stop words that are left when the apostrophes are gone
_STOP_WORDS = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves what which who whom this that these those am is
are was were be been being have has had having do does did doing a an the and but if or because as until
while of at by for with about against between into through during before after above below to from up
down in out on off over under again further then once here there when where why how all any both each
few more most other some such no nor not only own same so than too very s t can will just don should now
d ll m o re ve y ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn
weren won wouldn
"""
_STOPS = frozenset(_STOP_WORDS.split())


@cache
def _stemmer() -> object:
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer("english")


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    stemmed: str = _stemmer().stem(word)  # type: ignore[attr-defined]
    return stemmed


def stems(text: str) -> list[str]:
    """The stemmed words of a text without stop words."""
    words = text.lower().translate(_MARKS).split()
    return [_stem(word) for word in words if word not in _STOPS]


def _strict(text: str) -> str:
    return vqa_clean(text.replace("\n", " ").replace("\t", " ").strip())


def _bleu(gold: list[str], said: list[str]) -> tuple[float, float]:
    """BLEU by old and new nltk; 1 where nothing is left of both."""
    if not gold and not said:
        return 1.0, 1.0
    if not gold or not said:
        return 0.0, 0.0
    return old_nltk_bleu_4(gold, said), nltk_bleu(gold, said, CUMULATIVE[3:])[0]


def score_question(record: Record, prediction: str) -> dict[str, float]:
    """All columns; each takes the best of several golds."""
    golds = [gold for gold in record.answer.split("#") if gold.strip()] or [record.answer]
    said, strict = stems(prediction), _strict(prediction)
    old, new = zip(*(_bleu(stems(gold), said) for gold in golds), strict=True)
    right = any(_strict(gold) == strict for gold in golds)
    return {"accuracy": float(right), "bleu": max(old), "bleu_new_nltk": max(new)}


PROFILE = Profile(
    name="vqa-med",
    version="1",
    summary="ImageCLEF VQA-Med: strict accuracy and BLEU of stems",
    metrics=(
        Metric("accuracy", "ACC", "Equal to a gold after cleaning, all questions."),
        Metric("bleu", "BLEU (nltk 3.2)", "BLEU-4 of stems as the 2021 evaluator's nltk has it."),
        Metric("bleu_new_nltk", "BLEU (nltk 3.4)", "The same as the 2020 evaluator's nltk has it."),
    ),
    prepare=rule_for_each(score_question),
    source="abachaa/VQA-Med-2021 ffa0e6c, EvaluationCode; abachaa/VQA-Med-2020 ec83f1c",
)
