"""``biod2c data``: import, check, count, split and mix data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from biod2c_cli import completion, console
from biod2c_cli.commands.data_harness import export_vlmevalkit, shuffle_choices
from biod2c_cli.commands.data_queue import queue
from biod2c_cli.commands.data_text import MinConfidence, print_text, scrub_text, text_finder
from biod2c_cli.options import PLAIN, AsJson, ImageRoot
from biod2c_cli.sub_commands import SubCommands
from biod2c_core.errors import InputError, PartialResultError, counted

if TYPE_CHECKING:
    from biod2c_core.data.stats import Stats
    from biod2c_core.data.validate import ValidationReport

app = typer.Typer(
    **PLAIN, cls=SubCommands, no_args_is_help=True, help="Import, check, count, split and mix data."
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="JSONL, or a known data set.")]
Out = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The JSONL to write.")]
FormatName = Annotated[
    Optional[str],  # noqa: UP045 (Typer evaluates this on Python 3.10 too)
    typer.Option(
        "--format",
        help="Name of the format; detected without it.",
        autocompletion=completion.formats,
    ),
]
Seed = Annotated[int, typer.Option(help="Another seed chooses differently.")]


@app.command("import")
def import_(
    names: Annotated[
        list[str], typer.Argument(metavar="[FORMAT] SOURCE", help="A file or folder, as published.")
    ],
    output: Out,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    language: Annotated[str, typer.Option(help="SLAKE: en, zh or all.")] = "en",
    source_name: Annotated[
        str, typer.Option(help="Name of the data set, where the layout does not tell it.")
    ] = "",
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Keep image paths that leave the image root.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a published data set into this project's records.

    Formats: vqa-med, omnimedvqa, medxpertqa, probmed, mmmu, vlmevalkit, jsonl, vqa-rad, slake,
    path-vqa, pmc-vqa, llava-med, biovgq, pmc-oa, hub-parquet, csv, image-folder; without one it is
    detected. Bad rows go to OUT.rejected.jsonl with file, line and
    reason, and the exit code is 3.
    """
    from biod2c_core.data.formats import ReadOptions
    from biod2c_core.data.importing import import_records

    if len(names) > 2:
        raise InputError(f"expected [FORMAT] SOURCE, got {len(names)} names", "Import one source.")
    format_name, source = names if len(names) == 2 else (None, names[0])
    with console.progress("rows", None) as advance:
        report = import_records(
            source,
            output,
            format=format_name,
            options=ReadOptions(language=language, source=source_name),
            strict=strict,
            allow_outside=allow_outside,
            advance=advance,
        )
    for line in report.notes:
        console.note(line)
    done = f"{counted(report.accepted, 'record')} of format {report.format} written to {output}"
    if as_json:
        console.emit_json({**vars(report), "output": output})
    else:
        console.emit(done + (f"; images through {report.link}" if report.link else ""))
    if report.rejected:
        raise PartialResultError(
            f"rejected rows: {report.rejected:,}",
            f"Places and reasons: {report.rejected_file}",
        )


@app.command()
def validate(
    data: Data,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", metavar="OUT", help="Write every finding here, as JSON."),
    ] = None,
    format: FormatName = None,
    image_root: ImageRoot = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that decode images.")] = 1,
    text: Annotated[
        bool, typer.Option("--text", help="Also find text in pixels, about 3 s an image.")
    ] = False,
    min_confidence: MinConfidence = None,
    as_json: AsJson = False,
) -> None:
    """Look for missing, damaged and duplicate images, shared splits, empty and over-long texts.

    Exit code 3 if anything was found.
    """
    from biod2c_core.atomic import write_json
    from biod2c_core.data.formats import ReadOptions, stream_records
    from biod2c_core.data.formats import image_root as default_root
    from biod2c_core.data.validate import MOST_FINDINGS
    from biod2c_core.data.validate import validate as check

    root, options = image_root or default_root(data, format), ReadOptions()
    with console.progress("images", None) as advance:
        items = stream_records(data, format, options)
        finder = text_finder(text, root, output, workers, min_confidence, advance)
        report = check(items, root, workers=workers, advance=advance, find_text=finder)
    for line in options.notes.lines():
        console.note(line)
    if output is not None:
        write_json(output, report.to_json())
    if as_json:
        console.emit_json(report.to_json())
    else:
        _print_findings(report)
        print_text(report.text or [])
    if found := sum(report.counts().values()):
        most = f"The first {MOST_FINDINGS:,} of each kind" if report.left_out else "All of them"
        where = f"{most}: {output}." if output else "All of them, as JSON: -o FILE."
        raise PartialResultError(f"findings: {found:,}", where)


def _print_findings(report: ValidationReport) -> None:
    title = f"{counted(report.records, 'record')}, {counted(report.images, 'image')}"
    examples = {finding.kind: finding for finding in reversed(report.findings)}
    rows = [
        [kind, f"{count:,}", f"{examples[kind].where[0]}: {examples[kind].detail}"[:100]]
        for kind, count in report.counts().items()
    ]
    nothing = ["none", "0", "copies are found by path or by looks; crops and mirror images are not"]
    console.print_table(title, ["finding", "count", "first"], rows or [nothing])


@app.command()
def stats(
    data: Data,
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--plot", metavar="PNG", help="Draw the tables into this picture."),
    ] = None,
    format: FormatName = None,
    as_json: AsJson = False,
) -> None:
    """Count records, images, lengths, modalities and the balance of answers."""
    from biod2c_core.data.formats import iter_good_records
    from biod2c_core.data.stats import plot_stats, summarize

    summary = summarize(iter_good_records(data, format))
    if plot is not None:
        plot_stats(summary, plot)
        console.note(f"plotted to {plot}")
    if as_json:
        console.emit_json(summary.to_json())
    else:
        _print_stats(summary)


def _print_stats(summary: Stats) -> None:
    plain = summary.to_json()
    title = f"{counted(plain['records'], 'record')}, {counted(plain['images'], 'image')}"
    rows = [
        [f"{name}: {key}", f"{count:,}", f"{count / max(1, plain['records']):.1%}"]
        for name in ("splits", "sources", "answer_types", "modalities", "organs")
        for key, count in list(plain[name].items())[:10]
    ]
    console.print_table(title, ["what", "records", "share"], rows)
    lengths = [
        [name, *(str(plain[f"{name}_words"][key]) for key in ("median", "p95", "longest"))]
        for name in ("question", "answer")
    ]
    console.print_table("Words", ["text", "median", "95%", "longest"], lengths)
    answers = [
        [
            name,
            f"{each['answers']:,}",
            f"{each['distinct']:,}",
            f"{each['majority']:.1%}",
            ", ".join(each["top"]),
        ]
        for name, each in (("closed", plain["closed_answers"]), ("open", plain["open_answers"]))
    ]
    console.print_table("Answers", ["type", "questions", "distinct", "majority", "top"], answers)


@app.command()
def split(
    data: Data,
    output: Out,
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of train, validation and test.")
    ] = (0.8, 0.1, 0.1),
    group: Annotated[
        str, typer.Option(help="What stays together: image, source, or a tag such as patient.")
    ] = "image",
    seed: Seed = 0,
) -> None:
    """Assign new splits: no image in two of them, kinds evenly spread."""
    from biod2c_core.data.split import split_data

    shares = dict(zip(("train", "validation", "test"), fractions, strict=True))
    records = split_data(data, output, shares, seed=seed, group=group)
    rows = []
    for name in shares:
        chosen = [record for record in records if record.split == name]
        images = len({record.image for record in chosen})
        closed = sum(record.answer_type == "CLOSED" for record in chosen)
        rows.append(
            [name, f"{len(chosen):,}", f"{images:,}", f"{closed / max(1, len(chosen)):.1%}"]
        )
    console.print_table(str(output), ["split", "records", "images", "closed"], rows)


@app.command()
def mix(
    parts: Annotated[list[str], typer.Argument(metavar="PATH[@SPLIT][=WEIGHT]...")],
    output: Out,
    biovgq: Annotated[
        bool,
        typer.Option(
            "--biovgq",
            help="The paper's composition: only the training split of SLAKE, PathVQA and VQA-RAD.",
        ),
    ] = False,
    seed: Seed = 0,
) -> None:
    """Build a training set from several; weight 0.5 takes half the records, 2 takes each twice."""
    from biod2c_core.data.mix import is_in_biovgq, mix_data, parse_part

    chosen = [parse_part(part) for part in parts]
    with console.progress("records", None) as advance:
        keep = is_in_biovgq if biovgq else (lambda _: True)
        report = mix_data(chosen, output, seed=seed, keep=keep, advance=advance)
    rows = [
        [source or "(none)", f"{count:,}", f"{report.images[source]:,}"]
        for source, count in report.records.items()
    ]
    total = [f"{sum(counts.values()):,}" for counts in (report.records, report.images)]
    console.print_table(str(output), ["source", "records", "images"], [*rows, ["all", *total]])
    for part, reason in report.dropped.items():
        console.note(f"nothing was taken of {part}: {reason}")


app.command("queue")(queue)
app.command("scrub-text")(scrub_text)
app.command("shuffle-choices")(shuffle_choices)
app.command("export-vlmevalkit")(export_vlmevalkit)
