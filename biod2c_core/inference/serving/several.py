"""Several images in one request: what their answers say together, as the slices of a volume do."""

from __future__ import annotations

from collections.abc import Sequence

from biod2c_core.inference.serving.batching import Finished
from biod2c_core.inference.volumes.whole import median_familiarity, ranges, weigh


def together(answers: Sequence[Finished]) -> Finished:
    """The answer of the whole: that with the most evidence, which is its confidence.

    Args:
        answers: One an image, at least one, all to the same question.
    """
    spread = weigh([each.text for each in answers], [each.confidence for each in answers])
    return Finished(
        text=spread[0].answer,
        confidence=spread[0].confidence,
        calibrated=False,
        familiarity=median_familiarity(each.familiarity for each in answers),
        warning=_warning(answers),
        prompt_tokens=sum(each.prompt_tokens for each in answers),
        tokens=sum(each.tokens for each in answers),
        cut=any(answers[place].cut for place in spread[0].places),
        images=tuple(answers),
        spread=tuple(spread),
    )


def _warning(answers: Sequence[Finished]) -> str:
    """Each warning once, with the images that it is about: ``images 0-2, 5: ...``."""
    places: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        if answer.warning:
            places.setdefault(answer.warning, []).append(place)
    return "; ".join(
        f"image{'s' if len(each) > 1 else ''} {ranges(each)}: {warning}"
        for warning, each in places.items()
    )
