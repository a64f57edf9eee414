"""Where the answers of ``biod2c ask`` about many pictures go: a table, JSONL, CSV or a file of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from biod2c_cli.console import emit, note, one_line, print_table
from biod2c_core.errors import PartialResultError, counted

if TYPE_CHECKING:
    from biod2c_core.inference.answer_rows import AnswerFile
    from biod2c_core.inference.questions import AskOptions, Reply
    from biod2c_core.inference.volumes.ask import Whole


@dataclass
class Output:
    """Where answers about many pictures go, and what became of them.

    Attributes:
        options: How to answer.
        kind: ``table``, ``json`` or ``csv``, for stdout.
        file: Where they go instead.
        volumes: Whether answers are about slices, and about the whole of them.
    """

    options: AskOptions
    kind: str
    file: AnswerFile | None = None
    volumes: bool = False

    def __post_init__(self) -> None:
        from biod2c_core.inference.answer_rows import RowFormat

        self.model = ""
        self.rows: list[list[str]] = []
        self.failed = self.silent = self.count = 0
        self.unlike: dict[str, None] = {}  # pictures unlike those of training, as they came
        self.wholes: list[list[str]] = []  # rows of the second table
        self._format = RowFormat(self.kind, self.options.n_best, self.volumes)
        if self.file is None and self._format.head is not None:
            emit(self._format.head)

    def add_whole(self, image: str, whole: Whole) -> None:
        """Write the answer of a whole volume, or keep it for its table, with its spread."""
        from biod2c_core.inference.volumes.whole import ranges

        self.count += 1
        self.silent += whole.reply.abstained
        if self.file is not None:
            self.file.add(image, whole)
        elif self.kind != "table":
            emit(self._format.line(image, whole))
        else:
            if whole.reply.abstained:
                self.wholes.append([image, whole.reply.question, str(whole.reply), "", "", ""])
            for each in whole.spread:
                count = f"{len(each.places)} of {len(whole.slices)}"
                said = [one_line(each.answer), f"{each.confidence:.2f}", count, ranges(each.places)]
                self.wholes.append([image, whole.reply.question, *said])

    def add(self, image: str, reply: Reply, index: int | None = None) -> None:
        """Write an answer, or keep it for the table; of volumes, the one about a slice."""
        from biod2c_core.inference.questions import is_unlike, script_warning

        name = image if index is None else f"{image} (slice {index})"

        self.model = reply.model
        self.count += 1
        self.silent += reply.abstained
        if is_unlike(reply.familiarity):
            self.unlike[name] = None
        if reply.unknown_script:
            note(f"note: {script_warning(reply.model, reply.question)}.")
        if self.file is not None:
            self.file.add(image, reply, index)
        elif self.kind == "table":
            listed = () if reply.abstained else reply.candidates
            texts = [f"{text} ({value:.2f})" for text, value in listed] or [str(reply)]
            known = reply.familiarity
            self.rows.append(
                [
                    *(name, reply.question, "\n".join(one_line(text) for text in texts)),
                    *(f"{reply.confidence:.2f}", "" if known is None else f"{known:.2f}"),
                ]
            )
        else:
            emit(self._format.line(image, reply, index))

    def finish(self, pictures: int, asked: int) -> None:
        """Print the table, and say what is missing and which pictures the model does not know.

        Raises:
            PartialResultError: A picture could not be read, or a question was not answered.
        """
        from biod2c_core.inference.questions import about_pictures

        if self.rows:
            columns = ["picture", "question", "answer", "confidence", "familiarity"]
            print_table("", columns, self.rows, left=3)
        if self.wholes:
            columns = ["whole", "question", "answer", "confidence", "slices", "which"]
            print_table("", columns, self.wholes, left=3)
        if self.file is not None:
            self.file.sync()
            kept = asked - self.count
            before = f", {kept} were there" if kept else ""
            note(f"wrote {counted(self.count, 'answer')} to {self.file.path}{before}")
        noun = "slices" if self.volumes else "pictures"
        for line in about_pictures(self.model, list(self.unlike), pictures, noun):
            note(f"note: {line}.")
        problems = []
        if self.failed:
            noun = "slices or volumes" if self.volumes else "pictures"
            problems.append(f"{self.failed} of {pictures} {noun} could not be read")
        if self.silent:
            problems.append(
                f"{self.silent} of {self.count} questions not answered: confidence below "
                f"{self.options.min_confidence}"
            )
        if problems:
            raise PartialResultError("; ".join(problems))
