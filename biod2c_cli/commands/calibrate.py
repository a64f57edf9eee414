"""``biod2c calibrate``: make the confidence of a checkpoint mean what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli import completion
from biod2c_cli.console import emit_json, note, progress
from biod2c_cli.options import Device, ImageRoot
from biod2c_core.errors import InputError


def calibrate(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Held-out records with answers (JSONL).")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Checkpoint folder or hub name, which is written to; required.",
            autocompletion=completion.models,
        ),
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            help="Records that the model was trained on (JSONL): their pictures tell what is familiar; "
            "repeatable."
        ),
    ] = None,
    new_sources: Annotated[
        list[Path] | None,
        typer.Option(
            help="Records with answers about pictures of sources that training never met (JSONL): "
            "confidence is fitted on these instead of RECORDS; repeatable."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="isotonic or temperature.")] = "isotonic",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the risk-coverage curve into this PNG.")
    ] = None,
    image_root: ImageRoot = None,
    device: Device = "auto",
) -> None:
    """Fit the confidence of a model to how often it is right, and keep that beside its weights.

    Writes calibration.json and, with --train, familiarity.safetensors into the checkpoint's folder; ask,
    serve and attn-map use them from then on. An answer is right when it equals the gold one apart from
    case, punctuation and blanks. Rows of the split train are left out.
    """
    if model is None:
        raise InputError(
            "calibrate writes into the folder of a checkpoint, and none is given",
            "Name it with --model.",
        )
    from biod2c_core.data.records import iter_records
    from biod2c_core.evaluation.score.normalize import plain
    from biod2c_core.inference.calibrating import Group
    from biod2c_core.inference.calibrating import calibrate as fit
    from biod2c_core.inference.risk_coverage import check_plot_path, draw_risk_coverage

    def same(gold: str, given: str) -> bool:
        return plain(gold) == plain(given)

    def read(file: Path) -> Group:
        return Group(list(iter_records(file)), image_root or file.parent)

    if plot is not None:
        check_plot_path(plot)
    trained, others = map(read, train or ()), map(read, new_sources or ())
    written = fit(
        read(records), model, device, method, same, [*trained], [*others], progress=progress
    )
    if written["training_rows_left_out"]:
        note(f"note: {written['training_rows_left_out']} rows of the split train are left out.")
    if plot is not None:
        draw_risk_coverage(written["risk_coverage"], written["recommended_min_confidence"], plot)
    for kind in ("yes_no", "other"):
        written[kind] = {key: value for key, value in written[kind].items() if key != "points"}
    emit_json(written)
    note(_advice(written["recommended_min_confidence"]))


def _advice(recommended: float | None) -> str:
    if recommended is None:
        return "note: no --min-confidence leaves 95 % right answers of these."
    return f"note: --min-confidence {recommended:.2f} leaves at least 95 % right answers of these."
