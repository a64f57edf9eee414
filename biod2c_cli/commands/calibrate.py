"""``biod2c calibrate``: make the confidence of a checkpoint mean what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli.console import emit_json
from biod2c_cli.options import Device, ImageRoot, Model


def calibrate(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Held-out records with answers (JSONL).")
    ],
    method: Annotated[str, typer.Option(help="isotonic or temperature.")] = "isotonic",
    image_root: ImageRoot = None,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Fit the confidence of a model to how often it is right, and keep that beside its weights.

    Writes calibration.json into the checkpoint's folder; ask and serve use it from then on. An answer
    is right when it equals the gold one apart from case, punctuation and blanks.
    """
    from biod2c_core.data.records import iter_records
    from biod2c_core.evaluation.score.normalize import plain
    from biod2c_core.inference.calibration import calibrate as fit

    def same(gold: str, given: str) -> bool:
        return plain(gold) == plain(given)

    root = image_root or records.parent
    written = fit(list(iter_records(records)), root, model, device, method, same)
    emit_json({key: value for key, value in written.items() if key != "points"})
