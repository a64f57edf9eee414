"""A model behind an OpenAI-compatible endpoint, evaluated like any checkpoint."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from biod2c_core.evaluation.predict.answers import NoAnswer
from biod2c_core.llm_api import CallFailed, Client, request_key, run_all

PROMPT = (
    "You answer questions about biomedical images. Reply with the answer alone, as short as "
    "possible: yes or no where the question asks for it, otherwise a few words."
)
LONGEST_SIDE = 1024
_QUALITY = 90


@dataclass(frozen=True)
class EndpointAnswer:
    """What the endpoint said; a refusal is an empty answer."""

    text: str
    confidence: None = None


def image_url(image: Image.Image) -> str:
    """An image as a ``data:`` address of a JPEG of at most 1,024 pixels a side."""
    copy = image.copy()
    copy.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class EndpointModel:
    """Answers questions about images by asking an endpoint.

    Args:
        client: Talks to the endpoint; give it a journal, so that nothing is paid twice.
        workers: Requests at once.
        instruct: Whether it is told to answer shortly.
    """

    needs_picture = False

    def __init__(self, client: Client, workers: int = 16, instruct: bool = True) -> None:
        self.name = client.model
        self.identity = request_key(
            client.base_url,
            client.model,
            PROMPT if instruct else "",
            LONGEST_SIDE,
            client.max_tokens,
        )
        self._instruct = instruct
        self._client = client
        self._workers = workers
        self._loop = asyncio.new_event_loop()

    def answer_images(
        self, images: Sequence[Image.Image], questions: Sequence[tuple[int, str]]
    ) -> list[EndpointAnswer | NoAnswer]:
        """Answer each (index of its image, question).

        Returns:
            In order; where the endpoint failed on a question, why.

        Raises:
            BudgetError: The budget is used up.
            EndpointError: The endpoint is down or refuses everything.
        """
        return self._run(images, questions, None)

    def answer_blind(self, questions: Sequence[str]) -> list[EndpointAnswer | NoAnswer]:
        """Answer each question without a picture; see :meth:`answer_images`."""
        return self._run([], [(-1, question) for question in questions], None)

    def draw_answers(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        *,
        temperature: float,
        repetition: int,
    ) -> list[EndpointAnswer | NoAnswer]:
        """Draw an answer to each (index of its image, question); see :meth:`answer_images`."""
        return self._run(images, questions, (temperature, repetition))

    def close(self) -> None:
        """Close connections and journal."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()
        if self._client.journal is not None:
            self._client.journal.close()

    def _run(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        drawn: tuple[float, int] | None,
    ) -> list[EndpointAnswer | NoAnswer]:
        return self._loop.run_until_complete(self._answer_all(images, questions, drawn))

    async def _answer_all(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[tuple[int, str]],
        drawn: tuple[float, int] | None,
    ) -> list[EndpointAnswer | NoAnswer]:
        urls = [image_url(image) for image in images]
        asked = [(None if index < 0 else urls[index], text) for index, text in questions]
        found: dict[tuple[str | None, str], EndpointAnswer | NoAnswer] = {}

        async def work(pair: tuple[str | None, str]) -> None:
            found[pair] = await self._ask(*pair, drawn)

        # each once: equal questions about equal pictures, such as a blank one, are one request
        await run_all(list(dict.fromkeys(asked)), work, self._workers)
        return [found[pair] for pair in asked]

    async def _ask(
        self, url: str | None, question: str, drawn: tuple[float, int] | None
    ) -> EndpointAnswer | NoAnswer:
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if url is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self._instruct:
            messages.insert(0, {"role": "system", "content": PROMPT})
        try:
            completion = await self._client.complete(
                messages,
                temperature=drawn[0] if drawn else 0.0,
                key=self._key(messages, drawn) if drawn else None,
            )
        except CallFailed as error:
            if error.kind == "refusal":
                return EndpointAnswer("")
            return NoAnswer(f"{error.kind}: {error.reason}")
        return EndpointAnswer(completion.text.strip())

    def _key(self, messages: list[dict[str, Any]], drawn: tuple[float, int]) -> str:
        """The journal's name of a drawn answer: a repetition is not the answer before."""
        return request_key(self._client.base_url, self._client.model, messages, *drawn)
