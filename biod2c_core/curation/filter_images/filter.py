"""``filter-images run``: score every image once, and keep the clean ones.

While a run is under way its rows are in ``OUT.partial``; ``OUT`` appears in one step when all images
are scored, in the order of their names. ``OUT.manifest.json`` says which images and which classifier it
belongs to, so that a run of other things is refused instead of mixed in. A row has the checksum of its
picture: one that has changed is scored again, or refused once ``OUT`` is there. A run in shards writes
``OUT.shard-I-of-N`` each, and whoever ends last joins them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.append_log import read_rows
from biod2c_core.atomic import FILE_NAMES, NOT_UTF8, atomic_open, write_json
from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.decode import batched
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.labels import CLEAN, POLLUTED
from biod2c_core.curation.filter_images.scoring import (
    Engine,
    Score,
    ScoreLog,
    read_scores,
    score_images,
)
from biod2c_core.curation.filter_images.sources import Item, image_names, picture_checksum
from biod2c_core.errors import InputError
from biod2c_core.foreign import read_json, real_path

THRESHOLD = 0.5
_READERS, _AT_ONCE = 8, 1000  # threads that hash images, and how many they are given
_CHANGED = "Give another output, or remove this one and its manifest to start over."


@dataclass(frozen=True)
class RunReport:
    """What a run found.

    Attributes:
        images: All of this run (or shard).
        clean: Those below the threshold.
        polluted: Those from it on.
        failed: Those that cannot be read.
        scored_now: Those scored by this call; the others were done before.
        complete: Whether ``OUT`` is there; a shard may have to wait for the others.
    """

    images: int
    clean: int
    polluted: int
    failed: int
    scored_now: int
    complete: bool


def filter_images(
    items: Sequence[Item],
    output: Path,
    encoder: ImageEncoder,
    image_filter: ImageFilter,
    *,
    threshold: float = THRESHOLD,
    engine: Engine = score_images,
    shard: tuple[int, int] = (0, 1),
    advance: Callable[[int], None] = lambda _: None,
) -> RunReport:
    """Score images into ``output``; killed at any moment and started again, each exactly once.

    Args:
        items: The images, names unique.
        output: JSONL: ``image``, ``polluted`` (the probability) and ``label``, or ``image`` and
            ``error``; ``checksum`` of the picture's bytes. If it exists already, only its labels are
            recomputed for the threshold.
        encoder: The frozen encoder.
        image_filter: The head.
        threshold: From this probability on an image is polluted.
        engine: Who scores: by default this process; see :mod:`.engines`.
        shard: Index of this process, from 0, and how many there are; see :func:`parse_shard`.
        advance: Called with the number of images done, those of earlier calls included.

    Raises:
        InputError: The output belongs to other images or another classifier, is in use, or there is
            no such shard; or it is complete, and a picture has changed since.
    """
    index, count = shard
    if not 0 <= index < count:
        raise InputError(f"shard {index} of {count}", "Shards are counted from 0.")
    classifier = f"{encoder.identity} {image_filter.identity}"
    if output.exists():
        scores = _finished(output, items, classifier)
        _check_unchanged(output, items[index::count], scores)
        advance(len(items))
        _write(output, scores, threshold)
        return _report(scores, threshold, 0, True)
    _claim(output, items, classifier)
    mine = items[index::count]
    target = output if count == 1 else _shard_path(output, index, count)
    done, new = _score(mine, target, lambda todo: engine(todo, encoder, image_filter), advance)
    if count == 1:
        _write(output, done, threshold)
        _partial(target).unlink(missing_ok=True)
    complete = count == 1 or _join(output, items, count, threshold)
    return _report(done, threshold, new, complete)


def parse_shard(text: str) -> tuple[int, int]:
    """``I/N`` as a pair.

    Raises:
        InputError: It is something else, or there is no such shard.
    """
    index, slash, count = text.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return int(index), int(count)
    raise InputError(
        f"shard {text!r}", "Expected I/N: 0/4, 1/4, 2/4 and 3/4 are all of four parts."
    )


def _score(
    items: Sequence[Item],
    target: Path,
    score: Callable[[Sequence[Item]], Iterable[list[Score]]],
    advance: Callable[[int], None],
) -> tuple[list[Score], int]:
    """Score what the partial file lacks: all scores in order, and how many are new."""
    with ScoreLog(_partial(target)) as log:
        todo = [item for item in items if item.name not in log.scores]
        for item, checksum in _checksums([item for item in items if item.name in log.scores]):
            if log.scores[item.name].checksum == checksum:
                advance(1)
            else:  # another picture of the same name
                todo.append(item)
        for scores in score(todo):
            log.add(scores)
            advance(len(scores))
        log.sync()
        return [log.scores[item.name] for item in items], len(todo)


def _join(output: Path, items: Sequence[Item], count: int, threshold: float) -> bool:
    """Write the output if every shard has all of its rows; several may do so, with the same result."""
    found: dict[str, Score] = {}
    parts = [_partial(_shard_path(output, index, count)) for index in range(count)]
    for part in parts:
        if part.exists():
            found |= {score.image: score for score in read_scores(part)}
    if len(found) < len(items):
        return output.exists()  # another shard has joined them and removed the parts
    _write(output, [found[item.name] for item in items], threshold)
    for part in parts:
        part.unlink(missing_ok=True)
    return True


def _shard_path(output: Path, index: int, count: int) -> Path:
    return output.with_name(f"{output.name}.shard-{index}-of-{count}")


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _manifest_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.manifest.json")


def _claim(output: Path, items: Sequence[Item], classifier: str) -> None:
    """Refuse to mix two runs in one output."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.name}\0{item.problem}\0".encode("utf-8", NOT_UTF8))
    manifest = {
        "images": len(items),
        "names": digest.hexdigest()[:20],
        "classifier": classifier,
    }
    path = _manifest_path(output)
    if not path.exists():
        write_json(path, manifest)
    elif (before := _read_manifest(path)) != manifest:
        what = "another classifier" if before["classifier"] != classifier else "other images"
        raise InputError(f"{output} was begun with {what}", _CHANGED)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
        if isinstance(found, dict) and "classifier" in found:
            return found
    except (OSError, ValueError):
        pass
    raise InputError(f"{path} is damaged", _CHANGED)


def _finished(output: Path, items: Iterable[Item], classifier: str) -> list[Score]:
    """The scores of a run that is complete, if these images are among them."""
    if not _manifest_path(output).exists():
        raise InputError(f"{output} exists already and is not an output of this command", _CHANGED)
    if _read_manifest(_manifest_path(output))["classifier"] != classifier:
        raise InputError(f"{output} was made by another classifier", _CHANGED)
    scores = list(read_scores(output))
    known = {score.image for score in scores}
    for item in items:  # some may have been moved away since
        if item.name not in known:
            raise InputError(f"{output} is complete and lacks {item.name!r}", _CHANGED)
    return scores


def _check_unchanged(output: Path, items: Sequence[Item], scores: Iterable[Score]) -> None:
    """Refuse an output about other pictures of the same names; those moved away are not asked for."""
    then = {score.image: score.checksum for score in scores}
    for item, now in _checksums([item for item in items if then[item.name]]):
        if now and now != then[item.name]:
            raise InputError(f"{item.name!r} has changed since {output} was made", _CHANGED)


def _checksums(items: Sequence[Item]) -> Iterator[tuple[Item, str]]:
    """Images and the checksums of their bytes as they are now."""
    with ThreadPoolExecutor(_READERS) as pool:
        for some in batched(items, _AT_ONCE):
            yield from zip(some, pool.map(picture_checksum, some), strict=True)


def _label(score: Score, threshold: float) -> str | None:
    if score.polluted is None:
        return None
    return POLLUTED if score.polluted >= threshold else CLEAN


def _write(output: Path, scores: Iterable[Score], threshold: float) -> None:
    with atomic_open(output) as file:
        for score in scores:
            row = score.to_row()
            if score.polluted is not None:
                row["label"] = _label(score, threshold)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _report(
    scores: Sequence[Score], threshold: float, scored_now: int, complete: bool
) -> RunReport:
    counts = Counter(_label(score, threshold) for score in scores)
    return RunReport(
        images=len(scores),
        clean=counts[CLEAN],
        polluted=counts[POLLUTED],
        failed=counts[None],
        scored_now=scored_now,
        complete=complete,
    )


def names_with_label(output: Path) -> dict[str, str]:
    """Label by image name of a complete output; unreadable images are left out."""
    rows = (row for _, row in read_rows(output))
    return {row["image"]: row["label"] for row in rows if "label" in row}


def check_list_path(target: Path, source: Path, output: Path) -> None:
    """Refuse a list that would overwrite what it is made from.

    Raises:
        InputError: The target is the source or the output.
    """
    for path in (source, output):
        if real_path(target) == real_path(path):
            raise InputError(f"the list {target} would overwrite {path}", "Give another --list.")


def write_clean_list(output: Path, source: Path, target: Path) -> int:
    """Write what is clean: the rows of a JSONL source as they are, else one name per line.

    Returns:
        How many lines there are.

    Raises:
        InputError: The target is the source or the output itself.
    """
    check_list_path(target, source, output)
    labels = names_with_label(output)
    count = 0
    rows = source.is_file() and source.suffix.lower() != ".tar"
    with atomic_open(target, errors=NOT_UTF8 if rows else FILE_NAMES) as file:
        if rows:
            for name, row in image_names(source):
                if labels.get(name) == CLEAN:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
        else:
            for name, label in labels.items():
                if label == CLEAN:
                    file.write(f"{name}\n")
                    count += 1
    return count
