"""What a request may hold; all else is refused with a status and a reason, and nothing is opened."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from live import body, data_url, messages, png
from PIL import Image

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.inference.serving.pictures import make_picture, parse_picture
from biod2c_core.inference.serving.requests import (
    Limits,
    RefusedError,
    decode_image,
    parse_chat,
)
from biod2c_core.inference.serving.server import ServeOptions, listen

LIMITS = Limits()


def test_a_question_and_its_image() -> None:
    chat = parse_chat(body("is it?", stream=True, max_tokens=5), LIMITS, "tiny")
    assert (chat.question, chat.images) == ("is it?", (png(),))
    assert (chat.stream, chat.max_tokens, chat.attention) == (True, 5, False)
    assert decode_image(chat.images[0], LIMITS).size == (40, 30)


def test_a_later_question_is_about_the_last_image() -> None:
    talk = [
        {"role": "system", "content": "be brief"},
        *messages("is it?", data_url(png(1))),
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and where?"},
    ]
    chat = parse_chat(json.dumps({"messages": talk}).encode(), LIMITS, "tiny")
    assert (chat.question, chat.images) == ("and where?", (png(1),))
    talk[1]["content"].append(messages("", data_url(png(2)))[0]["content"][1])
    chat = parse_chat(json.dumps({"messages": talk}).encode(), LIMITS, "tiny")
    assert chat.images == (png(1), png(2))  # of the last message that has any, all


def refused(raw: bytes, status: int = 400) -> str:
    with pytest.raises(RefusedError) as raised:
        parse_chat(raw, LIMITS, "tiny")
    assert raised.value.status == status
    return raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80/x.png",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/x.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "../../secret.png",
        "ftp://host/x",
        "",
        None,
        7,
    ],
)
def test_what_is_no_data_url_is_refused_unopened(url: Any) -> None:
    value = {"messages": messages("is it?")}
    value["messages"][0]["content"][1]["image_url"]["url"] = url
    assert "opens no addresses and no files" in refused(json.dumps(value).encode())


@pytest.mark.parametrize(
    "url",
    [
        "data:text/html;base64,aGk=",
        "data:image/png,aGk=",
        "data:image/png;base64",
        "data:image/png;base64,%%%",
        "data:image/png;base64,aGk",
    ],
)
def test_a_damaged_data_url(url: str) -> None:
    assert "data: URL must say" in (said := refused(body(url=url))) or "not base64" in said


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "messages must be a list"),
        (b'{"messages": []}', "messages must be a list"),
        (b'{"messages": [3]}', "each message must be an object"),
        (b'{"messages": [{"role": "system", "content": "x"}]}', "no message is the user's"),
        (b'{"messages": [{"role": "user", "content": "is it?"}]}', "no message holds an image"),
        (b'{"messages": [{"role": "user", "content": 4}]}', "a text or a list of parts"),
        (b'{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}', "'audio'"),
        (body(" "), "the question is empty"),
        (body("x" * 5000), "5000 characters"),
        (body("\ud800"), "not UTF-8 text"),
        (body(model="\udfff"), "not UTF-8 text"),
        (b'{"messages": [{"role": "\xed\xa0\x80"}]}', "not JSON"),
        (body(n=2), "n must be 1"),
        (body(stream="yes"), "stream must be true or false"),
        (body(max_tokens="many"), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
    ],
)
def test_what_is_no_request(raw: bytes, reason: str) -> None:
    assert reason in refused(raw)


@pytest.mark.parametrize("field", ["name", "window", "frame", "\ud83d"])
def test_half_a_character_anywhere_in_a_picture_is_refused(field: str) -> None:
    """A message that repeats it could not be sent."""
    value = {"file": data_url(png()), field: "\ud800"}
    with pytest.raises(RefusedError, match="half a character"):
        parse_picture(json.dumps(value).encode())


def test_characters_beyond_sixteen_bits_are_whole() -> None:
    assert parse_chat(body("is it 🫁?"), LIMITS, "tiny").question == "is it 🫁?"


def test_another_model_is_not_here() -> None:
    assert "'gpt-4o' is not here" in refused(body(model="gpt-4o"), 404)


def several(*urls: str) -> bytes:
    content: list[dict[str, Any]] = [{"type": "text", "text": "is it?"}]
    content += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()


def test_more_images_than_the_limit_or_the_queue_are_refused_undecoded() -> None:
    assert "holds 17 images, over the limit of 16" in refused(several(*["data:"] * 17))
    limits = Limits(queue=2)
    with pytest.raises(RefusedError, match="3 images, over the limit of 2"):
        parse_chat(several(*["data:"] * 3), limits, "tiny")
    assert len(parse_chat(several(*[data_url(png())] * 16), LIMITS, "tiny").images) == 16


def test_which_of_several_images_is_refused() -> None:
    good = data_url(png())
    assert "image 1 (of 0 to 2): image_url must" in refused(several(good, "file:///x", good))


def bomb(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bomb(100_000, 100_000), "pixels"),
        (bomb(5000, 5000), "5,000 x 5,000 pixels"),
        (b"no image at all", "known format"),
        (png()[:60], "damaged"),
        (b"", "empty"),
        (b"\0" * 344 + b"n+1\0" + b"\0" * 99, "send one slice"),
    ],
)
def test_images_that_are_none_or_too_large(data: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as raised:
        decode_image(data, LIMITS)
    assert raised.value.status == 400


def test_only_loopback_does_without_a_key() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        with pytest.raises(ConfigError, match="there is no API key"):
            ServeOptions(host)
        assert not ServeOptions(host, key="k").loopback
    for host in ("127.0.0.1", "::1", "localhost"):
        assert ServeOptions(host).loopback
    with pytest.raises(ConfigError, match="the limit queue is 0"):
        ServeOptions(limits=Limits(queue=0))


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as bound:
        bound.listen()
        with pytest.raises(InputError, match="cannot listen at"):
            listen("127.0.0.1", bound.getsockname()[1])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "must be a JSON object"),
        ({}, "must be a data: URL"),
        ({"file": "file:///etc/passwd"}, "must be a data: URL"),
        ({"file": data_url(b""), "frame": "1"}, "frame must be"),
        ({"file": data_url(b""), "axis": 3}, "axis must be"),
        ({"file": data_url(b""), "window": [1]}, "window must be"),
        ({"file": data_url(b""), "name": 1}, "name must be"),
        ({"file": data_url(b"")}, "is empty"),
        ({"file": data_url(png()[:60]), "name": "a.tif"}, "a.tif is damaged"),
        ({"file": data_url(bomb(100_000, 100_000))}, "pixels"),
        ({"file": data_url(png()), "frame": 7}, "frames 0 to 0, not 7"),
    ],
)
def test_what_is_no_picture_for_the_page(value: object, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as raised:
        make_picture(parse_picture(json.dumps(value).encode()), LIMITS)
    assert raised.value.status == 400


def test_the_pages_of_a_tiff_are_counted() -> None:
    buffer = io.BytesIO()
    pages = [Image.new("L", (5, 4), 60), Image.new("L", (5, 4), 90)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    value = {"file": data_url(buffer.getvalue()), "frame": 1}
    reply = make_picture(parse_picture(json.dumps(value).encode()), LIMITS)
    assert (reply["kind"], reply["frames"], reply["frame"]) == ("picture", 2, 1)
    encoded = base64.b64decode(reply["image_url"].partition(",")[2])
    assert Image.open(io.BytesIO(encoded)).getpixel((0, 0)) == (90, 90, 90)
