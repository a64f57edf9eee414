"""One family of errors: each says what is wrong, what to do about it, and which exit code it means.

Exit codes of the command line (stable, for shell scripts):

====  ==============================================================
code  meaning
====  ==============================================================
0     done, also if stdout is closed or the reader of a pipe has gone
1     unexpected failure: a bug, please report it (``--debug`` shows the traceback)
2     bad input or usage: the line on stderr says what to change
3     finished, but some items were rejected, failed or left unscored
4     a budget (money, requests, time) was used up before the end
5     an endpoint or the network failed for good
6     training stopped because the loss is not finite
130   interrupted with Ctrl-C
143   stopped by SIGTERM after saving its state
====  ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def counted(count: int, noun: str) -> str:
    """``1 image``, ``2 images``, ``1,000 images``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def nearest(given: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that a mistyped one is most like; None if it is like none.

    Args:
        given: What was written.
        known: The names there are.
        cutoff: How alike they must be, 0 to 1.
    """
    return next(iter(get_close_matches(given, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(given: str, known: Iterable[str], otherwise: str = "") -> str:
    """A remedy: the nearest known name as a question, or ``otherwise``.

    Args:
        given: What was written.
        known: The names there are.
        otherwise: Said where nothing is near.
    """
    near = nearest(given, known)
    return otherwise if near is None else f"Did you mean {near!r}?"


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust has panicked: no ``Exception``, but no end of the program."""
    return type(error).__name__ == "PanicException"


_NO_MEMORY = (  # of Python, of the loader of shared libraries, of torch on CPUs and GPUs
    "can't start new thread",
    "failed to map segment",
    "can't allocate memory",
    "out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, whatever kind of error a library makes of it."""
    if not isinstance(error, RuntimeError | ImportError):
        return isinstance(error, MemoryError)
    return any(words in str(error) for words in _NO_MEMORY)


class BioD2CError(Exception):
    """Base of all errors this project raises on purpose.

    Args:
        problem: What was given and what was expected, one sentence without a final period.
        remedy: What to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        text = f"{problem}. {remedy}" if remedy else problem
        super().__init__(" ".join(text.splitlines()))  # one line, whatever a name holds


class InputError(BioD2CError, ValueError):
    """The caller gave something that cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration key or value is unknown or out of range."""


class ImageError(InputError):
    """An image is missing, unreadable, or over the limits."""


class RecordError(InputError):
    """A record in a data file is malformed; the message starts with ``file:line``."""

    def __init__(self, file: str | Path, line: int, problem: str, remedy: str = "") -> None:
        self.file = Path(file)
        self.line = line
        self.reason = problem
        super().__init__(f"{file}:{line}: {problem}", remedy)


class CheckpointError(InputError):
    """A checkpoint is missing, incomplete, or does not fit the model."""


class MissingDependencyError(InputError):
    """An optional package is needed and absent."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package {package!r}, which is not installed",
            f"Install it with: pip install 'biod2c[{extra}]'",
        )


class PartialResultError(BioD2CError):
    """The work finished, but some items were rejected or left unscored."""

    exit_code = 3


class BudgetError(BioD2CError):
    """A budget was used up before the end."""

    exit_code = 4


class EndpointError(BioD2CError):
    """A remote endpoint failed for good."""

    exit_code = 5


class DivergenceError(BioD2CError):
    """Training produced a loss that is not finite."""

    exit_code = 6


class TerminatedError(BioD2CError):
    """Stopped by SIGTERM after saving."""

    exit_code = 143
