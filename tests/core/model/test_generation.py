"""Generation: a batch answers like its members alone, the cache changes nothing, beams work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor

IMAGES = [tiny_models.make_image(index) for index in range(4)]
QUESTIONS = list(tiny_models.QUESTIONS)
NEW = 8


@pytest.fixture(scope="module", params=["llama", "gpt2", "opt", "qwen2"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """Rotary, learned and offset positions; tied and separate heads."""
    kind = request.param
    return tiny_models.build(tiny_models.save_language_model(tmp_path_factory.mktemp(kind), kind))


def generate(model: BioD2CForConditionalGeneration, inputs: Any, **how: Any) -> Any:
    return model.generate(
        **inputs,
        max_new_tokens=NEW,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **how,
    )


def plain_greedy(
    model: BioD2CForConditionalGeneration, inputs: Any, stops: set[int]
) -> tuple[list[int], list[Tensor]]:
    """Greedy decoding by whole forward passes, without cache and without padding."""
    ids = inputs["input_ids"]
    rest = {
        key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")
    }
    new: list[int] = []
    steps: list[Tensor] = []
    with torch.no_grad():
        while len(new) < NEW and not stops & set(new):
            whole = torch.cat([ids, torch.tensor([new], dtype=torch.long)], dim=1)
            logits = model(input_ids=whole, attention_mask=torch.ones_like(whole), **rest).logits
            steps.append(logits[0, -1])
            new.append(int(steps[-1].argmax()))
    return new, steps


def test_batched_cached_generation_equals_plain_greedy_decoding_alone(
    built: tuple[BioD2CForConditionalGeneration, BioD2CProcessor],
) -> None:
    """The questions differ in length, so the prompts are padded between image and text."""
    model, processor = built
    together = generate(model, processor(IMAGES, QUESTIONS))
    assert len({len(processor.prompt_ids(text)) for text in QUESTIONS}) > 1
    for row in range(4):
        alone = processor(IMAGES[row : row + 1], QUESTIONS[row : row + 1])
        wanted, steps = plain_greedy(model, alone, {2})
        assert together.sequences[row, : len(wanted)].tolist() == wanted
        for step, logits in enumerate(steps):
            torch.testing.assert_close(together.logits[step][row], logits, atol=1e-3, rtol=1e-3)
        one = generate(model, alone)
        assert one.sequences[0].tolist() == wanted


def test_beams_answer_alike_in_a_batch_and_alone(
    built: tuple[BioD2CForConditionalGeneration, BioD2CProcessor],
) -> None:
    model, processor = built
    inputs = processor(IMAGES, QUESTIONS)
    beams = model.generate(**inputs, max_new_tokens=4, do_sample=False, num_beams=3)
    assert beams.shape[0] == 4
    for row in range(4):
        alone = processor(IMAGES[row : row + 1], QUESTIONS[row : row + 1])
        single = model.generate(**alone, max_new_tokens=4, do_sample=False, num_beams=3)
        assert single[0].tolist() == beams[row, : single.shape[1]].tolist()


def test_what_the_visual_tokens_name_has_a_vote_at_every_step(
    built: tuple[BioD2CForConditionalGeneration, BioD2CProcessor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch, alone and in beams the same."""
    model, processor = built
    inputs = processor(IMAGES, QUESTIONS)
    without = generate(model, inputs)
    monkeypatch.setattr(model.config, "answer_vote", 1.0)
    together = generate(model, inputs, output_scores=True)
    assert not torch.equal(together.scores[0], without.logits[0].log_softmax(-1))
    beams = model.generate(**inputs, max_new_tokens=4, do_sample=False, num_beams=3)
    for row in range(4):
        alone = processor(IMAGES[row : row + 1], QUESTIONS[row : row + 1])
        one = generate(model, alone)
        new = one.sequences
        assert new[0].tolist() == together.sequences[row, : new.shape[1]].tolist()
        asked = (alone["question_ids"], alone["question_mask"])
        with torch.no_grad():
            visual = model.encode(*asked, model.encode_image(alone["pixel_values"]))
        vote = model.vote(visual, asked[1])
        assert vote is not None
        for step, logits in enumerate(one.logits):
            log_p = vote(new[:, :step], logits)[0]
            torch.testing.assert_close(together.scores[step][row], log_p, atol=1e-3, rtol=1e-3)
        single = model.generate(**alone, max_new_tokens=4, do_sample=False, num_beams=3)
        assert single[0].tolist() == beams[row, : single.shape[1]].tolist()


def test_the_answer_depends_on_image_and_question(
    built: tuple[BioD2CForConditionalGeneration, BioD2CProcessor],
) -> None:
    model, processor = built
    first = generate(model, processor(IMAGES[:1], QUESTIONS[:1])).logits[0]
    image = generate(model, processor(IMAGES[1:2], QUESTIONS[:1])).logits[0]
    question = generate(model, processor(IMAGES[:1], QUESTIONS[1:2])).logits[0]
    assert not torch.allclose(first, image, atol=1e-3)
    assert not torch.allclose(first, question, atol=1e-3)


def test_an_encoded_image_serves_several_questions(
    built: tuple[BioD2CForConditionalGeneration, BioD2CProcessor],
) -> None:
    model, processor = built
    copies = generate(model, processor([IMAGES[0]] * 4, QUESTIONS))
    texts = processor(None, QUESTIONS)
    with torch.no_grad():
        image = model.encode_image(processor.pixels(IMAGES[0])[None])
    shared = generate(model, texts, image=image, image_rows=torch.zeros(4, dtype=torch.long))
    assert torch.equal(copies.sequences, shared.sequences)


def test_sampling_is_a_function_of_the_seed(llama: Path) -> None:
    model, processor = tiny_models.build(llama)
    inputs = processor(IMAGES[:1], QUESTIONS[:1])
    answers = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        answers.append(model.generate(**inputs, max_new_tokens=6, do_sample=True).tolist())
    assert answers[0] == answers[1] != answers[2]
