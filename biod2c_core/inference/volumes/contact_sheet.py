"""A contact sheet of a volume: where the model looks in each slice, and what the slices say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from biod2c_core.errors import InputError
from biod2c_core.inference.attention.attention_map import AttentionMap, View
from biod2c_core.inference.attention.export import map_panel, map_row, save_array, save_sheet
from biod2c_core.inference.attention.render import Panel, arrange
from biod2c_core.inference.attention.report import AttentionRequest
from biod2c_core.inference.questions import AskOptions, Question, Reply, check_question
from biod2c_core.inference.volumes.ask import Slice, Whole, combine

if TYPE_CHECKING:  # loads torch, which bad input never waits for
    from biod2c_core.inference.vqa_model import VQAModel

MAX_TILES = 120  # a page of more is too large to look at
_SIDE = 160  # of a tile on the sheet, the longer one, in pixels
_FINER = 2  # so many times finer is its picture, for print
_COLUMNS = 10
_SPREAD = 3  # answers of the whole that the heading names


def check_tiles(slices: Sequence[Slice]) -> None:
    """Refuse more slices than a sheet has room for, before a model runs for them.

    Raises:
        InputError: There are too many.
    """
    if len(slices) > MAX_TILES:
        step = math.ceil(len(slices) / MAX_TILES)
        raise InputError(
            f"{len(slices)} slices of {slices[0].path} are chosen, and a contact sheet has room for "
            f"{MAX_TILES}",
            f"Choose fewer, a range or every so many: --slices ::{step}.",
        )


def draw_slices(
    model: VQAModel, slices: Sequence[Slice], request: AttentionRequest
) -> Iterator[dict[str, Any]]:
    """Answer a question about each slice, and draw the maps on one sheet; one slice is in memory.

    Args:
        model: The loaded model.
        slices: Of one volume, from :func:`biod2c_core.inference.volumes.ask.open_slices`, that
            :func:`check_tiles` has passed; the sheet has them in this order.
        request: One question; what it says of boxes, tokens and fusion is not read.

    Yields:
        A JSON row a slice, as of one image with ``slice`` in front; last, when picture and array have
        been written, that of the whole, whose ``slice`` is None.

    Raises:
        ImageError: A slice is damaged; nothing is written then.
        InputError: The question is empty or too long, or a layer, head or scale does not exist.
        ConfigError: The model has no fusion, and the method needs it.
    """
    question, view = Question(check_question(request.questions[0])), request.view()
    panels: list[Panel] = []
    replies: list[Reply] = []
    maps: list[AttentionMap] = []
    for slice_ in slices:
        picture = slice_.load()
        reply, shown = _look(model, picture, question, view)
        replies.append(reply)
        maps.append(shown)
        panels.append(replace(_tile(picture, shown), title=f"slice {slice_.index}"))
        row = {"slice": slice_.index, **map_row(shown, picture.size)}
        del picture  # before the next one is decoded
        yield row
    whole = combine(question, replies, [slice_.index for slice_ in slices], AskOptions())
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(panels))))
    heading = [question.text, _heading(whole)]
    save_sheet(request.output, arrange([panels], heading, _SIDE, columns))
    if request.npy:
        save_array(request.npy, maps)
    yield {"slice": None, **whole.to_row()}


def _look(
    model: VQAModel, picture: Image.Image, question: Question, view: View
) -> tuple[Reply, AttentionMap]:
    encoding = model.answerer.encode([picture])
    ((reply, answer),) = model.replies(encoding, [(0, question)], AskOptions())
    return reply, model.explain(picture, question.text, answer, view)


def _tile(picture: Image.Image, shown: AttentionMap) -> Panel:
    small = picture.copy()
    small.thumbnail((_SIDE * _FINER, _SIDE * _FINER), Image.Resampling.LANCZOS)
    return map_panel(small, shown)


def _heading(whole: Whole) -> str:
    """The answer of the whole, and behind it the others: ``yes (0.41) in 14 of 25 slices; no ...``."""
    said = [
        f"{each.answer or '(no answer)'} ({each.confidence:.2f}) in {len(each.places)} of "
        f"{len(whole.slices)} slices"
        for each in whole.spread[:_SPREAD]
    ]
    more = len(whole.spread) - _SPREAD
    return "the whole: " + "; ".join([*said, f"and {more} more"] if more > 0 else said)
