"""Noun phrases and clauses of captions, from closed word lists alone: no model, no download.

A caption is cut at punctuation, verbs, conjunctions and pronouns, which are closed or nearly closed
classes in captions; what stands between two cuts is a noun phrase, with its prepositional complement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LONGEST_PHRASE = 8  # words
LONGEST_CLAUSE = 20

_DETERMINERS = _words(
    """
    a an the this that these those its their his her our your some any each every both all another
    such several various
    """
)
_PREPOSITIONS = _words(
    """
    of in on at from to near within between along over under behind
    """
)
_CUTS = _words(
    """
    and or but nor with by for as than then while where when which who whom whose what that
    because although though if however also not only after before during via per about into onto
    through there here it they he she we you i is are was were be been being am has have had
    having do does did done can could may might must shall should will would very more most less
    so too respectively consistent compatible due arrow arrows arrowhead arrowheads asterisk
    asterisks star stars circle
    """
)
_NEGATION = "without"  # begins a phrase and stays in it, as "no" does
_VERBS = _words(
    """
    show shows showed shown showing demonstrate demonstrates demonstrated demonstrating reveal
    reveals revealed revealing indicate indicates indicated indicating suggest suggests suggested
    suggesting depict depicts depicted depicting display displays displayed displaying illustrate
    illustrates illustrated illustrating represent represents represented representing note noted
    noting see seen seeing observe observed observing find found identify identified identifies
    confirm confirms confirmed confirming include includes included including contain contains
    contained containing involve involves involved involving appear appears appeared appearing
    present presents presented presenting exhibit exhibits exhibited exhibiting mark marks marked
    marking point points pointing surround surrounds surrounding surrounded cause causes caused
    causing measure measures measured measuring perform performed performing obtain obtained taken
    undergo underwent follow followed following use used using extend extends extended extending
    arise arises arising become becomes remain remains locate located compare compared describe
    describes described denote denotes denoted mimic mimics mimicking lead leads leading visualize
    visualizes visualized visualizing evaluate evaluates evaluated evaluating detect detects
    detected detecting provide provides provided providing determine determines determined balance
    manifest manifests manifested manifesting correspond corresponds corresponding
    """
)
_GENERIC = _words(
    """
    figure figures fig image images picture pictures photo photograph panel panels view views left
    right patient patients case cases year years old man woman male female day days month months
    week weeks same other one two three four five evidence example result results finding findings
    level levels color colour scale bar bars magnification original arrowed area areas part side
    number structure structures visible high low large small normal abnormal condition conditions
    region regions type types presence absence line lines body cause
    """
)
_ENDS = _CUTS | _VERBS
_SAYS_NOTHING = _GENERIC | _PREPOSITIONS | _DETERMINERS | _CUTS | _VERBS | {"no", _NEGATION}
_LETTERS = re.compile(r"[^\W_]+")
_NOISE = re.compile(
    r"\[\s*\d+(?:\s*[,\u2013-]\s*\d+)*\s*\]"  # [12], [3-5]
    r"|\(\s*(?:[A-Za-z]|[ivx]+|\d{1,2}|(?:\w+\s+)?(?:arrows?|arrowheads?|asterisks?|stars?|circles?))"
    r"(?:\s*[,&\u2013-]\s*(?:[A-Za-z]|[ivx]+|\d{1,2}))*\s*\)"  # (a), (A, B), (arrow), (white arrows)
    r"|\b(?:fig(?:ure)?s?\.?|panels?)\s*\d+[a-z]?\b[.:]?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\[])|[;:\n]+")
_CLAUSE_END = re.compile(
    r",|\b(?:which|while|whereas|who|although|but|and then)\b|[()\[\]]|\s[\u2013\u2014-]\s",
    re.IGNORECASE,
)
_LONE_ADVERB = re.compile(r"[A-Za-z]+ly")
_WORD = re.compile(r"[A-Za-z0-9µ°%][A-Za-z0-9µ°%'\u2019/.+\-]*|[^\sA-Za-z0-9]")


@lru_cache(maxsize=2**17)  # each phrase is compared several times on its way into a queue
def normalize(text: str) -> str:
    """Lower case, single blanks, no leading determiner, no plural: what makes two texts the same."""
    words = _LETTERS.findall(text.casefold())
    if words and words[0] in _DETERMINERS:
        words = words[1:]
    return " ".join(_singular(word) for word in words)


def noun_phrases(text: str) -> list[str]:
    """Noun phrases of a caption, in order of appearance.

    Args:
        text: One caption.

    Returns:
        Phrases of up to ``LONGEST_PHRASE`` words; where two are joined by a preposition ("mass in
        the right lobe") the joined one comes first, then its parts. Duplicates are left out.
    """
    found: list[str] = []
    for sentence in _sentences(text):
        for chunk in _chunks(_WORD.findall(sentence)):
            found += _phrases_of(chunk)
    return unique(phrase for phrase in found if _says_something(phrase))


def clauses(text: str) -> list[str]:
    """Clauses of a caption of 3 to ``LONGEST_CLAUSE`` words, in order of appearance."""
    found = []
    for sentence in _sentences(text):
        for clause in _CLAUSE_END.split(sentence):
            words = clause.strip(" .,\"'").split()
            while words and words[0].lower() in ("and", "or", "with", "as", "by", "in", "of"):
                words = words[1:]
            if 3 <= len(words) <= LONGEST_CLAUSE and _says_something(" ".join(words)):
                found.append(" ".join(words))
    return unique(found)


def related_texts(text: str) -> list[str]:
    """What a caption contributes to a text queue: its noun phrases, then its clauses."""
    return unique([*noun_phrases(text), *clauses(text)])


def unique(texts: Iterable[str]) -> list[str]:
    """Drop texts that are the same after ``normalize``; the first one stays."""
    seen: set[str] = set()
    kept = []
    for text in texts:
        key = normalize(text)
        if key and key not in seen:
            seen.add(key)
            kept.append(text)
    return kept


@lru_cache(maxsize=2**16)
def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _sentences(text: str) -> Iterator[str]:
    for sentence in _SENTENCE_END.split(_NOISE.sub(" ", text)):
        if sentence.strip():
            yield sentence


def _chunks(tokens: list[str]) -> Iterator[list[str]]:
    """Runs of words without a verb, conjunction or punctuation between them."""
    chunk: list[str] = []
    for token in tokens:
        word = token.lower().rstrip(".")
        ends = word in _ENDS or not token[0].isalnum()
        if chunk and (ends or word == _NEGATION):
            yield chunk
            chunk = []
        if not ends:
            chunk.append(token.rstrip(".'\u2019"))
    if chunk:
        yield chunk


def _phrases_of(chunk: list[str]) -> list[str]:
    """Split a chunk at its prepositions: neighbours joined first, then each part."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for word in chunk:
        if word.lower() in _PREPOSITIONS:
            parts.append((word, []))
        else:
            parts[-1][1].append(word)
    bare = [_strip_determiners(words) for _, words in parts]
    joined = []
    for index in range(1, len(parts)):
        head, complement = bare[index - 1], parts[index][1]
        words = [*head, parts[index][0], *complement]
        told = _says_something(" ".join(bare[index]))
        if head and told and len(words) <= LONGEST_PHRASE:
            joined.append(" ".join(words))
    alone = [" ".join(words) for words in bare if 0 < len(words) <= LONGEST_PHRASE]
    return joined + [phrase for phrase in alone if not _LONE_ADVERB.fullmatch(phrase)]


def _strip_determiners(words: list[str]) -> list[str]:
    while words and words[0].lower() in _DETERMINERS:
        words = words[1:]
    return words


def _says_something(phrase: str) -> bool:
    """Whether a word is left that is neither generic nor a number nor a single letter."""
    for word in _LETTERS.findall(phrase):
        plain = len(word) > 2 or (len(word) == 2 and word.isupper())
        if plain and not word[0].isdigit() and word.lower() not in _SAYS_NOTHING:
            return True
    return False
