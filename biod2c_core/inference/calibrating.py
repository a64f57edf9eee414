"""Make a checkpoint's confidences mean what they say, and let it know pictures unlike its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biod2c_core.atomic import write_json
from biod2c_core.collector import imports_for_good
from biod2c_core.errors import InputError
from biod2c_core.inference.calibration import (
    FILE,
    LEAST_RECORDS,
    METHODS,
    Answered,
    Method,
    cross_fitted,
    expected_error,
    fit_answers,
    is_yes_no,
)
from biod2c_core.inference.risk_coverage import recommend, risk_coverage

if TYPE_CHECKING:  # loads torch, which bad input never waits for
    from torch import Tensor

    from biod2c_core.data.records import Record
    from biod2c_core.model.familiarity import Reference
    from biod2c_core.model.generation import Answerer

MOST_TRAINING_PICTURES = 1200  # of which the reference is made
_BATCH = 32
_TRAIN = "train"

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Group:
    """Records, and the folder that their images are relative to."""

    records: Sequence[Record]
    root: Path


def silent(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress that shows nothing."""
    return nullcontext(lambda _: None)


def calibrate(
    held_out: Group,
    checkpoint: str,
    device: str,
    method: str,
    same_answer: Callable[[str, str], bool],
    train: Sequence[Group] = (),
    new_sources: Sequence[Group] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Answer held-out records, fit, and write what was learned into the checkpoint's folder.

    That is ``calibration.json``, and with ``train`` ``familiarity.safetensors``. Rows of the split
    ``train`` are not held out, and never fitted on.

    Args:
        held_out: About pictures like those of training that training did not have; with gold answers,
            where there are no ``new_sources``.
        checkpoint: A folder or a hub name.
        device: ``auto``, ``cpu`` ...
        method: One of ``METHODS``.
        same_answer: Whether a given answer equals the gold one.
        train: Whose pictures were trained on; at most ``MOST_TRAINING_PICTURES`` are looked at. Without
            them the reference that the checkpoint has is used, if it has one.
        new_sources: With gold answers, about pictures of sources that training never met. Confidence is
            then fitted on these alone, as what it is asked about will come from new sources too; what is
            familiar is still measured by the held-out ones.
        progress: Given what is done and how often, a context whose value is called with what is done.

    Returns:
        What was written: the fits, and over all answers how many there are, how many are right, the
        expected calibration error before and after, the risk-coverage curve and the recommended least
        confidence (each answer by a fit on the other half of the sources, or of the images).

    Raises:
        InputError: The method is unknown, there are too few records or pictures, or an image cannot be
            read.
    """
    chosen = _method(method)
    given = [*new_sources] or [held_out]
    groups = [_usable(group) for group in given]
    left_out = sum(r.split == _TRAIN for group in (held_out, *new_sources) for r in group.records)
    _check_enough(sum(len(group.records) for group in groups), left_out)
    folder = _place_to_write(checkpoint)
    answerer = _load_answerer(checkpoint, device)
    trained = _trained(answerer, train, progress)
    seen, summaries = _ask(answerer, groups, progress)
    reference = answerer.reference
    if trained:
        own = sorted({(held_out.root, r.image) for r in held_out.records if r.split != _TRAIN})
        summaries |= _unseen(answerer, own, summaries, progress)
        reference = _fit_reference(trained, [summaries[key] for key in own])
    answers = _answered(seen, summaries, reference, same_answer)
    written = {
        "weights": answerer.identity,
        "records": len(answers),
        "new_sources": bool(new_sources),
        "training_rows_left_out": left_out,
        **fit_answers(answers, chosen).to_dict(),
        **_quality(answers, cross_fitted(answers, chosen, by_source=bool(new_sources))),
    }
    if reference is not None:
        pictures, left_out_pictures = len(reference.features), len(reference.distances)
        written["reference"] = {"pictures": pictures, "left_out_pictures": left_out_pictures}
        if trained:
            reference.save(folder, answerer.identity)
    write_json(folder / FILE, written)
    return written


def _method(name: str) -> Method:
    for method in METHODS:
        if method == name:
            return method
    raise InputError(f"unknown method {name!r}", f"Use one of: {', '.join(METHODS)}.")


def _place_to_write(checkpoint: str) -> Path:
    from biod2c_core.model.checkpoints.folder import EMBEDDED, locate

    folder = locate(checkpoint)
    if folder == EMBEDDED and not Path(checkpoint).exists():
        raise InputError(
            f"{checkpoint} is part of the installed package, which is not written to",
            "Make a copy with 'biod2c export FOLDER', and name that.",
        )
    return folder


def _load_answerer(checkpoint: str, device: str) -> Answerer:
    with imports_for_good():
        from biod2c_core.model.generation import Answerer

    return Answerer.load(checkpoint, device)


def _usable(group: Group) -> Group:
    rows = [r for r in group.records if r.answer.strip() and r.split != _TRAIN]
    return Group(rows, group.root)


def _check_enough(usable: int, left_out: int) -> None:
    if usable < 2 * LEAST_RECORDS:
        more = f" ({left_out} more are of the split train)" if left_out else ""
        raise InputError(
            f"{usable} records with answers are too few to calibrate on{more}",
            f"Give at least {2 * LEAST_RECORDS}.",
        )


Key = tuple[Path, str]  # root and image


def _trained(answerer: Answerer, train: Sequence[Group], progress: Progress) -> list[Tensor]:
    """Summaries of pictures of training, a fixed random choice where there are many."""
    keys = sorted({(group.root, record.image) for group in train for record in group.records})
    random.Random(0).shuffle(keys)
    keys = keys[:MOST_TRAINING_PICTURES]
    return _summaries(answerer, keys, "Looking at pictures of training", progress)


def _summaries(
    answerer: Answerer, keys: Sequence[Key], what: str, progress: Progress
) -> list[Tensor]:
    """Summaries of pictures, (F,) each."""
    found: list[Tensor] = []
    if not keys:
        return found
    with progress(what, len(keys)) as advance:
        for batch in _batches(keys):
            found += answerer.encode([_load(key) for key in batch]).summary.cpu()
            advance(len(batch))
    return found


def _load(key: Key) -> Any:
    from biod2c_core.data.images import load_image

    return load_image(key[1], root=key[0])


Seen = tuple["Key", "Record", str, float]  # picture, record, answer, confidence


def _unseen(
    answerer: Answerer, keys: Sequence[Key], seen: Mapping[Key, Tensor], progress: Progress
) -> dict[Key, Tensor]:
    """Summaries of the pictures that nothing was asked about: with new sources, the held-out ones."""
    rest = [key for key in keys if key not in seen]
    found = _summaries(answerer, rest, "Looking at held-out pictures", progress)
    return dict(zip(rest, found, strict=True))


def _ask(
    answerer: Answerer, groups: Sequence[Group], progress: Progress
) -> tuple[list[Seen], dict[Key, Tensor]]:
    """Answer in batches; questions about one image share its encoding.

    Returns:
        The answers, and the summary (F,) of each picture.
    """
    asked = [((group.root, record.image), record) for group in groups for record in group.records]
    asked.sort(key=lambda pair: pair[0])
    seen: list[Seen] = []
    summaries: dict[Key, Tensor] = {}
    with progress("Answering held-out records", len(asked)) as advance:
        for batch in _batches(asked):
            keys = list(dict.fromkeys(key for key, _ in batch))
            encoding = answerer.encode([_load(key) for key in keys])
            summaries |= dict(zip(keys, encoding.summary.cpu(), strict=True))
            pairs = [(keys.index(key), record.question) for key, record in batch]
            answers = answerer.answer_encoded(encoding, pairs)
            for (key, record), answer in zip(batch, answers, strict=True):
                seen.append((key, record, answer.text, answer.confidence))
            advance(len(batch))
    return seen, summaries


def _batches(asked: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(asked), _BATCH):
        yield asked[start : start + _BATCH]


def _fit_reference(trained: Sequence[Tensor], held_out: Sequence[Tensor]) -> Reference:
    import torch

    from biod2c_core.model.familiarity import Reference

    return Reference.fit(torch.stack([*trained]), torch.stack([*held_out]))


def _answered(
    seen: Sequence[Seen],
    summaries: dict[Key, Tensor],
    reference: Reference | None,
    same_answer: Callable[[str, str], bool],
) -> list[Answered]:
    known: dict[Key, float] = {}
    if reference is not None:
        import torch

        values = reference.familiarity(torch.stack(list(summaries.values())))
        known = dict(zip(summaries, values, strict=True))
    return [
        Answered(
            image=str(key[0] / key[1]),
            source=record.source,
            text=text,
            confidence=confidence,
            familiarity=known.get(key),
            right=same_answer(record.answer, text),
        )
        for key, record, text, confidence in seen
    ]


def _quality(answers: Sequence[Answered], after: Sequence[float]) -> dict[str, Any]:
    """What the confidences are worth before and after, over all answers and by kind."""
    rows = list(zip(answers, after, strict=True))
    kinds = {
        "all": rows,
        "yes_no": [row for row in rows if is_yes_no(row[0].text)],
        "other": [row for row in rows if not is_yes_no(row[0].text)],
    }
    quality: dict[str, Any] = {
        "answers": {name: _errors(kind) for name, kind in kinds.items() if kind}
    }
    right = [answer.right for answer in answers]
    quality["recommended_min_confidence"] = recommend(after, right)
    quality["risk_coverage"] = risk_coverage(after, right)
    return quality


def _errors(rows: Sequence[tuple[Answered, float]]) -> dict[str, Any]:
    right = [answer.right for answer, _ in rows]
    before = [answer.confidence for answer, _ in rows]
    return {
        "records": len(rows),
        "accuracy": round(sum(right) / len(right), 4),
        "error_before": round(expected_error(before, right), 4),
        "error_after": round(expected_error([value for _, value in rows], right), 4),
    }
