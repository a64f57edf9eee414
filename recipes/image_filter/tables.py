"""Tables as journals and screens show them: printed rules, spreadsheets, heat maps of numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_HEADS = (
    *("Group", "Age (years)", "Male, n (%)", "p value", "OR (95% CI)", "Mean ± SD", "Dose", "n"),
    *("Control", "Patients", "Stage", "Sensitivity", "AUC", "Follow-up", "Treatment", "HR", "Site"),
)
_ROWS = (
    *("Hypertension", "Diabetes mellitus", "Current smoker", "Body mass index", "Tumour size"),
    *("Lymph node status", "Haemoglobin", "Creatinine", "Total cholesterol", "Ejection fraction"),
    *(
        "Right lung",
        "Left lung",
        "Recurrence",
        "Overall survival",
        "Platelet count",
        "CRP",
        "Total",
    ),
    *("Model A", "Model B", "Baseline", "Placebo", "Week 4", "Week 12", "Grade 1", "Grade 2"),
)
_CELLS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{rng.uniform(0, 99):.1f}",
    lambda rng: f"{rng.randint(1, 900)}",
    lambda rng: f"{rng.randint(1, 90)} ({rng.uniform(1, 99):.1f})",
    lambda rng: f"{rng.uniform(1, 80):.1f} ± {rng.uniform(0.1, 9):.1f}",
    lambda rng: f"{rng.uniform(0, 1):.3f}",
    lambda rng: rng.choice(("+", "-", "yes", "no", "n/a", "<0.001", "NS")),
)


@dataclass(frozen=True)
class _Look:
    """Colours and rules of one table."""

    paper: tuple[int, int, int]
    ink: tuple[int, int, int]
    rules: str
    head_fill: tuple[int, int, int] | None
    stripes: tuple[int, int, int] | None
    heat: bool


def _draw_look(rng: random.Random) -> _Look:
    dark = rng.random() < 0.12
    tint = rng.choice(((222, 232, 245), (230, 230, 230), (253, 240, 220), (44, 88, 140)))
    return _Look(
        paper=(34, 34, 38)
        if dark
        else rng.choice(((255, 255, 255), (255, 255, 255), (250, 248, 240))),
        ink=(225, 225, 225) if dark else rng.choice(((0, 0, 0), (40, 40, 40))),
        rules=rng.choice(("journal", "journal", "grid", "rows", "none")),
        head_fill=None if dark or rng.random() < 0.5 else tint,
        stripes=None if dark or rng.random() < 0.6 else (243, 243, 246),
        heat=not dark and rng.random() < 0.15,
    )


def draw_table(rng: random.Random) -> Image.Image:
    """One table on a page of 300 to 900 pixels."""
    look = _draw_look(rng)
    size = rng.choice((10, 12, 13, 15, 18))
    font = ImageFont.load_default(size)
    columns, rows = rng.randint(2, 8), rng.randint(3, 18)
    makers = [rng.choice(_CELLS) for _ in range(columns)]
    texts = [[rng.choice(("", "Variable", "Characteristic")), *rng.choices(_HEADS, k=columns)]]
    texts += [[rng.choice(_ROWS), *(make(rng) for make in makers)] for _ in range(rows)]
    pitch = round(size * rng.uniform(1.35, 2.2))
    widths = [
        round(max(font.getlength(row[index]) for row in texts) + size * rng.uniform(0.8, 2))
        for index in range(columns + 1)
    ]
    margin, title = rng.randint(4, 40), rng.random() < 0.5
    top = margin + (2 * pitch if title else 0)
    width, height = sum(widths) + 2 * margin, top + pitch * len(texts) + margin
    page = Image.new("RGB", (width, height), look.paper)
    draw = ImageDraw.Draw(page)
    if title:
        text = f"Table {rng.randint(1, 9)}. {' '.join(rng.choices(_ROWS, k=4))}"
        draw.text((margin, margin), text, fill=look.ink, font=font)
    for number, row in enumerate(texts):
        _draw_row(draw, row, number, (margin, top + number * pitch), widths, pitch, look, font, rng)
    _draw_rules(draw, look, margin, top, widths, pitch, len(texts))
    page.thumbnail((900, 900), Image.Resampling.LANCZOS)
    return page


def _draw_row(
    draw: ImageDraw.ImageDraw,
    row: list[str],
    number: int,
    corner: tuple[int, int],
    widths: list[int],
    pitch: int,
    look: _Look,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    rng: random.Random,
) -> None:
    x, y = corner
    fill = look.head_fill if number == 0 else look.stripes if number % 2 else None
    if fill:
        draw.rectangle((x, y, x + sum(widths), y + pitch), fill=fill)
    for index, (text, width) in enumerate(zip(row, widths, strict=True)):
        ink = look.ink
        if look.heat and number and index:
            share = rng.random()
            heat = (255, round(255 - 150 * share), round(255 - 200 * share))
            draw.rectangle((x, y, x + width, y + pitch), fill=heat)
        if number == 0 and look.head_fill and sum(look.head_fill) < 400:
            ink = (255, 255, 255)
        draw.text((x + 3, y + pitch // 8), text, fill=ink, font=font)
        x += width


def _draw_rules(
    draw: ImageDraw.ImageDraw,
    look: _Look,
    left: int,
    top: int,
    widths: list[int],
    pitch: int,
    rows: int,
) -> None:
    right, bottom = left + sum(widths), top + rows * pitch
    lines = {
        "none": [],
        "journal": [top, top + pitch, bottom],
        "rows": list(range(top, bottom + 1, pitch)),
        "grid": list(range(top, bottom + 1, pitch)),
    }[look.rules]
    for y in lines:
        draw.line((left, y, right, y), fill=look.ink)
    if look.rules == "grid":
        for index in range(len(widths) + 1):
            x = left + sum(widths[:index])
            draw.line((x, top, x, bottom), fill=look.ink)
