"""``biod2c filter-images``: the image filter of section 2: fit, run, label."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biod2c_cli import console
from biod2c_cli.options import PLAIN, AsJson, Device, ImageRoot
from biod2c_cli.sub_commands import SubCommands
from biod2c_core.errors import PartialResultError, counted

if TYPE_CHECKING:
    from biod2c_core.curation.filter_images.fit import FitReport

app = typer.Typer(
    **PLAIN,
    cls=SubCommands,
    no_args_is_help=True,
    help="Keep clean images: label some, fit a classifier, run it.",
)

Images = Annotated[
    Path,
    typer.Argument(metavar="IMAGES", help="Folder, .tar shard, or JSONL with the field 'image'."),
]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="From this probability on an image is polluted.")
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that decode images; 0 decodes beside the encoder.")
]
Encoder = Annotated[
    str | None,
    typer.Option(help="Checkpoint whose image encoder is used; by default the embedded one."),
]


@app.command()
def fit(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="CSV: image, label[, source, split].")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The classifier and report.")
    ],
    image_root: ImageRoot = None,
    threshold: Threshold = 0.5,
    workers: Workers = 0,
    encoder: Encoder = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train the classifier on labelled images, and report on held-out ones.

    With a column 'source' whole sources are held out, a clean and a polluted one at a time; without
    it, random fifths. Rows whose 'split' is test are never trained on. The folder gets the
    classifier, report.json, predictions.csv and mistakes.png.
    """
    from biod2c_core.curation.filter_images.encoder import ImageEncoder
    from biod2c_core.curation.filter_images.fit import fit_filter
    from biod2c_core.curation.filter_images.labels import UNSURE, read_labels
    from biod2c_core.device import resolve_device

    rows = read_labels(labels, image_root)
    loaded = ImageEncoder.load(encoder, resolve_device(device))
    with console.progress("images", sum(row.label != UNSURE for row in rows)) as advance:
        report = fit_filter(
            rows,
            output,
            loaded,
            threshold=threshold,
            workers=workers,
            seed=seed,
            advance=advance,
        )
    if as_json:
        console.emit_json(report.to_json())
    else:
        _print_quality(report)
        console.emit(f"classifier and report: {output}")


@app.command()
def run(
    images: Images,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="JSONL: a row for each image.")
    ],
    classifier: Annotated[
        Path | None,
        typer.Option("--filter", help="Folder that 'fit' wrote; by default the embedded one."),
    ] = None,
    threshold: Threshold = 0.5,
    list_: Annotated[
        Path | None,
        typer.Option("--list", metavar="FILE", help="Write the clean ones: names, or JSONL rows."),
    ] = None,
    move: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Move the files of polluted images there; see undo."),
    ] = None,
    image_root: ImageRoot = None,
    workers: Workers = 0,
    gpus: Annotated[
        int, typer.Option(min=0, help="Score on this many GPUs, one process each.")
    ] = 0,
    num_shards: Annotated[
        str, typer.Option(metavar="I/N", help="Do the I-th of N parts, counted from 0.")
    ] = "0/1",
    engine: Annotated[
        str, typer.Option(help="local, or ray: the machines of a Ray cluster.")
    ] = "local",
    encoder: Encoder = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score every image and tell clean from polluted.

    Killed at any moment, the same command goes on. With --num-shards every part is a command of its
    own, on any machine that sees the files; whichever ends last writes OUT. However the work is
    divided, OUT is the same. A complete OUT is only relabelled for the threshold.
    """
    from biod2c_core.curation.filter_images.classifier import ImageFilter
    from biod2c_core.curation.filter_images.encoder import ImageEncoder
    from biod2c_core.curation.filter_images.engines.processes import choose_engine
    from biod2c_core.curation.filter_images.filter import (
        check_list_path,
        filter_images,
        parse_shard,
        write_clean_list,
    )
    from biod2c_core.curation.filter_images.moving import move_polluted
    from biod2c_core.curation.filter_images.sources import list_images
    from biod2c_core.device import resolve_device

    if list_ is not None:
        check_list_path(list_, images, output)
    score, shard = choose_engine(engine, gpus, workers), parse_shard(num_shards)
    items = list_images(images, image_root)
    here = "cpu" if gpus or engine == "ray" else device  # the weights go to where they are used
    loaded = ImageEncoder.load(encoder, resolve_device(here))
    head = ImageFilter.load(classifier, loaded.identity)
    with console.progress("images", len(items[slice(shard[0], None, shard[1])])) as advance:
        report = filter_images(
            items,
            output,
            loaded,
            head,
            threshold=threshold,
            engine=score,
            shard=shard,
            advance=advance,
        )
    if report.complete and list_ is not None:
        write_clean_list(output, images, list_)
    if report.complete and move is not None:
        root = images if images.is_dir() else image_root or images.parent
        moved = move_polluted(items, output, root, move)
        for name, new in moved.renamed.items():
            console.note(f"{move} had a file {name} already: moved as {new}")
    if as_json:
        console.emit_json({**vars(report), "output": output})
    else:
        state = output if report.complete else f"{output} (other shards are missing)"
        console.emit(
            f"{counted(report.images, 'image')}: {report.clean:,} clean, {report.polluted:,} polluted, "
            f"{report.failed:,} unreadable: {state}"
        )
    if report.failed:
        raise PartialResultError(
            f"unreadable images: {report.failed:,}", f"The rows with 'error' in {output} say why."
        )


@app.command()
def undo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What 'run --move FOLDER' moved images to.")
    ],
    as_json: AsJson = False,
) -> None:
    """Move everything back that 'run --move FOLDER' has moved away.

    Nothing is overwritten: a file whose old place is taken stays where it is, and the exit code is 3.
    """
    from biod2c_core.curation.filter_images.moving import undo_moves

    undone = undo_moves(folder)
    if as_json:
        console.emit_json(undone.to_json())
    else:
        console.emit(f"{counted(undone.restored, 'image')} moved back")
    for name, reason in undone.kept.items():
        console.note(f"{name} stays: {reason}")
    if undone.kept:
        raise PartialResultError(
            f"images not moved back: {len(undone.kept):,}",
            "Move the other files away and run it again.",
        )


@app.command()
def label(
    images: Images,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CSV", help="The labels; added to if there.")
    ],
    count: Annotated[
        int | None, typer.Option(min=1, help="Show a random sample of so many.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives another order.")] = 0,
    image_root: ImageRoot = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
) -> None:
    """Show images one by one in a page on this machine: C clean, P polluted, U unsure, Left back.

    Every key is written to the CSV at once. Only this machine can open the page. Ctrl-C ends it.
    """
    from biod2c_core.curation.filter_images.label_server import LabelServer, LabelSession, choose
    from biod2c_core.curation.filter_images.sources import list_images

    session = LabelSession(choose(list_images(images, image_root), count, seed), output)
    with LabelServer(session, port) as server:
        console.note(f"{session.done:,} of {len(session.items):,} labelled; Ctrl-C ends")
        console.emit(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.note(f"{session.done:,} of {len(session.items):,} labelled: {output}")


def _print_quality(report: FitReport) -> None:
    folds = [(fold.held_out, fold.quality) for fold in report.folds]
    named = [*folds, ("all held out", report.held_out)]
    if report.test is not None:
        named.append(("split test", report.test))
    rows = [
        [
            name,
            f"{quality.images:,}",
            *(f"{value:.3f}" for value in (quality.precision, quality.recall, quality.f1)),
            f"{quality.false_positive:,}",
            f"{quality.false_negative:,}",
            f"{quality.calibration_error:.3f}",
        ]
        for name, quality in named
    ]
    title = f"trained on {report.clean:,} clean and {report.polluted:,} polluted images"
    columns = ["left out", "images", "precision", "recall", "F1"]
    columns += ["clean lost", "polluted kept", "calibration error"]
    console.print_table(title, columns, rows)
