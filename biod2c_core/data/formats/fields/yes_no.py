"""Yes and no in English and in the languages whose scripts put no blanks between words.

An answer such as the Chinese for "is not" contains the one for "is", so it cannot be compared by the
characters that it shares with the gold answer, as words can.
"""

from __future__ import annotations

import re
import string

ENGLISH = {"yes": "yes", "no": "no"}
# SLAKE's Chinese answers, and the usual ones of Japanese, Korean and Thai
_YES = """
是 是的 对 对的 對 有 有的 存在 包含 包括 可以 能 能够 会 會 属于 正确 在
はい ええ そうです ある あります 예 네 있다 있습니다 ใช่ มี
"""
_NO = """
不是 不是的 不对 没有 没 沒有 不存在 不包含 不包括 不可以 不能 不能够 不会 不會 不對 不属于 不正确 不在 否 不
いいえ ない ありません 아니오 아니요 아니다 없다 없습니다 ไม่ ไม่ใช่ ไม่มี
"""
_WHOLE = {**ENGLISH, **dict.fromkeys(_YES.split(), "yes"), **dict.fromkeys(_NO.split(), "no")}
_EDGES = (
    string.punctuation
    + string.whitespace
    + (
        "\u3000\u3001\u3002\uff0c\uff01\uff1f\uff1b\uff1a\uff0e\uff08\uff09\u2026\u300c\u300d\u201c\u201d\u2018\u2019"
    )
)
_UNSURE = re.compile(r"不知道|不清楚|不确定|无法|不明|わかりません|分かりません|모르|ไม่ทราบ|ไม่แน่ใจ")
_NEGATIVE = re.compile(r"[不没沒無无未否非]|いいえ|ない|ません|なし|아니|없|않|ไม่")

_AFFIRMATIVE = re.compile(
    r"[是对對有能会會]|存在|包[含括]|可以|属于|正确|見られ|はい|あり|ある|です|예|네|있|ใช่|มี"
)


def yes_or_no(answer: str) -> str:
    """Whether a text as a whole says ``yes`` or ``no``, whatever its case and punctuation.

    Returns:
        Empty for any other text.
    """
    return _WHOLE.get(answer.strip(_EDGES).lower(), "")


def polarity(text: str) -> str:
    """What a text without blanks between words says to a yes/no question: ``yes`` or ``no``.

    A text that is neither word as a whole counts as ``no`` if it has a negation ("no tumour is seen"),
    else as ``yes`` if it has an affirmation.

    Returns:
        Empty where it says neither, or that it does not know.
    """
    if whole := yes_or_no(text):
        return whole
    if _UNSURE.search(text):
        return ""
    if _NEGATIVE.search(text):
        return "no"
    return "yes" if _AFFIRMATIVE.search(text) else ""
