"""``biod2c ask --chat``: a session of questions about an image, line by line."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biod2c_cli.console import emit, emit_json, note, one_line
from biod2c_core.errors import BioD2CError, CheckpointError, InputError, counted

if TYPE_CHECKING:
    from biod2c_core.inference.image_choice import ImageChoice
    from biod2c_core.inference.questions import AskOptions, Question, Reply
    from biod2c_core.inference.session import ImageSession
    from biod2c_core.model.generation import Answer

HELP = """Ask about the image. Each question is answered from the image alone.
  /image FILE   ask about another image
  /attn FILE    write a picture of where the model looked for the last answer
  /history      show what was asked and answered
  /save FILE    write that as JSONL
  /quit         end (so does the end of the input)"""


class Chat:
    """A session: the questions so far, and what slash commands do."""

    def __init__(
        self, session: ImageSession, image: ImageChoice, options: AskOptions, as_json: bool
    ) -> None:
        self.session = session
        self.image = image  # what the session looks at
        self.options = options
        self.as_json = as_json
        self.history: list[tuple[ImageChoice, Reply]] = []
        self._last: tuple[Question, Answer] | None = None
        self._said: set[tuple[str, str]] = set()  # picture and warning

    def say(self, line: str) -> bool:
        """Act on one line; returns whether the session goes on.

        Raises:
            BioD2CError: The line cannot be acted on.
        """
        word, _, rest = line.strip().partition(" ")
        if word in ("/quit", "/exit"):
            return False
        if word.startswith("/"):
            self._command(word, rest.strip())
        elif word:
            self._ask(line)
        return True

    def _ask(self, line: str) -> None:
        from biod2c_core.inference.questions import Question, check_question

        question = Question(check_question(line.strip()))
        for reply, answer in self.session.ask([question], self.options):
            self.history.append((self.image, reply))
            self._last = (question, answer)
            for warning in reply.warnings():
                if (self.image.path, warning) not in self._said:
                    self._said.add((self.image.path, warning))
                    note(f"note: {warning}.")
            if self.as_json:
                emit_json(_row(self.image, reply))
            elif reply.abstained:
                emit(str(reply))
            else:
                rows = reply.candidates or ((reply.answer or "", reply.confidence),)
                for text, confidence in rows:
                    emit(f"{one_line(text)} ({confidence:.2f})")

    def _command(self, word: str, rest: str) -> None:
        if word == "/help":
            note(HELP)
        elif word == "/history":
            for image, reply in self.history:
                answer = "(not sure enough)" if reply.abstained else reply.answer or ""
                emit(one_line(f"{image}: {reply.question} -> {answer}"))
        elif word == "/image" and rest:
            from biod2c_core.inference.image_choice import ImageChoice

            image = ImageChoice(rest)
            self.session.look_at(image.load())
            self.image, self._last = image, None
            note(f"now about {rest}")
        elif word == "/save" and rest:
            self._save(Path(rest))
        elif word == "/attn" and rest:
            self._draw(Path(rest))
        else:
            raise InputError(f"{word!r} is not known here, or lacks a file name", "Say /help.")

    def _save(self, path: Path) -> None:
        from biod2c_core.atomic import atomic_open

        with atomic_open(path) as file:
            for image, reply in self.history:
                file.write(json.dumps(_row(image, reply), ensure_ascii=False) + "\n")
        note(f"wrote {counted(len(self.history), 'answer')} to {path}")

    def _draw(self, path: Path) -> None:
        from biod2c_core.inference.attention.export import (
            arrange_maps,
            check_picture_path,
            save_sheet,
        )

        if self._last is None:
            raise InputError(f"nothing has been asked about {self.image} yet", "Ask first.")
        check_picture_path(path)
        shown = self.session.explain(*self._last)
        save_sheet(path, arrange_maps(self.session.image, [shown]))
        note(f"wrote {path}")


def _row(image: ImageChoice, reply: Reply) -> dict[str, Any]:
    """An answer with the picture that it is about."""
    chosen = {
        "frame": image.frame,
        "axis": image.axis,
        "slice": image.slice_index,
        "window": image.window,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return {"image": image.path, **given, **reply.to_row()}


def run_chat(
    image: ImageChoice,
    model: str | None,
    device: str,
    options: AskOptions,
    as_json: bool,
    warning: str,
) -> None:
    """Read lines from stdin until /quit or the end; a bad line is answered and the next one read."""
    from biod2c_core.inference.ask import open_session
    from biod2c_core.inference.questions import about_picture

    session = open_session(image, model, device)
    note(warning)
    if session.model.answerer.reference is None:
        note(f"note: {about_picture(session.model.answerer.name, None)[0]}.")
    chat = Chat(session, image, options, as_json)
    person = sys.stdin.isatty()
    if person:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (arrow keys and history for input())
        note(HELP)
    while True:
        try:
            line = input("> ") if person else sys.stdin.readline()
        except EOFError:
            return
        if not person and not line:
            return
        try:
            if not chat.say(line):
                return
        except CheckpointError:  # the model's fault: the next question would fare no better
            raise
        except (BioD2CError, OSError) as error:
            note(f"error: {error}")
