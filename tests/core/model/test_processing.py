"""Pixels, prompts and labels: training reads exactly what generation reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import PreTrainedTokenizerFast

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model.checkpoints.folder import EMBEDDED, load_processor
from biod2c_core.model.processing import IGNORED, BioD2CProcessor

Texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)


def make_processor(**options: Any) -> BioD2CProcessor:
    return BioD2CProcessor(tiny_models.make_tokenizer(), image_size=32, **options)


def with_special_tokens(template: str) -> BioD2CProcessor:
    return BioD2CProcessor(tiny_models.tokenizer_with(template), image_size=32)


def with_start_token() -> BioD2CProcessor:
    return with_special_tokens("<s> $A")


def with_end_token() -> BioD2CProcessor:
    return with_special_tokens("<s> $A </s>")


def test_pixels_are_scaled_and_normalized() -> None:
    processor = make_processor(image_mean=(0.5, 0.25, 0.0), image_std=(0.5, 0.25, 1.0))
    got = processor.pixels(Image.new("RGB", (50, 20), (255, 0, 51)))
    assert got.shape == (3, 32, 32)
    assert got.dtype == torch.float32
    for channel, wanted in enumerate((1.0, -1.0, 0.2)):
        torch.testing.assert_close(got[channel], torch.full((32, 32), wanted), atol=1e-6, rtol=0)


def test_every_byte_becomes_the_same_bits_as_in_numpy() -> None:
    """On the device or before: checkpoints were trained on these very numbers."""
    processor = make_processor()
    mean, std = (np.array(each, np.float32) for each in (processor.image_mean, processor.image_std))
    every = np.repeat(np.arange(256, dtype=np.uint8), 4 * 3).reshape(32, 32, 3)
    wanted = ((every.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    got = processor.pixels(Image.fromarray(every))
    assert got.numpy().tobytes() == wanted.tobytes()


def test_nothing_of_the_image_is_cut_off() -> None:
    picture = np.zeros((30, 60, 3), np.uint8)
    picture[:, :6] = 255  # the left tenth
    got = make_processor(image_mean=(0, 0, 0), image_std=(1, 1, 1)).pixels(Image.fromarray(picture))
    assert got[:, :, :2].min() > 0.8
    assert got[:, :, 8:].max() < 0.2


def test_grey_images_get_three_channels() -> None:
    got = make_processor(image_mean=(0, 0, 0), image_std=(1, 1, 1)).pixels(
        Image.new("L", (9, 9), 51)
    )
    torch.testing.assert_close(got, torch.full((3, 32, 32), 0.2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", [make_processor, with_start_token, with_end_token])
@given(question=Texts, answer=Texts)
def test_training_starts_with_the_prompt_of_generation(
    make: Any, question: str, answer: str
) -> None:
    processor = make()
    prompt = processor.prompt_ids(question)
    ids, labels = processor.training_ids(question, answer)
    assert ids[: len(prompt)] == prompt
    assert labels == [IGNORED] * len(prompt) + ids[len(prompt) :]
    assert labels[-1] == processor.tokenizer.eos_token_id
    decoded = processor.tokenizer.decode(ids[len(prompt) : -1])
    assert (
        decoded.strip() == f" {answer}".strip() or processor.tokenizer.eos_token_id in labels[:-1]
    )


@pytest.mark.parametrize(
    ("template", "begin"),
    [("$A", []), ("<s> $A", [1]), ("$A </s>", []), ("<s> $A </s>", [1]), ("</s> <s> $A", [2, 1])],
)
def test_a_prompt_has_the_tokenizers_begin_and_never_its_end(
    template: str, begin: list[int]
) -> None:
    processor = with_special_tokens(template)
    plain = make_processor().prompt_ids("is it?")
    assert processor.prompt_ids("is it?") == [*begin, *plain]
    assert processor.begin_ids() == begin
    ids, labels = processor.training_ids("is it?", "yes")
    assert ids == [*begin, *make_processor().training_ids("is it?", "yes")[0]]
    assert ids.count(2) == labels.count(2) + begin.count(2) == 1 + begin.count(2)


def test_prompt_is_filled_with_the_question_on_one_line() -> None:
    processor = make_processor(prompt="Q: {question} A:")
    text = processor.tokenizer.decode(processor.prompt_ids("  is {x} \n there?\t"))
    assert text == "Q: is {x} there? A:"


@pytest.mark.parametrize("prompt", ["no place", "{}", "{question} {image}", "{question", "{0}"])
def test_prompt_without_a_place_for_the_question_is_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"Write \{question\} where the question goes"):
        make_processor(prompt=prompt)


def test_inputs_are_padded_prompts_left_questions_right() -> None:
    processor = make_processor()
    batch = processor([Image.new("RGB", (8, 8))] * 2, ["is it?", "is the heart size normal today?"])
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    pad = processor.tokenizer.pad_token_id
    for ids, mask, left in (
        (batch["input_ids"], batch["attention_mask"], True),
        (batch["question_ids"], batch["question_mask"], False),
    ):
        short, row = ids[0], mask[0]
        assert mask[1].all()
        assert row.sum() < len(row)
        assert (short[row == 0] == pad).all()
        assert row.sort(descending=not left).values.equal(row)
    assert batch["input_ids"][0][batch["attention_mask"][0] == 1].tolist() == processor.prompt_ids(
        "is it?"
    )


def test_images_may_be_left_out() -> None:
    assert "pixel_values" not in make_processor()(None, ["is it?"])


@given(st.lists(st.lists(st.integers(3, 300), max_size=6), max_size=5), st.booleans())
def test_padding_keeps_every_row(rows: list[list[int]], left: bool) -> None:
    ids, mask = make_processor().pad(rows, side="left" if left else "right", value=-7)
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows), default=0))
    for row, values, real in zip(rows, ids, mask, strict=True):
        assert values[real == 1].tolist() == row
        assert (values[real == 0] == -7).all()


@pytest.mark.parametrize("question", ["", "   ", "\n\t"])
def test_empty_question_is_an_input_error(question: str) -> None:
    with pytest.raises(InputError, match="the question is empty"):
        make_processor()(None, [question])


def test_question_and_queue_texts_are_cut_to_what_the_fusion_reads() -> None:
    processor = make_processor(max_question_tokens=4)
    assert len(processor.question_ids("what modality is the image of the chest?")) == 4
    assert len(processor.text_ids("what modality is the image of the chest?")) == 4
    assert processor.text_ids("") == []


def test_end_token_pads_where_there_is_no_padding_token() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_models.make_tokenizer().backend_tokenizer, eos_token="</s>"
    )
    assert BioD2CProcessor(tokenizer).tokenizer.pad_token_id == 2


def test_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_models.make_tokenizer().backend_tokenizer
    )
    with pytest.raises(ConfigError, match="no end token"):
        BioD2CProcessor(tokenizer)


@pytest.mark.parametrize(
    ("question", "spelled_out"),
    [
        ("Is there a pleural effusion?", False),
        ("hepatosplenomegaly?", False),
        ("T2?", False),
        ("Gibt es eine Fraktur?", False),  # another language, in letters that it knows
        ("有没有肿瘤?", True),
        ("骨折はありますか?", True),
        ("골절이 있습니까?", True),
        ("Есть ли перелом?", True),
        ("هل يوجد كسر؟", True),
        ("หัวใจโตไหม", True),
    ],
)
def test_scripts_that_the_embedded_model_never_met(question: str, spelled_out: bool) -> None:
    assert load_processor(EMBEDDED).is_spelled_out(question) == spelled_out
