"""``biod2c evaluate``: predict, score, compare."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from biod2c_cli import console
from biod2c_cli.evaluation_options import (
    BaseUrl,
    Budget,
    Consistency,
    Controls,
    Data,
    Gpus,
    Judge,
    JudgePasses,
    Limit,
    MaskText,
    Model,
    Output,
    Predictions,
    Prices,
    ProfileName,
    Prompt,
    Repeat,
    ShuffleSeed,
    Split,
    Temperature,
    Training,
)
from biod2c_cli.options import PLAIN, AsJson, Device, ImageRoot
from biod2c_core.errors import InputError, counted

if TYPE_CHECKING:
    from biod2c_core.evaluation.report.tables import Table
    from biod2c_core.evaluation.request import Request
    from biod2c_core.evaluation.statistics.analysis import Analysis

DEFAULT_COMMAND = "run"


class EvaluateGroup(TyperGroup):
    """Takes ``evaluate DATA ...`` as the default command, next to the named ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command first where no command is named."""
        if not args or args[0] not in self.commands:
            args = [DEFAULT_COMMAND, *(args or ["--help"])]
        return super().parse_args(ctx, args)


app = typer.Typer(
    **PLAIN, cls=EvaluateGroup, help="Score a model, or anyone's predictions, on a data set."
)


@app.callback()
def evaluate() -> None:
    """Score a model, or anyone's predictions, on a data set."""


@app.command(DEFAULT_COMMAND, hidden=True)
def run(
    data: Data,
    model: Model = None,
    split: Split = "test",
    predictions: Predictions = None,
    profile: ProfileName = "multimedeval",
    output: Output = None,
    train: Training = None,
    limit: Limit = None,
    prompt: Prompt = None,
    temperature: Temperature = 0.0,
    repeat: Repeat = 1,
    controls: Controls = False,
    shuffle_images: ShuffleSeed = None,
    mask_text: MaskText = False,
    consistency: Consistency = False,
    judge: Judge = None,
    judge_passes: JudgePasses = 1,
    base_url: BaseUrl = None,
    budget: Budget = None,
    prices: Prices = None,
    image_root: ImageRoot = None,
    device: Device = "auto",
    gpus: Gpus = 1,
    as_json: AsJson = False,
) -> None:
    """Score a model, or anyone's predictions, on a data set.

    Predicting and scoring are separate: answers go to a predictions file that can be scored again.
    Which profile to quote for which paper: docs/commands/evaluate.md. Also here: ``evaluate
    compare``, ``evaluate table``, ``evaluate agree``.
    """
    from biod2c_core.evaluation.evaluate import evaluate
    from biod2c_core.evaluation.judge.judge_run import Judging
    from biod2c_core.evaluation.locate import find_data
    from biod2c_core.evaluation.predict.asking import Asking, Sampling
    from biod2c_core.evaluation.predict.models import Endpoint
    from biod2c_core.evaluation.request import Request
    from biod2c_core.evaluation.score.profiles import ALL

    if predictions is not None and model is None and not _was_begun(predictions):
        raise InputError(
            f"no predictions at {predictions}",
            "Check the name; or name a model to write them (the embedded one: -m biod2c-tiny).",
        )
    endpoint = Endpoint(base_url, budget, prices=prices)
    request = Request(
        data=find_data(data),
        split=None if split == "all" else split,
        predictions=predictions,
        run=output,
        model=model,
        devices=(device,) if gpus == 1 else tuple(f"cuda:{index}" for index in range(gpus)),
        profile=profile,
        shuffle_seed=shuffle_images,
        images=image_root,
        training=find_data(train) if train else None,
        judging=Judging(judge, endpoint, judge_passes, console.note) if judge else None,
        mask_text=mask_text,
        controls=controls,
        consistency=consistency,
        limit=limit,
        asking=Asking(sampling=Sampling(temperature) if temperature else None, prompt=prompt),
        repeat=repeat,
    )
    load = partial(
        _load_model,
        predictions=request.predictions_file,
        endpoint=endpoint,
        instruct=prompt is None,
    )
    if profile == ALL:
        _all_profiles(request, load, as_json)
        return
    result = evaluate(request, load, lambda n: console.progress("Questions", n))
    if as_json:
        console.emit_json(result.to_dict())
    else:
        _print(result)
    result.raise_if_incomplete()


def _was_begun(predictions: Path) -> bool:
    """Whether there are predictions, or those of the first of several processes that were stopped."""
    from biod2c_core.evaluation.predict.predictions_file import shard_path

    return predictions.exists() or shard_path(predictions, 0).exists()


def _load_model(checkpoint: str | None, device: str, **options: Any) -> Any:
    from biod2c_core.evaluation.predict.models import load_model

    return load_model(checkpoint, device, **options)


def _all_profiles(request: Request, load: Any, as_json: bool) -> None:
    from biod2c_core.evaluation.every_profile import evaluate_by_all
    from biod2c_core.evaluation.report.profiles_table import profiles_table

    if request.judging is not None:
        raise InputError("--profile all asks no judge", "Name one profile, or leave out --judge.")
    again = {
        "--mask-text": request.mask_text,
        "--controls": request.controls,
        "--consistency": request.consistency,
        "--repeat": request.repeat > 1,
    }
    for option in (name for name, wanted in again.items() if wanted):
        raise InputError(
            f"--profile all only scores, so {option} does not go with it",
            f"Name one profile, or leave out {option}.",
        )
    result = evaluate_by_all(request, load, lambda n: console.progress("Questions", n))
    if as_json:
        console.emit_json(result)
        return
    _print_table(profiles_table(result))


def _print_table(table: Table) -> None:
    console.print_table(table.title, list(table.columns), table.plain_rows())
    for line in table.notes:
        console.note(line)


def _print(result: Analysis) -> None:
    from biod2c_core.evaluation.report.sections import result_tables

    for table in result_tables(result.to_dict()):
        _print_table(table)


@app.command()
def compare(
    data: Data,
    first: Annotated[Path, typer.Argument(help="Predictions of system A.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Predictions of system B.", metavar="B")],
    split: Split = "test",
    profile: ProfileName = "multimedeval",
    as_json: AsJson = False,
) -> None:
    """Test two prediction files against each other on the same questions.

    Intervals and p-values treat the questions about one image together; p is two-sided, by random
    sign flips of whole images, and corrected over the columns by Holm's method.
    """
    from dataclasses import asdict

    from biod2c_core.evaluation.compare_files import compare_files
    from biod2c_core.evaluation.locate import find_data
    from biod2c_core.evaluation.score.profiles import get_profile

    tests = compare_files(
        find_data(data), first, second, None if split == "all" else split, profile
    )
    if as_json:
        console.emit_json({key: asdict(test) for key, test in tests.items()})
        return
    labels = {metric.key: metric.label for metric in get_profile(profile).metrics}
    rows = [
        [
            labels[key],
            f"{test.first:.3f}",
            f"{test.second:.3f}",
            f"{test.difference:+.3f}",
            "-" if test.low is None else f"{test.low:+.3f} - {test.high:+.3f}",
            f"{test.p:.4f}",
            f"{test.p_adjusted:.4f}",
            str(test.questions),
        ]
        for key, test in tests.items()
    ]
    columns = ["metric", "A", "B", "A - B", "95% interval", "p", "p (Holm)", "questions"]
    console.print_table(f"A {first} against B {second}", columns, rows)


@app.command()
def table(
    results: Annotated[
        list[str],
        typer.Argument(
            help="Run folders or result.json files, each also as NAME=PATH.", metavar="RUN"
        ),
    ],
    paper_table: Annotated[
        int, typer.Option(min=1, max=2, help="1: data sets by models. 2: variants on BioVGQ.")
    ] = 1,
    leaderboard: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            help="Instead, one table a data set and profile, any of them: with intervals, and which "
            "differences are real. Also written as a page to sort.",
        ),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Published numbers for the leaderboard, by profile."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, latex or json.")] = "text",
) -> None:
    """Lay results side by side as the paper's Tables 1 and 2, or as a leaderboard."""
    if published and not leaderboard:
        raise InputError("--published goes with --leaderboard", "Name the page: PAGE.html.")
    if leaderboard:
        _leaderboard(results, leaderboard, published, form)
        return
    from biod2c_core.evaluation.report.paper_tables import load_result, table_1, table_2, to_json

    loaded = [load_result(argument) for argument in results]
    found = table_1(loaded) if paper_table == 1 else table_2(loaded)
    _emit([found], to_json(found), form)


def _leaderboard(runs: list[str], page: Path, published: Path | None, form: str) -> None:
    from biod2c_core.atomic import atomic_open
    from biod2c_core.evaluation.report.leaderboard import board_table, make_boards
    from biod2c_core.evaluation.report.leaderboard_page import leaderboard_html

    boards = make_boards(runs, published)
    _emit([board_table(board) for board in boards], [board.to_dict() for board in boards], form)
    with atomic_open(page) as file:
        file.write(leaderboard_html(boards))
    console.note(f"wrote {page}")


def _emit(tables: list[Table], values: Any, form: str) -> None:
    from biod2c_core.evaluation.report.tables import to_latex, to_markdown

    if form == "json":
        console.emit_json(values)
    elif form in ("markdown", "latex"):
        write = to_markdown if form == "markdown" else to_latex
        console.emit("\n".join(map(write, tables)).rstrip("\n"))
    elif form == "text":
        for table in tables:
            _print_table(table)
    else:
        raise InputError(f"unknown format {form!r}", "Use text, markdown, latex or json.")


@app.command()
def agree(
    first: Annotated[Path, typer.Argument(help="A judge's verdicts, or a CSV.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Human scores, or another judge.", metavar="B")],
    column: Annotated[str, typer.Option(help="Which score, in both files.")] = "score",
    second_column: Annotated[
        str | None,
        typer.Option(help="Which score in B, where it has another name."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a judge's scores with human ones, or two judges.

    Each file is RUN/judge.jsonl, or a CSV with the columns id and score. Only answers that both have
    scored count.
    """
    from biod2c_core.evaluation.judge.agreement import agree, agreement_rows, read_scores

    found = agree(read_scores(first, column), read_scores(second, second_column or column))
    if as_json:
        console.emit_json(found.to_dict())
        return
    title = f"A {first} against B {second}: {counted(found.answers, 'answer')}"
    console.print_table(title, ["measure", "value", "95% interval"], agreement_rows(found))
    if found.only_first or found.only_second:
        console.note(f"scored in A alone: {found.only_first}, in B alone: {found.only_second}")
    if found.unscored_first or found.unscored_second:
        console.note(
            f"in both, but unscored: {found.unscored_first} in A, {found.unscored_second} in B"
        )
