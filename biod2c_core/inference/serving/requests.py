"""What a chat request may hold, and what is refused with a status and a reason.

Nothing here fetches anything: an image comes inside the request as a ``data:`` URL or not at all.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import Image

from biod2c_core.data.images import is_volume, load_image
from biod2c_core.errors import ImageError, InputError
from biod2c_core.foreign import parse_json
from biod2c_core.inference.questions import check_question

T = TypeVar("T")
MEDIA = ("image/", "application/dicom", "application/octet-stream")
MAX_MESSAGES = 64
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # as JSON spells it; two of them make a whole character
MAX_QUESTION = 4000  # characters; the model's own limit is far lower


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 4xx or 503.
        message: What was wrong and what to do.
        code: A short name for programs.
        retry_after: Seconds to wait, where trying again makes sense.
    """

    def __init__(
        self, status: int, message: str, code: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after = retry_after


def queue_full() -> RefusedError:
    """429, and when to try again: a queue that is asked every second works for refusals only."""
    return RefusedError(429, "the queue is full; try later", "queue_full", 2)


def too_late() -> RefusedError:
    """503: the time of the request is up."""
    return RefusedError(503, "no answer in time; try later", "timeout", 2)


def unknown_model(asked: Any, model: str) -> RefusedError:
    """404 for a model of another name."""
    return RefusedError(
        404, f"model {str(asked)[:80]!r} is not here, this is {model!r}", "model_not_found"
    )


@dataclass(frozen=True)
class Limits:
    """What the server bears.

    Attributes:
        body_bytes: Longest request.
        pixels: Largest image, width times height.
        queue: Most requests that wait.
        batch: Most questions answered together.
        tokens: Longest answer.
        seconds: Longest time from the request to its answer.
        images: Most images in a request; each waits for itself, so never more than ``queue``.
    """

    body_bytes: int = 16 * 1024**2
    pixels: int = 16_000_000
    queue: int = 64
    batch: int = 32
    tokens: int = 32
    seconds: float = 30.0
    images: int = 16


@dataclass(frozen=True)
class ChatRequest:
    """A question about an image.

    Attributes:
        question: Text of the last user message.
        images: The bytes of each, at least one.
        stream: Send the answer as it grows.
        max_tokens: Longest answer.
        attention: Send the attention map too.
        usage: End the stream with the number of tokens.
    """

    question: str
    images: tuple[bytes, ...]
    stream: bool
    max_tokens: int
    attention: bool
    usage: bool = False


def bad(message: str, code: str = "invalid_request") -> RefusedError:
    """A request that cannot be understood: status 400."""
    return RefusedError(400, message, code)


def json_object(body: bytes) -> dict[str, Any]:
    """The object that a body of a request holds.

    Raises:
        RefusedError: It is not JSON, something else in it, or text with halves of characters, which no
            reply could repeat.
    """
    try:
        value = parse_json(body)
    except ValueError:
        raise bad("the body is not JSON") from None
    if not isinstance(value, dict):
        raise bad("the body must be a JSON object")
    if _HALF.search(body):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise bad("the body is not UTF-8 text: it holds half a character") from None
    return value


def parse_chat(body: bytes, limits: Limits, model: str) -> ChatRequest:
    """Read the body of ``/v1/chat/completions``.

    The question is the text of the last user message, the images those of the last user message that
    holds any; other messages are not read, as the model knows single questions only.

    Args:
        body: JSON.
        limits: Of the server.
        model: The name that the request must ask for, if it names one.

    Raises:
        RefusedError: It is not such a request.
    """
    value = json_object(body)
    asked = value.get("model", model)
    if asked != model:
        raise unknown_model(asked, model)
    if value.get("n", 1) not in (1, None):
        raise bad("n must be 1: answers are not sampled")
    texts, images = _contents(value.get("messages"))
    most = min(limits.images, limits.queue)
    if not images:
        raise bad("no message holds an image", "no_image")
    if len(images) > most:
        raise bad(
            f"a message holds {len(images)} images, over the limit of {most}", "too_many_images"
        )
    if value.get("logprobs") not in (None, False) or value.get("top_logprobs") not in (None, 0):
        raise bad("logprobs are not given; the answer's probability is biod2c.confidence")
    given = (value.get("max_completion_tokens"), value.get("max_tokens"), limits.tokens)
    tokens = next(each for each in given if each is not None)
    return ChatRequest(
        question=_question(texts[-1]),
        images=tuple(
            read_image(partial(data_url_bytes, url), place, len(images))
            for place, url in enumerate(images)
        ),
        stream=_flag(value, "stream"),
        max_tokens=_tokens(tokens, limits),
        attention=_flag(value, "attention"),
        usage=_asks_for_usage(value),
    )


def _flag(value: dict[str, Any], name: str) -> bool:
    found = value.get(name)
    if found not in (True, False, None):
        raise bad(f"{name} must be true or false")
    return bool(found)


def _asks_for_usage(value: dict[str, Any]) -> bool:
    options = value.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict) or not value.get("stream"):
        raise bad("stream_options must be an object, and only with stream")
    return _flag(options, "include_usage")


def _tokens(tokens: Any, limits: Limits) -> int:
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise bad("max_tokens must be a positive whole number")
    return min(tokens, limits.tokens)


def _question(text: str) -> str:
    if len(text) > MAX_QUESTION:
        raise bad(f"the question has {len(text)} characters, over the limit of {MAX_QUESTION}")
    try:
        return check_question(text)
    except InputError as error:
        raise bad(str(error)) from None


def _contents(messages: Any) -> tuple[list[str], list[Any]]:
    """The text of each user message, and the image parts of the last one that has any."""
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_MESSAGES:
        raise bad(f"messages must be a list of 1 to {MAX_MESSAGES}")
    texts: list[str] = []
    images: list[Any] = []
    for message in messages:
        if not isinstance(message, dict):
            raise bad("each message must be an object")
        if message.get("role") != "user":
            continue
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise bad("the content of a message must be a text or a list of parts")
        found = [_part(part) for part in parts]
        texts.append(" ".join(text for kind, text in found if kind == "text"))
        images = [image for kind, image in found if kind == "image"] or images
    if not texts:
        raise bad("no message is the user's")
    return texts, images


def _part(part: dict[str, Any]) -> tuple[str, Any]:
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return "text", part["text"]
    if kind == "image_url":
        holder = part.get("image_url")
        return "image", holder.get("url") if isinstance(holder, dict) else holder
    raise bad(f"part of type {str(kind)[:40]!r} is not understood: use text and image_url")


def read_image(work: Callable[[], T], place: int, count: int) -> T:
    """Do something with one of several images; what refuses it says which one it is.

    Args:
        work: What may refuse it.
        place: Of the image, from 0.
        count: How many images there are.

    Raises:
        RefusedError: What ``work`` raises.
    """
    try:
        return work()
    except RefusedError as error:
        if count == 1:
            raise
        message = f"image {place} (of 0 to {count - 1}): {error.message}"
        raise RefusedError(error.status, message, error.code, error.retry_after) from None


def data_url_bytes(url: Any) -> bytes:
    """The bytes inside a ``data:`` URL; any other is refused unread.

    Raises:
        RefusedError: It is another URL, of another kind of file, or not base64.
    """
    if not isinstance(url, str) or not url[:5].lower() == "data:":
        raise bad(
            "image_url must be a data: URL (data:image/png;base64,...): this server opens no "
            "addresses and no files",
            "image_not_data_url",
        )
    head, comma, data = url[5:].partition(",")
    media, *options = head.lower().split(";")
    if not comma or "base64" not in options or not media.startswith(MEDIA):
        raise bad("the data: URL must say data:image/...;base64,", "invalid_image")
    try:
        return base64.b64decode("".join(data.split()), validate=True)  # may come in lines
    except (binascii.Error, ValueError):
        raise bad("the image is not base64", "invalid_image") from None


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """Decode an image part to RGB, within the limits.

    Raises:
        RefusedError: It is not an image, damaged, too large, or a volume.
    """
    if is_volume(data):
        raise bad("a volume holds many pictures; send one slice as PNG", "invalid_image")
    try:
        return load_image(data, max_pixels=limits.pixels, max_bytes=limits.body_bytes)
    except ImageError as error:
        raise bad(str(error), "invalid_image") from None
    except InputError as error:
        raise bad(error.problem, "invalid_image") from None
