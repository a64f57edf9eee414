"""From an image file and questions to the picture, the array and the rows of ``attn-map``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biod2c_core.collector import imports_for_good
from biod2c_core.inference.attention.attention_map import View, find_method
from biod2c_core.inference.attention.boxes import check_boxes, parse_boxes
from biod2c_core.inference.attention.export import (
    arrange_maps,
    check_picture_path,
    map_row,
    save_array,
    save_sheet,
)
from biod2c_core.inference.image_choice import ImageChoice


@dataclass(frozen=True)
class AttentionRequest:
    """What to show of an image.

    Attributes:
        questions: At least one.
        output: The picture to write.
        method: See :class:`biod2c_core.inference.attention.attention_map.View`.
        layers: Layers to average; None for all.
        heads: Heads to average; None for all.
        scales: Scales to keep; None for all.
        without_fusion: Show the model without fusion beside it.
        tokens: A panel for each token of the answer.
        boxes: See :func:`biod2c_core.inference.attention.boxes.parse_boxes`.
        npy: An array to write.
    """

    questions: Sequence[str]
    output: Path
    method: str = "fusion"
    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None
    scales: Sequence[int] | None = None
    without_fusion: bool = False
    tokens: bool = False
    boxes: str | None = None
    npy: Path | None = None

    def view(self) -> View:
        """Which attention is shown.

        Raises:
            InputError: The method is unknown.
        """
        return View(find_method(self.method), self.layers, self.heads, self.scales)


def make_report(
    image: ImageChoice,
    request: AttentionRequest,
    checkpoint: str | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Write the picture (and the array), and return a JSON row for each question.

    Args:
        image: The image file, and which picture in it.
        request: What to show.
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        InputError: Something given cannot be used; nothing is written then.
    """
    check_picture_path(request.output)
    view = request.view()
    boxes = parse_boxes(request.boxes) if request.boxes else []
    picture = image.load()
    check_boxes(boxes, picture.size)

    with imports_for_good():  # bad input fails before torch is loaded
        from biod2c_core.inference.attention.explain import explain_without_fusion
        from biod2c_core.inference.vqa_model import VQAModel

    model = VQAModel.load(checkpoint, device)
    answerer = model.answerer
    pairs = [(0, question) for question in request.questions]
    answers = answerer.answer_images([picture], pairs)
    maps = [
        model.explain(picture, question, answer, view)
        for question, answer in zip(request.questions, answers, strict=True)
    ]
    beside = (
        explain_without_fusion(answerer, picture, request.questions, view)
        if request.without_fusion
        else []
    )
    save_sheet(request.output, arrange_maps(picture, maps, beside, boxes, request.tokens))
    if request.npy:
        save_array(request.npy, maps)
    rows = [map_row(each, picture.size, boxes, request.tokens) for each in maps]
    for row, other in zip(rows, beside, strict=False):
        row["without_fusion"] = map_row(other, picture.size, boxes)
    return rows
