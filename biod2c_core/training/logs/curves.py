"""A picture of a run's log: losses, gate, learning rate and speed over the steps."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from biod2c_core.atomic import atomic_open
from biod2c_core.model.losses import log_names
from biod2c_core.training.logs.run_log import read_log

_PANELS = (
    ("loss", ("loss", *log_names(), "eval_loss")),
    ("gate", ("beta",)),
    ("learning rate", ("learning_rate",)),
    ("tokens a second", ("tokens_per_s",)),
)


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
    figure = Figure(figsize=(9, 6), layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
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
