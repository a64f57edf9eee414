"""A true and a false attribute of an image, asked about by yes-no questions, in the manner of ProbMed.

A model that says yes to everything is right about every true attribute; only pairs tell.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from biod2c_core.data.records import Record

_TAGS = {
    "modality": ("modality", "imaging_modality", "image_modality"),
    "organ": ("organ", "image_organ", "body_part", "location"),
    "finding": ("finding", "disease", "condition", "abnormality", "diagnosis"),
}
_QUESTIONS = {
    "modality": "Was this image taken with {}?",
    "organ": "Does this image show the {}?",
    "finding": "Is there {} in this image?",
}
_NOTHING = re.compile(
    r"\b(?:normal|none|no|not|unknown|other|others|n/?a|healthy|unspecified)\b", re.I
)
_SPOKEN = {"abd": "abdomen", "mr": "MRI", "xr": "X-ray", "x ray": "X-ray", "us": "ultrasound"}
# An organ is false only where another part of the body is shown: a chest X-ray shows heart and lungs.
_REGIONS = {
    "head": "head brain skull face eye orbit retina fundus sinus ear jaw tooth teeth",
    "neck": "neck thyroid throat larynx",
    "chest": "chest lung lungs heart thorax mediastinum rib ribs breast esophagus oesophagus aorta",
    "abdomen": "abdomen liver kidney kidneys spleen stomach bowel intestine colon pancreas gallbladder "
    "pelvis pelvic bladder prostate uterus rectum",
    "limb": "knee hip hand wrist foot ankle elbow shoulder leg arm bone femur",
    "skin": "skin",
}
_REGION_OF = {word: region for region, words in _REGIONS.items() for word in words.split()}


@dataclass(frozen=True)
class AttributePair:
    """Two questions about one image, of which one is answered by yes and the other by no.

    Attributes:
        attribute: ``modality``, ``organ`` or ``finding``.
        true: The question that is answered by yes.
        false: The other.
    """

    attribute: str
    true: Record
    false: Record


def attribute_pairs(records: Sequence[Record]) -> list[AttributePair]:
    """For each image and attribute that its records know, one pair.

    The false value is one that other records of the data have and none of this image; which one depends
    on the image's name alone.

    Args:
        records: With tags that name modality, organ or finding.
    """
    pairs = []
    for attribute in _TAGS:
        by_image: dict[str, set[str]] = {}
        firsts: dict[str, Record] = {}
        for record in records:
            if values := list(_values(record, attribute)):
                firsts.setdefault(record.image, record)
                by_image.setdefault(record.image, set()).update(values)
        known = sorted({value for values in by_image.values() for value in values})
        for image, own in by_image.items():
            others = [value for value in known if _is_false(attribute, value, own)]
            if others:
                true = sorted(own)[0]
                false = others[_number(f"{attribute} {image}") % len(others)]
                pairs.append(_pair(attribute, firsts[image], true, false))
    return pairs


def _values(record: Record, attribute: str) -> Iterator[str]:
    tag = next((name for name in _TAGS[attribute] if record.tags.get(name)), None)
    for part in re.split(r"[,;|]", record.tags[tag]) if tag else ():
        text = " ".join(part.replace("_", " ").split())
        if not text or _NOTHING.search(text) or not re.search(r"[a-z]", text, re.I):
            continue
        yield _SPOKEN.get(text.lower(), _plain(text, attribute))


def _plain(text: str, attribute: str) -> str:
    """Small letters, but for the names of modalities, which keep theirs."""
    if attribute == "modality" and (len(text) <= 5 or text.lower() == "x-ray"):
        return "X-ray" if text.lower() == "x-ray" else text
    return text.lower()


def _is_false(attribute: str, value: str, own: set[str]) -> bool:
    if value in own:
        return False
    words = _words(value)
    if attribute != "organ":
        return all(not words & _words(each) for each in own)
    region = _regions(value)
    return bool(region) and all(
        _regions(each) and not region & _regions(each) and not words & _words(each) for each in own
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _regions(organ: str) -> set[str]:
    return {_REGION_OF[word] for word in _words(organ) if word in _REGION_OF}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:6], "big")


def _pair(attribute: str, record: Record, true: str, false: str) -> AttributePair:
    def ask(value: str, answer: str, kind: str) -> Record:
        return Record(
            id=f"{attribute} {kind}:{record.image}",
            image=record.image,
            question=_QUESTIONS[attribute].format(value),
            answer=answer,
            answer_type="CLOSED",
            source=record.source,
            split=record.split,
        )

    return AttributePair(attribute, ask(true, "yes", "true"), ask(false, "no", "false"))
