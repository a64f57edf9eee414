"""The paper's prompt (section 2) and how a record becomes chat messages."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

from biod2c_core.data.images import load_image
from biod2c_core.errors import InputError
from biod2c_core.foreign import read_text

PAPER_PROMPT = """\
You are an AI assistant specialized in biomedical topics. Generate 2-3 clinically meaningful \
open-ended question-and-answer pairs based on the provided medical image and caption.
Requirements:
- Each question must be a single, clear sentence; each answer should directly address it.
- Cover overall understanding and specific details, without copying the caption.
- Answers must require examining the image, not just medical background knowledge.
- Ensure clinical relevance, professionalism, and conciseness.
- Format: ["question": "xxx", "answer": "xxx", ...]
caption: {caption}, image-url: {image-url}"""

# Replaces {image-url}: the image itself is sent as a part of the message.
ATTACHED = "the attached image"
MOST_PAIRS = 3
_JPEG_QUALITY = 90
_PLACEHOLDER = re.compile(r"\{(caption|image-url)\}")

PAIRS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
                "required": ["question", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["pairs"],
    "additionalProperties": False,
}


def load_template(path: str | Path | None) -> str:
    """Read a prompt template; None gives the paper's.

    Raises:
        InputError: It cannot be read, or does not hold ``{caption}``.
    """
    if path is None:
        return PAPER_PROMPT
    try:
        template = read_text(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read the template {path}", "Give a UTF-8 text file of at most 1 MiB."
        ) from error
    if "{caption}" not in template:
        raise InputError(
            f"the template {path} does not hold {{caption}}",
            "Put {caption} where the caption belongs; {image-url} is optional.",
        )
    return template


def fill(template: str, caption: str) -> str:
    """The template with the caption in its place; nothing inside the caption is replaced."""
    values = {"caption": caption, "image-url": ATTACHED}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def shrink_to_jpeg(source: Path, longest_side: int) -> tuple[bytes, tuple[int, int]]:
    """Decode an image and make it a JPEG of at most ``longest_side`` pixels a side.

    Returns:
        The file's bytes, free of any metadata, and its width and height.

    Raises:
        ImageError: The image is missing, unreadable or over the limits.
    """
    image = load_image(source)
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue(), image.size


def chat_messages(prompt: str, jpeg: bytes | None) -> list[dict[str, Any]]:
    """One user message with the prompt and, unless ``jpeg`` is None, the image as a data URL."""
    if jpeg is None:
        return [{"role": "user", "content": prompt}]
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    parts = [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return [{"role": "user", "content": parts}]
