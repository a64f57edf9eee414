"""A picture of a run's log: losses, gate, learning rate, speed and scores over the steps."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_open
from biod2c_core.model.losses import log_names
from biod2c_core.training.logs.run_log import read_log

_PANELS = (
    ("loss", ("loss", *log_names(), "eval_loss")),
    ("gate", ("beta",)),
    ("learning rate", ("learning_rate",)),
    ("tokens a second", ("tokens_per_s",)),
)
# of what the log says of a validation: not scores of answers
_NO_SCORES = ("eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


def draw_curves(log_file: Path, picture: Path) -> bool:
    """Draw the log of a run.

    Args:
        log_file: ``log.jsonl``.
        picture: The PNG to write.

    Returns:
        Whether it was drawn; not so without matplotlib (extra ``plots``).
    """
    if find_spec("matplotlib") is None:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_log(log_file)
    panels = [*_PANELS]
    if scores := _scores(rows):
        panels.append(("scores of the validation", scores))
    figure = Figure(figsize=(9, 3 * math.ceil(len(panels) / 2)), layout="constrained")
    for place, (title, keys) in enumerate(panels, 1):
        axes = figure.add_subplot(math.ceil(len(panels) / 2), 2, place)
        for key in keys:
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True), label=key, marker="." if len(points) < 9 else ""
                )
        axes.set_title(title)
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend()
    with atomic_open(picture, "wb") as file:
        FigureCanvasAgg(figure).print_png(file)
    return True


def _scores(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """What the log calls the scores of generated answers."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("eval_"))
    return tuple(key for key in keys if not key.startswith(_NO_SCORES))
