"""``biod2c attn-map --slices``: a contact sheet of a volume, a tile each slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biod2c_cli.console import emit, emit_json, note, one_line, progress
from biod2c_core.errors import InputError

if TYPE_CHECKING:
    from biod2c_core.inference.attention.report import AttentionRequest
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.volumes.slices import Slices


def draw_volume(
    volume: ImageChoice,
    slices: Slices,
    request: AttentionRequest,
    checkpoint: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Draw the contact sheet; then print the rows, or a line a slice and one of the whole.

    Args:
        volume: Which one.
        slices: Which of its slices.
        request: One question, and the picture to write.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...
        as_json: Print JSON rows.

    Raises:
        ImageError: A slice cannot be read; nothing is written then, nor if the following are raised.
        InputError: There are too many slices, or something that is asked for cannot be shown.
    """
    from biod2c_core.collector import imports_for_good
    from biod2c_core.inference.attention.export import check_picture_path
    from biod2c_core.inference.volumes.ask import open_slices
    from biod2c_core.inference.volumes.contact_sheet import check_tiles, draw_slices

    _check_one_map_a_slice(request)
    check_picture_path(request.output)
    request.view()  # an unknown method is refused before a model is loaded
    with open_slices(volume, slices) as (found, remarks):
        check_tiles(found)
        found[0].load()

        with imports_for_good():
            from biod2c_core.inference.vqa_model import VQAModel

        model = VQAModel.load(checkpoint, device)
        for line in remarks:
            note(f"note: {line}.")
        with progress(f"Drawing {volume.path}", len(found)) as advance:
            rows = []
            for row in draw_slices(model, found, request):
                rows.append(row)
                if row["slice"] is not None:
                    advance()
    *each, whole = rows
    _note_familiarity(model.answerer.name, each)
    if as_json:
        for row in rows:
            emit_json(row)
        return
    for row in each:
        emit(f"slice {row['slice']}: {one_line(row['answer'])} ({row['confidence']:.2f})")
    emit(f"whole: {one_line(whole['answer'])} ({whole['confidence']:.2f})")


def _check_one_map_a_slice(request: AttentionRequest) -> None:
    if len(request.questions) > 1:
        raise InputError(
            f"{len(request.questions)} questions are given, and a contact sheet is about one",
            "Draw a sheet for each.",
        )
    given = {
        "--without-fusion": request.without_fusion,
        "--tokens": request.tokens,
        "--boxes": request.boxes is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(
                f"{name} does not go with --slices, which draws one map a slice",
                "Leave it out, or draw one slice with --slice.",
            )


def _note_familiarity(model: str, rows: list[dict[str, Any]]) -> None:
    from biod2c_core.inference.questions import about_picture, about_pictures, is_unlike

    unlike = [f"slice {row['slice']}" for row in rows if is_unlike(row.get("familiarity"))]
    lines = about_pictures(model, unlike, len(rows), "slices")
    if "familiarity" not in rows[0]:
        lines = about_picture(model, None)
    for line in lines:
        note(f"note: {line}.")
