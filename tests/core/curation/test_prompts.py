"""The paper's prompt word for word, and how records become messages."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from biod2c_core.curation.prompts import (
    ATTACHED,
    PAPER_PROMPT,
    chat_messages,
    fill,
    load_template,
    shrink_to_jpeg,
)
from biod2c_core.errors import ImageError, InputError

# Section 2 of the paper; only its line breaks are free
SECTION_2 = """
You are an AI assistant specialized in biomedical topics. Generate 2-3 clinically meaningful
open-ended question-and-answer pairs based on the provided medical image and caption.
Requirements: - Each question must be a single, clear sentence; each answer should directly address
it. - Cover overall understanding and specific details, without copying the caption.
- Answers must require examining the image, not just medical background knowledge.
- Ensure clinical relevance, professionalism, and conciseness.
- Format: ["question": "xxx", "answer": "xxx", ...]
caption: {caption}, image-url: {image-url}
"""


def test_the_default_prompt_is_the_paper_s_word_for_word() -> None:
    assert PAPER_PROMPT.split() == SECTION_2.split()
    assert load_template(None) == PAPER_PROMPT


def test_nothing_inside_a_caption_is_replaced() -> None:
    filled = fill("<{caption}|{image-url}>", "a {image-url} and {caption} \\1 {x}")
    assert filled == "<a {image-url} and {caption} \\1 {x}|" + ATTACHED + ">"


def test_a_template_must_hold_the_caption(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Ask about {image-url}.")
    with pytest.raises(InputError, match="does not hold"):
        load_template(tmp_path / "t.txt")
    for target in (tmp_path / "absent.txt", Path("/dev/zero")):
        (tmp_path / "link.txt").unlink(missing_ok=True)
        (tmp_path / "link.txt").symlink_to(target)
        with pytest.raises(InputError, match="cannot read"):
            load_template(tmp_path / "link.txt")


def test_images_are_shrunk_to_a_jpeg_without_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "patient name"
    Image.new("RGB", (1600, 800), (10, 200, 30)).save(tmp_path / "a.jpg", exif=exif)
    jpeg, size = shrink_to_jpeg(tmp_path / "a.jpg", 512)
    assert size == (512, 256)
    image = Image.open(io.BytesIO(jpeg))
    assert (image.format, image.size, dict(image.getexif())) == ("JPEG", size, {})
    assert b"patient" not in jpeg
    assert abs(image.getpixel((100, 100))[1] - 200) < 4
    assert shrink_to_jpeg(tmp_path / "a.jpg", 9999)[1] == (1600, 800)  # never enlarged


def test_a_missing_image_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not found"):
        shrink_to_jpeg(tmp_path / "absent.png", 64)


def test_messages_hold_the_prompt_and_the_image_as_data_url() -> None:
    (message,) = chat_messages("ask", b"jpeg bytes")
    text, image = message["content"]
    assert text == {"type": "text", "text": "ask"}
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == b"jpeg bytes"
    assert chat_messages("ask", None) == [{"role": "user", "content": "ask"}]
