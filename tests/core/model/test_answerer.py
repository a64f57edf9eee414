"""Answers with a confidence: what it is the mean of, and that the batch does not change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from biod2c_core.device import resolve_device
from biod2c_core.errors import CheckpointError, ConfigError, InputError
from biod2c_core.model import generation
from biod2c_core.model.checkpoints import folder as checkpoints
from biod2c_core.model.generation import Answerer

IMAGES = [tiny_models.make_image(index) for index in range(4)]
QUESTIONS = list(tiny_models.QUESTIONS)


@pytest.fixture(scope="module")
def answerer(checkpoint: Path) -> Answerer:
    return Answerer.load(str(checkpoint), "cpu")


def test_confidence_is_the_product_of_the_token_probabilities(answerer: Answerer) -> None:
    model, processor = answerer.model, answerer.processor
    for image, question in zip(IMAGES, QUESTIONS, strict=True):
        (answer,) = answerer.answer([image], [question], max_new_tokens=5)
        inputs = processor([image], [question])
        new = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        whole = torch.cat([inputs.pop("input_ids"), new], 1)
        inputs.pop("attention_mask")
        with torch.no_grad():
            output = model(input_ids=whole, attention_mask=torch.ones_like(whole), **inputs)
        steps = output.logits[0, -new.shape[1] - 1 : -1].double().softmax(-1)
        chosen = steps.gather(-1, new[0, :, None]).prod()
        assert answer.confidence == pytest.approx(float(chosen), rel=1e-3)
        assert answer.text == processor.tokenizer.decode(new[0], skip_special_tokens=True).strip()


def test_the_batch_changes_neither_answer_nor_confidence(answerer: Answerer) -> None:
    together = answerer.answer(IMAGES, QUESTIONS, max_new_tokens=6)
    for row in range(4):
        (alone,) = answerer.answer(
            IMAGES[row : row + 1], QUESTIONS[row : row + 1], max_new_tokens=6
        )
        assert alone.text == together[row].text
        assert alone.confidence == pytest.approx(together[row].confidence, rel=1e-3)


def test_an_image_is_encoded_once_for_all_its_questions(
    answerer: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    forward = answerer.model.vision.forward

    def counted(pixels: Any) -> Any:
        seen.append(len(pixels))
        return forward(pixels)

    monkeypatch.setattr(answerer.model.vision, "forward", counted)
    pairs = [(0, QUESTIONS[0]), (1, QUESTIONS[1]), (0, QUESTIONS[2])]
    got = answerer.answer_images(IMAGES[:2], pairs, max_new_tokens=4)
    assert seen == [2]
    for answer, (index, question) in zip(got, pairs, strict=True):
        assert answer.text == answerer.answer([IMAGES[index]], [question], max_new_tokens=4)[0].text


def test_any_configured_end_token_ends_the_count(llama: Path) -> None:
    """PMC-LLaMA's configuration stops at another token than its tokenizer's end."""
    model, processor = tiny_models.build(llama)
    answerer = Answerer(model, processor, "tiny", "0")
    (plain,) = answerer.answer(IMAGES[:1], QUESTIONS[:1], max_new_tokens=6)
    inputs = processor(IMAGES[:1], QUESTIONS[:1])
    first = int(model.generate(**inputs, max_new_tokens=1, do_sample=False)[0, 0])
    model.generation_config.eos_token_id = [2, first]
    (alone,) = answerer.answer(IMAGES[:1], QUESTIONS[:1], max_new_tokens=6)
    together = answerer.answer(IMAGES, QUESTIONS, max_new_tokens=6)
    assert alone.confidence == pytest.approx(together[0].confidence, rel=1e-3)
    assert alone.confidence != pytest.approx(plain.confidence, abs=1e-4)


def test_no_question_no_answer(answerer: Answerer) -> None:
    assert answerer.answer_images(IMAGES, []) == []


def test_empty_question_is_an_input_error(answerer: Answerer) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        answerer.answer(IMAGES[:1], [" "])


def test_training_after_answering_works(answerer: Answerer, data: Path) -> None:
    """Answering runs in inference mode, whose tensors must not leak into what is cached."""
    answerer.answer(IMAGES[:1], QUESTIONS[:1], max_new_tokens=1)
    batch = tiny_models.make_batch(answerer.processor, data.parent)
    loss = answerer.model(**batch).loss
    loss.backward()
    assert loss.isfinite()
    answerer.model.zero_grad()


def test_answers_after_training_with_positions(llama: Path, data: Path) -> None:
    model, processor = tiny_models.build(llama, encode_positions=True)
    answerer = Answerer(model, processor, "tiny", "0")
    answerer.answer([Image.new("RGB", (8, 8))], ["is it?"], max_new_tokens=1)
    model(**tiny_models.make_batch(processor, data.parent)).loss.backward()
    assert model.fusion.queries.grad is not None


def test_without_a_checkpoint_the_embedded_one_is_loaded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoints, "EMBEDDED", checkpoint)
    assert Answerer.load(device="cpu").name == "biod2c-tiny"
    monkeypatch.setattr(checkpoints, "EMBEDDED", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        Answerer.load(device="cpu")


@pytest.mark.parametrize("name", ["graphics", "", "cuda:x"])
def test_unknown_device_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_device(name)


def test_absent_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="device 'cuda:1' is not here"):
        resolve_device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")
