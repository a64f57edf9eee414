"""A given answer is scored with the probabilities that it was generated with."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch

from biod2c_core.inference.forced_decoding import score_answer
from biod2c_core.model.generation import Answerer

IMAGE = tiny_models.make_image(0)


@pytest.fixture(params=[0.0, 1.0], ids=["no vote", "vote"])
def answerer(checkpoint: Path, request: pytest.FixtureRequest) -> Answerer:
    answerer = Answerer.load(str(checkpoint), "cpu")
    answerer.model.config.answer_vote = request.param
    return answerer


@torch.no_grad()
def test_each_token_has_the_log_probability_that_it_was_chosen_with(answerer: Answerer) -> None:
    image = answerer.encode([IMAGE])
    for question in tiny_models.QUESTIONS:
        generated = answerer.model.generate(
            **answerer.processor(None, [question]),
            image=image,
            max_new_tokens=6,
            do_sample=True,  # tokens that are not the likeliest, too
            top_k=0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        ids = generated.sequences[0].tolist()
        expected = [
            scores[0].log_softmax(-1)[token]
            for token, scores in zip(ids, generated.scores, strict=True)
        ]
        scored = score_answer(answerer, image, question, tuple(ids))
        torch.testing.assert_close(scored.log_p, torch.stack(expected), atol=1e-4, rtol=1e-4)
        assert scored.attention == ()


@torch.no_grad()
def test_the_probability_of_an_answer_is_its_confidence(answerer: Answerer) -> None:
    image = answerer.encode([IMAGE])
    for question in tiny_models.QUESTIONS:
        (answer,) = answerer.answer([IMAGE], [question])
        log_p = score_answer(answerer, image, question, answer.ids).log_p
        assert log_p.sum().exp().item() == pytest.approx(answer.confidence, rel=1e-3)


@torch.no_grad()
def test_looking_leaves_the_probabilities_and_the_language_model(answerer: Answerer) -> None:
    image = answerer.encode([IMAGE])
    language_model = answerer.model.language_model
    before = language_model.config._attn_implementation
    (answer,) = answerer.answer([IMAGE], tiny_models.QUESTIONS[:1])
    plain = score_answer(answerer, image, tiny_models.QUESTIONS[0], answer.ids)
    seen = score_answer(answerer, image, tiny_models.QUESTIONS[0], answer.ids, attention=True)
    torch.testing.assert_close(seen.log_p, plain.log_p, atol=1e-4, rtol=1e-4)
    assert language_model.config._attn_implementation == before
    assert [each.shape[1:] for each in seen.attention] == [
        (len(answer.ids), tiny_models.VISUAL_TOKENS)
    ] * language_model.config.num_hidden_layers
