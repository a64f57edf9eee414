"""Reports: the tables as text, and the page in a real browser."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import Page, find_browser, open_browser
from PIL import Image

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.report.html import to_html
from biod2c_core.evaluation.report.svg import DotRow, dot_plot
from biod2c_core.evaluation.report.tables import (
    BEST,
    SECOND,
    Cell,
    Table,
    score_table,
    to_latex,
    to_markdown,
)
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.statistics.analysis import Analysis, TrainingData, analyse

HOSTILE = "</script><script>boom()</script><img src=x onerror=boom()> \u2028 & \"'"


def make_analysis(folder: Path, questions: int = 130) -> Analysis:
    for index in range(5):
        Image.new("RGB", (40, 30), (50 * index, 0, 0)).save(folder / f"{index}.png")
    records = [
        Record(
            f"q{i}",
            f"{i % 5}.png" if i % 13 else "missing.png",
            HOSTILE if i == 3 else f"Question {i}?",
            ["yes", "no", "left lung"][i % 3],
            answer_type="OPEN" if i % 3 == 2 else "CLOSED",
            split="test",
            source="toy",
            tags={"organ": ["head", "chest"][i % 2], "type": "POS, PRES" if i % 4 else "POS"},
        )
        for i in range(questions)
    ]
    said = {
        r.id: Prediction(r.id, HOSTILE if r.id == "q3" else "yes", i / 200)
        for i, r in enumerate(records)
    }
    evaluation = score(records, said, get_profile("multimedeval"))
    training = TrainingData([Record("t", "0.png", "Q?", "no", "CLOSED")], folder)
    return analyse(evaluation, training=training, image_root=folder)


def test_markdown() -> None:
    rows = [[Cell("a|b"), Cell("1", BEST)], [Cell("c\nd"), Cell("2", SECOND)]]
    text = to_markdown(Table("<T>", ["x", "y"], rows, ["note"]))
    assert text.splitlines() == [
        "**&lt;T&gt;**",
        "",
        "| x | y |",
        "| --- | ---: |",
        "| a\\|b | **1** |",
        "| c d | <u>2</u> |",
        "",
        "note",
    ]


def test_latex_escapes_every_special_character() -> None:
    rows = [[Cell(r"\a{b}&c%$#_~^"), Cell("1", BEST)]]
    text = to_latex(Table("50% of $x_1$", ["m", "v"], rows))
    assert r"\caption{50\% of \$x\_1\$}" in text
    assert (
        r"\textbackslash{}a\{b\}\&c\%\$\#\_\textasciitilde{}\textasciicircum{} & \textbf{1} \\"
        in text
    )
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_the_table_of_a_result_has_everything_beside_each_number(tmp_path: Path) -> None:
    result = make_analysis(tmp_path).to_dict()
    table = score_table(json.loads(json.dumps(result)))
    assert list(table.columns) == [
        *("metric", "value", "95% interval", "majority", "question only"),
        *("unseen images", "questions"),
    ]
    assert len(table.rows) == len(get_profile("multimedeval").metrics)
    assert "profile multimedeval 2" in table.title
    assert result["data"]["checksum"][:12] in table.title
    assert table.notes == [
        "1 of 6 test images are also in the training records (24 of 130 questions), by path or "
        "equal pixels; crops and rescaled copies are not found."
    ]


def test_the_dot_stands_where_the_value_is() -> None:
    svg = dot_plot([DotRow("<a>", 0.5, 0.25, 0.75, "n 4", {"majority": 0.1})], "title")
    assert 'class="dot" cx="400.0"' in svg  # 190 + 420 / 2
    assert 'x1="295.0" x2="505.0"' in svg
    assert "&lt;a&gt;" in svg
    assert "majority 0.100" in svg


class References(HTMLParser):
    """What a page is made of, and what it points to."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_holds_all_and_loads_nothing(tmp_path: Path) -> None:
    page = to_html(make_analysis(tmp_path), tmp_path)
    parser = References()
    parser.feed(page)
    assert parser.elements["script"] == 2
    assert parser.elements["img"] == 0  # the page's script makes them
    assert parser.addresses == ["data:,"]
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(data["questions"]) == 130
    assert data["questions"][3]["question"] == HOSTILE
    assert sum(bool(picture) for picture in data["images"]) == 5


def test_a_confidence_that_is_no_number_leaves_the_page_readable(tmp_path: Path) -> None:
    analysis = make_analysis(tmp_path)
    first, *others = analysis.evaluation.questions
    strange = replace(first.prediction, confidence=float("nan"))
    questions = (replace(first, prediction=strange), *others)
    evaluation = replace(analysis.evaluation, questions=questions)
    page = to_html(replace(analysis, evaluation=evaluation), tmp_path)
    text = page.split('id="data">')[1].split("</script>")[0]
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["questions"][0]["confidence"] is None


def test_an_image_outside_the_root_stays_outside(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    record = Record("1", "../secret.png", "?", "yes")
    evaluation = score([record], {"1": Prediction("1", "yes")}, get_profile("multimedeval"))
    page = to_html(analyse(evaluation), inside)
    assert "data:image" not in page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(to_html(make_analysis(folder), folder), "utf-8")
    with open_browser(browser, folder) as opened:
        opened.open(folder / "report.html")
        yield opened


CARDS = "[...document.querySelectorAll('article')]"
COUNT = "document.getElementById('count').textContent"


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"(() => {{ const field = document.forms.filters.elements['{name}'];"
        f"field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def reset(page: Page) -> None:
    for name in ("verdict", "tag:organ", "tag:type", "order", "search"):
        choose(page, name, "")


@pytest.mark.browser
def test_the_page_opens_without_errors_and_runs_no_foreign_markup(page: Page) -> None:
    reset(page)
    assert page.run(COUNT).startswith("130 of 130 questions")
    assert page.run(f"{CARDS}.length") == 60
    assert page.run("document.querySelectorAll('article')[3].textContent").count("boom()") == 4
    loaded = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
    assert page.run(loaded) > 0
    assert page.problems == []


@pytest.mark.browser
def test_more_questions_come_on_demand(page: Page) -> None:
    reset(page)
    page.run("document.getElementById('more').click()")
    page.run("document.getElementById('more').click()")
    assert page.run(f"{CARDS}.length") == 130
    assert page.run("document.getElementById('more').hidden") is True


@pytest.mark.browser
def test_filters(page: Page) -> None:
    reset(page)
    choose(page, "verdict", "wrong")
    # every "no" and every "left lung" is wrong: 43 + 43 of 130, q3 (a "yes") as well
    assert page.run(COUNT) == "87 of 130 questions, 0 right"
    assert page.run(f"{CARDS}.every(card => card.className === 'wrong')") is True
    choose(page, "tag:organ", "head")
    assert page.run(COUNT).startswith("43 of 130")
    reset(page)
    choose(page, "tag:type", "PRES")
    assert page.run(COUNT).startswith("97 of 130")
    reset(page)
    choose(page, "search", "QUESTION 77")
    assert page.run(f"{CARDS}.map(card => card.dataset.id)") == ["q77"]
    reset(page)
    choose(page, "order", "sure")
    assert page.run(f"{CARDS}[0].dataset.id") == "q129"
    assert page.problems == []


@pytest.mark.browser
def test_filters_stay_in_the_address(page: Page) -> None:
    reset(page)
    choose(page, "verdict", "right")
    choose(page, "search", "question 6")
    fragment = page.run("location.hash")
    shown = page.run(COUNT)
    assert not shown.startswith("130 of 130")
    address = page.run("location.pathname")
    page.open(Path("/dev/null"))
    page.open(Path(address), fragment)
    assert page.run(COUNT) == shown


@pytest.mark.browser
def test_the_column_of_the_plots_can_be_chosen(page: Page) -> None:
    page.run(
        "(() => { const m = document.getElementById('metric'); m.value = 'bleu_1';"
        "m.dispatchEvent(new Event('change')); })()"
    )
    shown = "[...document.querySelectorAll('figure[data-metric]')].filter(f => !f.hidden)"
    assert page.run(f"{shown}.map(f => f.dataset.metric)") == ["bleu_1", "bleu_1"]


def test_no_table_prints_a_power_of_ten() -> None:
    from biod2c_core.evaluation.report.profiles_table import profiles_table

    tiny = {"label": "open BLEU-4", "value": 1.6e-308, "low": 0.0, "high": 3e-7, "questions": 9}
    profile = {"name": "medevalkit", "version": "1", "scores": {"open_bleu_4": tiny}}
    totals = {
        "printed_open_acc": {"label": "printed as open.acc", "value": 2.5e-5},
        "empty_answers": {"label": "empty answers", "value": 3.0},
    }
    data = {"source": "x", "split": "test", "checksum": "0" * 64, "questions": 9}
    counts = dict.fromkeys(
        ("closed_by_type", "open_by_type", "closed_by_answer", "open_by_answer"), 0
    )
    result = {
        "profiles": [{**profile, "totals": totals}],
        "data": data | counts,
        "predictions": None,
        "need_a_judge": [],
    }
    shown = [[cell.text for cell in row[1:4]] for row in profiles_table(result).rows]
    assert shown == [
        ["open BLEU-4", "0.000", "0.000 - 0.000"],
        ["printed as open.acc", "0.000", ""],
        ["empty answers", "3", ""],
    ]
