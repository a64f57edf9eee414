"""Several images in one request, by the ``openai`` client: each is answered, and the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_models
import torch
from live import Live, about, data_url, live_server, png

from biod2c_core.inference.serving import app
from biod2c_core.inference.serving.requests import Limits, decode_image
from biod2c_core.model.generation import Answerer

QUESTION = "is there a fracture?"


def connect(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def live(checkpoint: Path) -> Iterator[Live]:
    with live_server(checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return connect(live)


def test_several_images_are_answered_each_and_together(
    live: Live, client: openai.OpenAI, checkpoint: Path
) -> None:
    answerer = Answerer.load(str(checkpoint), "cpu")
    images = [0, 3, 1, 0]
    before = live.count("questions_total")
    reply = client.chat.completions.create(model="tiny", messages=about(QUESTION, images))
    assert live.count("questions_total") == before + 4
    pictures = [tiny_models.make_image(index) for index in images]
    answers = answerer.answer(pictures, [QUESTION] * 4)
    assert len({answer.text for answer in answers}) > 1  # or mixing them up would not show
    extras = reply.model_extra["biod2c"]  # type: ignore[index]
    assert [each["answer"] for each in extras["images"]] == [answer.text for answer in answers]
    for each, answer in zip(extras["images"], answers, strict=True):
        assert each["confidence"] == pytest.approx(answer.confidence, rel=1e-2)
    sums: dict[str, float] = {}
    for each in extras["images"]:
        sums[each["answer"]] = sums.get(each["answer"], 0) + each["confidence"] / 4
    assert reply.choices[0].message.content == max(sums, key=lambda answer: sums[answer])
    assert extras["confidence"] == pytest.approx(max(sums.values()), rel=1e-3)
    assert extras["calibrated"] is False
    assert {each["answer"]: each["images"] for each in extras["spread"]} == {
        text: [place for place, answer in enumerate(answers) if answer.text == text]
        for text in sums
    }
    assert reply.usage is not None
    assert reply.usage.completion_tokens == sum(len(answer.ids) for answer in answers)


def test_several_images_in_a_stream_and_with_maps(client: openai.OpenAI) -> None:
    wanted = client.chat.completions.create(model="tiny", messages=about(QUESTION, [0, 1]))
    shown = {"attention": True}
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=about(QUESTION, [0, 1]), stream=True, extra_body=shown
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == wanted.choices[0].message.content
    extras = chunks[-1].model_extra["biod2c"]  # type: ignore[index]
    assert [each["answer"] for each in extras["images"]] == [
        each["answer"]
        for each in wanted.model_extra["biod2c"]["images"]  # type: ignore[index]
    ]
    maps = torch.tensor([each["attention"] for each in extras["images"]])
    assert maps.shape == (2, 4, 4)
    assert not torch.allclose(maps[0], maps[1])
    assert "attention" not in extras


def test_one_bad_image_of_several_is_named(client: openai.OpenAI) -> None:
    (message,) = about(QUESTION, [0, 1, 2])
    message["content"][2]["image_url"]["url"] = data_url(png()[:60])
    with pytest.raises(openai.BadRequestError, match=r"image 1 \(of 0 to 2\): .* is damaged"):
        client.chat.completions.create(model="tiny", messages=[message])


def test_a_warning_names_its_images(checkpoint: Path, tmp_path: Path) -> None:
    with live_server(tiny_models.with_reference(checkpoint, tmp_path / "own")) as running:
        reply = connect(running).chat.completions.create(
            model="tiny", messages=about(QUESTION, [0, 1])
        )
    extras = reply.model_extra["biod2c"]  # type: ignore[index]
    assert extras["familiarity"] == 0.0
    assert extras["warning"] == f"images 0-1: {extras['images'][0]['warning']}"


def test_each_image_counts_against_the_deadline(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def slow(*given: Any) -> Any:
        decoded.append(1)
        time.sleep(0.4)
        return decode_image(*given)

    monkeypatch.setattr(app, "decode_image", slow)
    with (
        live_server(checkpoint, Limits(seconds=1.0)) as running,
        pytest.raises(openai.InternalServerError, match="no answer in time"),
    ):
        connect(running).chat.completions.create(model="tiny", messages=about(QUESTION, [0] * 9))
    assert 2 <= len(decoded) <= 3
