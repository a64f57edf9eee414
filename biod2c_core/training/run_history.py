"""What a run is made of, so that a resumed one is the same run, and the starts that it has had."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from biod2c_core.config import TrainingConfig
from biod2c_core.contents import pictures_checksum
from biod2c_core.errors import InputError
from biod2c_core.foreign import read_json
from biod2c_core.model.checkpoints.folder import fingerprint, locate
from biod2c_core.training.inputs.collate import VQADataset

_NAMES = {
    "records": "training records",
    "pictures": "training pictures",
    "validation_records": "validation records",
    "validation_pictures": "validation pictures",
    "start": "weights to start from",
}


def read_run(output: Path) -> dict[str, Any]:
    """``run.json`` of a run folder; empty where there is none yet.

    Raises:
        InputError: It is damaged.
    """
    path = output / "run.json"
    if not path.exists():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error})", "Choose another --output.") from error
    if not isinstance(value, dict) or value.get("stage") not in (1, 2):
        raise InputError(f"{path} does not describe a run", "Choose another --output.")
    return value


def check_kept(output: Path) -> None:
    """Refuse to go on in a run folder that somebody has removed: its log would lack its first rows.

    Raises:
        InputError: ``run.json``, which a run writes as it begins, is gone.
    """
    if not (output / "run.json").exists():
        raise InputError(
            f"{output} was removed or replaced while the run went on",
            "Start the same command again.",
        )


def inputs_of(
    config: TrainingConfig, checkpoint: str | None, datasets: Sequence[VQADataset]
) -> dict[str, str | None]:
    """Checksums of all that a run is made from: records and pictures by content, weights by theirs.

    Args:
        config: The resolved configuration.
        checkpoint: The model that the run starts from, if any.
        datasets: For training and, if there is one, for validation.

    Returns:
        By name; None where nothing can be said, as of a language model that the hub gives.
    """
    found: dict[str, str | None] = {}
    for prefix, dataset in zip(("", "validation_"), datasets, strict=False):
        checksum, names = _read_records(dataset)
        found[f"{prefix}records"] = checksum
        images = dataset.images
        found[f"{prefix}pictures"] = pictures_checksum((name, images[n]) for name, n in names)
    folder = Path(config.model.language_model) if checkpoint is None else locate(checkpoint)
    described = (folder / "config.json").is_file()
    return {**found, "start": fingerprint(folder) if described else None}


def _read_records(dataset: VQADataset) -> tuple[str, set[tuple[str, int]]]:
    """A checksum of the records in their order, which the data order depends on; names and images."""
    digest, names = hashlib.sha256(), set()
    for each, number in zip(dataset.records, dataset.image_numbers, strict=True):
        row = [each.id, each.image, each.question, each.answer, each.queue, each.boxes]
        digest.update(json.dumps(row).encode() + b"\n")
        names.add((each.image, number))
    return digest.hexdigest(), names


def check_same_inputs(output: Path, now: Mapping[str, str | None]) -> None:
    """Check that nothing that a run was started with has changed; a run of an earlier version knows none.

    Raises:
        InputError: Something has; all of it is named.
    """
    before = read_run(output).get("inputs")
    if not isinstance(before, dict):
        return
    changed = [
        name
        for key, name in _NAMES.items()
        if before.get(key) != now.get(key) and (key not in before or before[key] is not None)
    ]
    if changed:
        raise InputError(
            f"{output} was started with other {', '.join(changed)}",
            "Put back what was changed, or start anew in another folder.",
        )


def changed_settings(before: TrainingConfig, now: TrainingConfig, stage: int) -> list[str]:
    """Settings of a stage that differ, each as ``stage2.learning_rate: 0.001 -> 0.0005``."""
    old, new = vars(before.stage(stage)), vars(now.stage(stage))
    return [f"stage{stage}.{key}: {old[key]} -> {new[key]}" for key in new if old[key] != new[key]]


def starts_of(
    output: Path, command: str, processes: int, step: int, changed: Sequence[str]
) -> list[dict[str, Any]]:
    """The starts that a run has had, and this one.

    Args:
        output: The run folder.
        command: The command line.
        processes: Of the whole run.
        step: From which it goes on.
        changed: Settings that are no longer what they were.
    """
    earlier = read_run(output).get("starts")
    now = {
        "at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "processes": processes,
        "step": step,
        "changed": list(changed),
    }
    return [*(earlier if isinstance(earlier, list) else []), now]
