"""The ``biod2c`` command: registers the commands and turns every failure into one line and a code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from biod2c_cli import console
from biod2c_cli.options import PLAIN
from biod2c_core.errors import BioD2CError, did_you_mean, is_out_of_memory, is_panic

DEBUG_FLAG = "--debug"

# Name and first help line of each command. ``biod2c_cli/commands/NAME.py`` holds a function NAME, or a
# Typer app called ``app`` for a command with sub-commands; it is imported when it is called.
COMMANDS = {
    "ask": "Answer questions about an image, once or in a chat.",
    "attn-map": "Show where the model looks for an answer.",
    "convert": "Convert the authors' weights, or PMC-CLIP's, for this project.",
    "calibrate": "Fit a model's confidence to how often it is right.",
    "data": "Import, check, count, split and mix data; build text queues.",
    "evaluate": "Score a model, or anyone's predictions, on a data set.",
    "export": "Fold the adapters in and write a checkpoint with its card.",
    "filter-images": "Keep clean images: label some, fit a classifier, run it.",
    "gen-qa": "Generate questions and answers from images and captions with GPT-4o.",
    "pull": "Download a checkpoint from the hub.",
    "push": "Upload a checkpoint to the hub with a generated model card.",
    "serve": "Serve a model to OpenAI clients, and a page to try it.",
    "presets": "List, show and check the presets of training.",
    "doctor": "Print versions, extras, devices, folders, and what will run where.",
    "train": "Train one stage: 1 aligns the fusion module, 2 adds LoRA.",
}


class Commands(TyperGroup):
    """Imports a command when it is called; prints a failure as one line and exits with its code."""

    debug = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        """Import one command."""
        if name not in COMMANDS:
            hint = did_you_mean(name, COMMANDS, f"See '{ctx.info_name} --help'.")
            ctx.fail(f"No such command {name!r}. {hint}")
        module = import_module(f"biod2c_cli.commands.{name.replace('-', '_')}")
        if hasattr(module, "app"):
            group = get_command(module.app)
            group.name = name  # which the reference in the documentation prints
            return group
        single = typer.Typer(**PLAIN)
        single.command(name)(getattr(module, name.replace("-", "_")))
        return get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Accept ``--debug`` anywhere on the line, then run."""
        args = list(sys.argv[1:] if args is None else args)
        _quiet_libraries()
        head = args[: args.index("--")] if "--" in args else args
        self.debug = DEBUG_FLAG in head
        args = [arg for arg in head if arg != DEBUG_FLAG] + args[len(head) :]
        try:
            try:
                return super().main(args, *rest, **options)
            finally:
                _flush()
        except OSError as error:
            self._report(f"error: {type(error).__name__}: {error}", error)
            sys.exit(1)
        except MemoryError as error:
            remedy = "Free some or raise its limit (ulimit -v), and run the same command again."
            self._report(f"error: MemoryError: {str(error) or 'memory ran out'}. {remedy}", error)
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error becomes a line and an exit code."""
        try:
            return super().invoke(ctx)
        except BioD2CError as error:
            self._report(f"error: {error}", error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as error:
            self._report("interrupted", error)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of our output has gone; Typer would exit with 1
            raise typer.Exit(0) from None
        except (OSError, MemoryError):
            raise  # reported by main, where what stdout still holds is written too
        except Exception as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise  # usage errors and exits keep their own handling
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            hint = f"This is a bug; run again with {DEBUG_FLAG} and report the traceback."
            self._report(f"unexpected {type(error).__name__}: {error}. {hint}", error)
            raise typer.Exit(1) from None
        except BaseException as error:
            if not is_panic(error):  # of the tokenizers library, by its files
                raise
            remedy = "It is damaged, or made to do harm; get it from whoever made it."
            self._report(f"error: a tokenizer fails on a text ({error}). {remedy}", error)
            raise typer.Exit(2) from None

    def _report(self, line: str, error: BaseException) -> None:
        if self.debug:
            traceback.print_exception(error, file=sys.stderr)
        console.note(" ".join(line.split()))


def _quiet_libraries() -> None:
    """No bars but ours; those of downloads stay where somebody may watch them."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not console.stderr_is_terminal():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _flush() -> None:
    """Write out what stdout holds; where that fails, drop it, or Python tries again as it ends.

    A reader that has gone is not a failure: the exit code stays.
    """
    if sys.stdout is None:  # closed by the caller
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def _print_version(requested: bool) -> None:
    if requested:
        from biod2c_core import __version__

        print(f"biod2c {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="biod2c",
    cls=Commands,
    no_args_is_help=True,
    epilog="Exit codes: 0 done (also if the reader of a pipe went away), 1 bug, 2 bad input, 3 finished "
    "with some items rejected, 4 budget "
    "used up, 5 endpoint failed, 6 loss not finite, 130 Ctrl-C, 143 SIGTERM.",
    **{**PLAIN, "add_completion": True},
)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(DEBUG_FLAG, help="Show the traceback of an error (anywhere on the line)."),
    ] = False,
) -> None:
    """Biomedical visual question answering: ask about an image, train, evaluate.

    Answers are research output; this is not a medical device.
    """


def _stop(owner: int, number: int, frame: FrameType | None) -> None:
    """At SIGTERM: end with code 143 once all temporary files are removed; at a second one at once.

    A process that has inherited this has nothing of its own to remove.
    """
    if os.getpid() != owner:
        os._exit(128 + number)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit(128 + number)  # not an Exception, which somebody may catch on the way


def main() -> None:
    """Entry point of the console script."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, partial(_stop, os.getpid()))
    for number in range(3):  # or the next file that is opened takes the place of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    try:
        app()
    except SystemExit as ended:
        if "RANK" not in os.environ or not isinstance(ended.code, int):
            raise
        from biod2c_core.training.hardware.launch import end_rank

        end_rank(ended.code)
