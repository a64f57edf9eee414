"""Text normalization of the scoring conventions, one function per convention.

The VQA rules (punctuation, number words, articles, contractions) go back to the evaluation of the
VQA challenge; MultiMedEval and LLaVA-Med share one variant of them, quirks included, because a
number can only be compared with theirs when the quirks are the same.
"""

from __future__ import annotations

import re
import string
import unicodedata
from functools import lru_cache

from biod2c_core.data.formats.fields.yes_no import yes_or_no
from biod2c_core.evaluation.score.scripts import has_other_script, spaced

NUMBER_WORDS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = (*';/[]"{}()=+\\_-><@`,?!',)

# The rules write the apostrophe back into these; a key and its value per "key:value".
_APOSTROPHES = """
aint:ain't arent:aren't cant:can't couldve:could've couldnt:couldn't couldn'tve:couldn't've
couldnt've:couldn't've didnt:didn't doesnt:doesn't dont:don't hadnt:hadn't hadnt've:hadn't've
hadn'tve:hadn't've hasnt:hasn't havent:haven't hed:he'd hed've:he'd've he'dve:he'd've hes:he's
howd:how'd howll:how'll hows:how's isnt:isn't itd:it'd itd've:it'd've it'dve:it'd've itll:it'll
maam:ma'am mightnt:mightn't mightnt've:mightn't've mightn'tve:mightn't've mightve:might've
mustnt:mustn't mustve:must've neednt:needn't notve:not've oclock:o'clock oughtnt:oughtn't
ow's'at:'ow's'at 'ows'at:'ow's'at 'ow'sat:'ow's'at shant:shan't shed've:she'd've she'dve:she'd've
shouldve:should've shouldnt:shouldn't shouldnt've:shouldn't've shouldn'tve:shouldn't've
somebody'd:somebodyd somebodyd've:somebody'd've somebody'dve:somebody'd've somebodyll:somebody'll
somebodys:somebody's someoned:someone'd someoned've:someone'd've someone'dve:someone'd've
someonell:someone'll someones:someone's somethingd:something'd somethingd've:something'd've
something'dve:something'd've somethingll:something'll thats:that's thered:there'd
thered've:there'd've there'dve:there'd've therere:there're theres:there's theyd:they'd
theyd've:they'd've they'dve:they'd've theyll:they'll theyre:they're theyve:they've twas:'twas
wasnt:wasn't wed've:we'd've we'dve:we'd've weve:we've werent:weren't whatll:what'll whatre:what're
whats:what's whatve:what've whens:when's whered:where'd wheres:where's whereve:where've whod:who'd
whod've:who'd've who'dve:who'd've wholl:who'll whos:who's whove:who've whyll:why'll whyre:why're
whys:why's wont:won't wouldve:would've wouldnt:wouldn't wouldnt've:wouldn't've
wouldn'tve:wouldn't've yall:y'all yall'll:y'all'll y'allll:y'all'll yall'd've:y'all'd've
y'alld've:y'all'd've y'all'dve:y'all'd've youd:you'd youd've:you'd've you'dve:you'd've youll:you'll
youre:you're youve:you've
"""
CONTRACTIONS = dict(pair.split(":") for pair in _APOSTROPHES.split())

_PERIOD = re.compile(r"(?!<=\d)\.(?!\d)")
_DIGIT_COMMA = re.compile(r"\d,\d")
# Both tools pass the flag re.UNICODE where re.sub expects the number of replacements.
_MOST_PERIODS = int(re.UNICODE)


@lru_cache(maxsize=1 << 12)  # every profile that uses it asks for the same texts
def vqa_clean(text: str) -> str:
    """Clean an answer as MultiMedEval and LLaVA-Med do.

    In order: lower case; each punctuation mark is deleted where it touches a blank anywhere in the
    text (or where the text has a comma between digits), else replaced by a blank; full stops not
    before a digit are deleted, the first 32 of them; number words become digits; articles are
    dropped; contractions get their apostrophe back; commas go.

    Args:
        text: Any answer. One in a script without blanks between words is cut into characters first,
            which neither tool does; see :mod:`.scripts`.

    Returns:
        Words joined by single blanks.
    """
    lowered = spaced(text).lower()
    cleaned = lowered
    has_digit_comma = _DIGIT_COMMA.search(lowered) is not None
    for mark in PUNCTUATION:
        if mark not in lowered:
            continue
        touches_blank = f"{mark} " in lowered or f" {mark}" in lowered
        cleaned = cleaned.replace(mark, "" if touches_blank or has_digit_comma else " ")
    cleaned = _PERIOD.sub("", cleaned, count=_MOST_PERIODS)
    words = [NUMBER_WORDS.get(word, word) for word in cleaned.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def closed_answer(text: str) -> str:
    """Whether a gold answer is ``yes`` or ``no`` as a whole, also in Chinese, Japanese, Korean, Thai.

    Returns:
        Empty for any other answer.
    """
    cleaned = vqa_clean(text.strip())
    if cleaned in ("yes", "no"):
        return cleaned
    return yes_or_no(text) if has_other_script(text) else ""


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_INVISIBLE = frozenset("\u200b\u2060\ufeff\u00ad")


def plain(text: str) -> str:
    """Lower case, without punctuation of any script, single blanks: what exact match compares."""
    if not text.isascii():
        shown = unicodedata.normalize("NFC", spaced(text))
        text = "".join(
            c for c in shown if unicodedata.category(c)[0] != "P" and c not in _INVISIBLE
        )
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())
