"""Leaderboards: what is laid side by side, what is refused, and which differences are real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import find_browser, open_browser

from biod2c_core.atomic import write_json
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.evaluate import write_run
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.report.leaderboard import board_table, make_boards
from biod2c_core.evaluation.report.leaderboard_page import leaderboard_html
from biod2c_core.evaluation.report.tables import BEST
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.statistics.analysis import analyse

HOSTILE = "<script>boom()</script>"
Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A run in which the first ``right`` of 40 questions are right; gives ``NAME=FOLDER``."""

    def make_run(name: str, right: int, profile: str = "multimedeval", source: str = "toy") -> str:
        records = [
            Record(
                str(i), f"{i // 2}.png", "?", "yes" if i % 2 else f"lung {source}", source=source
            )
            for i in range(40)
        ]
        said = {r.id: Prediction(r.id, r.answer if int(r.id) < right else "x") for r in records}
        analysis = analyse(score(records, said, get_profile(profile)))
        folder = tmp_path / f"{name}-{profile}-{source}".replace("/", "_")
        write_run(folder, analysis, tmp_path)
        return f"{name}={folder}"

    return make_run


def test_runs_of_one_convention_share_a_board(make: Make) -> None:
    arguments = [make("weak", 10), make("strong", 40), make("near", 38), make("strong", 9, "exact")]
    first, second = make_boards(arguments)
    assert [entry.name for entry in first.entries] == ["weak", "strong", "near"]
    assert [entry.name for entry in second.entries] == ["strong"]
    assert first.best["closed_accuracy"] == "strong"
    weak, strong, near = first.entries
    # 30 of 40 wrong answers on 15 images are a real difference, 2 on one image are not
    assert weak.is_worse("closed_accuracy") is True
    assert near.is_worse("closed_accuracy") is False
    assert strong.is_worse("closed_accuracy") is None
    assert weak.tests is not None
    test = weak.tests["closed_accuracy"]
    assert test.difference == pytest.approx(-0.75)
    assert test.p_adjusted >= test.p
    # a column that applies to no question is left out: no record has an answer type
    assert "closed_accuracy_by_type" not in first.labels
    rows = {row[0].text: row for row in board_table(first).rows}
    column = list(board_table(first).columns).index("closed ACC")
    assert rows["strong"][column].mark == BEST
    assert rows["near"][column].text.endswith("~")
    assert not rows["weak"][column].text.endswith("~")
    assert json.loads(json.dumps(first.to_dict()))["best"]["open_accuracy"] == "strong"


def test_other_questions_are_another_board(make: Make) -> None:
    assert len(make_boards([make("a", 3), make("a", 3, source="other")])) == 2


def test_runs_need_names_of_their_own(make: Make) -> None:
    run = make("a", 3)
    with pytest.raises(InputError, match="two runs are named 'a'"):
        make_boards([run, run])


def test_a_run_without_its_questions_is_shown_untested(make: Make) -> None:
    arguments = [make("a", 3), make("b", 30)]
    (Path(arguments[0].split("=")[1]) / "questions.jsonl").unlink()
    (board,) = make_boards(arguments)
    assert any("Not tested" in note and "a" in note for note in board.notes)
    assert board.entries[0].is_worse("closed_accuracy") is None


def published(path: Path, **changes: Any) -> Path:
    row = {
        "name": "Theirs",
        "data": "toy",
        "profile": "multimedeval",
        "reference": "Paper, Table 9",
    }
    write_json(path, [row | {"scores": {"closed_accuracy": 0.5}} | changes])
    return path


@pytest.mark.parametrize(
    "scores",
    [[[]], [["a", 1]], {"closed_accuracy": "1"}, {"closed_accuracy": None}, {"a": True}, 1],
)
def test_scores_that_are_no_numbers_are_refused(scores: Any, make: Make) -> None:
    runs = [make("weak", 3), make("strong", 9)]
    path = Path(runs[0].partition("=")[2]) / "questions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(json.dumps({**rows[0], "scores": scores}) + "\n")
    with pytest.raises(InputError, match=r"questions.jsonl:1 is not a scored"):
        make_boards(runs)


def test_published_numbers_stand_beside_their_own_convention_alone(
    make: Make, tmp_path: Path
) -> None:
    path = published(tmp_path / "p.json")
    ours, exact = make("a", 3), make("a", 3, "exact")
    board, other = make_boards([ours, exact], path)
    entry = board.entries[-1]
    assert (entry.name, entry.source) == ("Theirs (published)", "Paper, Table 9")
    assert entry.scores["closed_accuracy"]["value"] == 0.5
    assert [each.name for each in other.entries] == ["a"]
    with pytest.raises(
        InputError, match="Theirs on toy are by 'multimedeval', the runs by 'exact'"
    ):
        make_boards([exact], path)
    for wrong in ({"scores": {"closed_accuracy": 50}}, {"reference": ""}, {"scores": 1}):
        with pytest.raises(InputError, match="is not a list of published numbers"):
            make_boards([ours], published(path, **wrong))


def test_the_papers_numbers_need_its_data_and_convention(make: Make, tmp_path: Path) -> None:
    def board_of(profile: str) -> Any:
        argument = make("a", 3, profile, "vqa-rad")
        path = Path(argument.split("=")[1]) / "result.json"
        result = json.loads(path.read_text("utf-8"))
        result["data"] |= {"split": "test", "questions": 451}
        write_json(path, result)
        return make_boards([argument])[0]

    ours = board_of("multimedeval")
    assert [entry.name for entry in ours.entries][-1] == "BioD2C (published)"
    assert ours.entries[-1].scores["open_accuracy"]["value"] == 0.310
    theirs = board_of("exact")
    assert len(theirs.entries) == 1
    assert any("are by multimedeval, so they are left out" in note for note in theirs.notes)


def test_the_page_loads_nothing_and_runs_no_foreign_markup(make: Make) -> None:
    page = leaderboard_html(make_boards([make(HOSTILE, 3), make("b", 20)]))
    assert HOSTILE not in page
    assert "&lt;script&gt;boom()" in page
    assert page.count("<script") == 1
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.browser
def test_the_page_sorts(make: Make, tmp_path: Path) -> None:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    boards = make_boards([make("b", 10), make("c", 40), make("a", 38)])
    (tmp_path / "page.html").write_text(leaderboard_html(boards), "utf-8")
    names = "[...document.querySelector('tbody').rows].map(r => r.children[0].textContent)"
    with open_browser(browser, tmp_path) as page:
        page.open(tmp_path / "page.html")
        press = "document.querySelectorAll('thead button')[{}].click()"
        page.run(press.format(1))
        assert page.run(names) == ["c", "a", "b"]
        page.run(press.format(1))
        assert page.run(names) == ["b", "a", "c"]
        page.run(press.format(0))
        assert page.run(names) == ["a", "b", "c"]
        assert page.problems == []


def test_a_folder_that_is_not_an_evaluation_says_what_it_is(tmp_path: Path) -> None:
    training, every = tmp_path / "stage1", tmp_path / "all"
    for file in (training / "run.json", training / "config.yaml", every / "profiles.json"):
        write_json(file, {"profiles": []})
    with pytest.raises(InputError, match=r"stage1 is a training run.*--model .*stage1/model"):
        make_boards([str(training)])
    for argument in (every, every / "profiles.json"):
        with pytest.raises(InputError, match=r"all was scored by all profiles.*--profile NAME"):
            make_boards([str(argument)])
