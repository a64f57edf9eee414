"""Captions that follow from an image's labels and boxes."""

from __future__ import annotations

from pictures import Picture, Thing
from things import FINDINGS, crowded_side, nuclei_bin, only, plural, polyp_size, quadrant, side

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six")


def number_of(count: int, name: str) -> str:
    """``"two platelets"``."""
    word = NUMBER_WORDS[count] if count < len(NUMBER_WORDS) else str(count)
    return f"{word} {name if count == 1 else plural(name)}"


def opening(picture: Picture) -> str:
    """The first sentence of a caption: modality, plane and organ."""
    labels = picture.labels
    modality, organ = labels.get("modality", ""), labels.get("organ", "")
    if picture.source == "blood_cells":
        return f"Light microscopy of a {labels['stain']}-stained blood smear."
    if picture.source == "nuclei":
        return f"{modality[0].upper()}{modality[1:]} of cell nuclei."
    if not modality:
        return f"Radiology image of the {organ}."
    first = f"{labels['plane']} {modality}" if "plane" in labels else modality
    first = first[0].upper() + first[1:]
    return f"{first} of the {organ}." if organ else f"{first} slice."


def caption_of(picture: Picture) -> str:
    """A caption from all labels."""
    labels, sentences = picture.labels, [opening(picture)]
    if "finding" in labels and picture.count("polyp") != 1:
        sentences.append(f"The finding is {FINDINGS[labels['finding']]}.")
    if thing := only(picture, "polyp"):
        size = polyp_size(picture)
        sentences.append(f"There is a {size + ' ' if size else ''}polyp{_at(thing, picture)}.")
    if picture.source == "endoscopy" and not picture.things and "finding" not in labels:
        sentences.append("There is no polyp.")
    if picture.source == "blood_cells":
        for name in ("white blood cell", "platelet"):
            count = picture.count(name)
            verb = "is" if count == 1 else "are"
            one = only(picture, name)
            place = _at(one, picture) if one else ""
            sentences.append(f"There {verb} {number_of(count, name)}{place}.")
        red = picture.count("red blood cell")
        if red and not 9 < red < 15:
            sentences.append(f"There are {'many' if red > 12 else 'few'} red blood cells.")
    if picture.source == "nuclei":
        sentences.append(f"There are {nuclei_bin(labels['count'])} nuclei.")
        if half := crowded_side(picture):
            sentences.append(f"Most nuclei are on the {half} side.")
    return " ".join(sentences)


def _at(thing: Thing, picture: Picture) -> str:
    place = quadrant(*thing.centre, picture.size)
    if place:
        return f" in the {place}"
    half = side(thing.centre[0], picture.size[0])
    return f" on the {half} side" if half else ""
