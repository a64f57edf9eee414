"""Maps of a model: what they show, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.inference.attention.attention_map import METHODS, View
from biod2c_core.inference.attention.explain import explain, explain_without_fusion, map_trace
from biod2c_core.inference.attention.maps import spread_blocks
from biod2c_core.inference.attention.trace import Trace, trace_answer
from biod2c_core.model.generation import Answerer

IMAGE = tiny_models.make_image(0)
QUESTIONS = list(tiny_models.QUESTIONS)[:3]


@pytest.fixture(scope="module")
def answerer(checkpoint: Path) -> Answerer:
    return Answerer.load(str(checkpoint), "cpu")


@pytest.mark.parametrize("method", METHODS)
def test_looking_never_changes_an_answer(answerer: Answerer, method: str) -> None:
    plain = answerer.answer_images([IMAGE], [(0, question) for question in QUESTIONS])
    state = {name: value.clone() for name, value in answerer.model.state_dict().items()}
    shown = explain(answerer, IMAGE, QUESTIONS, View(method))  # type: ignore[arg-type]
    assert [(each.answer, each.confidence) for each in shown] == [
        (answer.text, answer.confidence) for answer in plain
    ]
    after = answerer.answer_images([IMAGE], [(0, question) for question in QUESTIONS])
    assert after == plain
    for name, value in answerer.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(parameter.grad is None for parameter in answerer.model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_maps_sum_to_one(answerer: Answerer, method: str) -> None:
    for each in explain(answerer, IMAGE, QUESTIONS, View(method)):  # type: ignore[arg-type]
        assert each.values.shape == tiny_models.GRID[:2]
        assert each.values.sum() == pytest.approx(1)
        assert len(each.tokens) == len(each.token_values)
        np.testing.assert_allclose(each.token_values.sum((1, 2)), 1)


def test_the_fusion_map_is_the_models_own_attention(answerer: Answerer) -> None:
    inputs = answerer.processor([IMAGE], [QUESTIONS[0]])
    with torch.no_grad():
        attention = answerer.model(**inputs, return_attention=True).attention
    expected = spread_blocks(attention[0].mean((0, 1, 2)), answerer.model.fusion.scales, (4, 4))
    (shown,) = explain(answerer, IMAGE, QUESTIONS[:1])
    np.testing.assert_allclose(shown.values, expected.numpy(), atol=1e-6)


def trace_of(answerer: Answerer, gradients: bool = False) -> tuple[Trace, tuple[int, ...]]:
    (answer,) = answerer.answer([IMAGE], QUESTIONS[:1])
    pixels = answerer.processor.pixels(IMAGE)
    return trace_answer(answerer, pixels, QUESTIONS[0], answer.ids, gradients), answer.ids


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_trace_reads_the_answer_as_it_was_given(
    answerer: Answerer, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum of its log-probabilities is that of the confidence of the answer."""
    monkeypatch.setattr(answerer.model.config, "answer_vote", weight)
    trace, ids = trace_of(answerer)
    (answer,) = answerer.answer([IMAGE], QUESTIONS[:1])
    assert trace.log_p.shape == (len(ids),)
    assert trace.log_p.sum().exp().item() == pytest.approx(answer.confidence, rel=1e-3)


def test_attention_weights_are_what_they_say(answerer: Answerer) -> None:
    trace, ids = trace_of(answerer)
    assert trace.grid == (4, 4)
    assert trace.resampler.shape == (2, 4, tiny_models.VISUAL_TOKENS, 16)
    assert trace.language.shape == (2, 4, len(ids), tiny_models.VISUAL_TOKENS)
    torch.testing.assert_close(trace.resampler.sum(-1), torch.ones(2, 4, tiny_models.VISUAL_TOKENS))
    assert (trace.language.sum(-1) < 1).all()  # the text has its share too


def test_gradients_are_those_of_a_small_change(answerer: Answerer) -> None:
    """Scaling one block's weights by 1 + e in a layer changes log p by e * sum(weight * gradient)."""
    trace, ids = trace_of(answerer, gradients=True)
    layer, block, step = 1, 3, 0.1  # wide, as float32 is coarse
    assert trace.fusion is not None
    assert trace.fusion_gradients is not None
    expected = (trace.fusion * trace.fusion_gradients.sum(0))[layer, :, :, block].sum()
    attention = answerer.model.fusion.decoder.layers[layer].multihead_attn
    found = []
    for sign in (1, -1):
        model = Answerer(answerer.model, answerer.processor, "", "")
        with scaled_block(attention, block, 1 + sign * step):
            traced = trace_answer(model, answerer.processor.pixels(IMAGE), QUESTIONS[0], ids)
        found.append(traced.log_p.double().sum())
    assert ((found[0] - found[1]) / (2 * step)).item() == pytest.approx(
        expected.item(), rel=0.1, abs=2e-4
    )


class scaled_block:  # noqa: N801
    """Multiplies the weights of one block where the fusion decoder attends to blocks."""

    def __init__(self, attention: torch.nn.Module, block: int, factor: float) -> None:
        self.attention, self.block, self.factor = attention, block, factor

    def __enter__(self) -> None:
        from biod2c_core.model import fusion

        self.original = fusion.attend

        def attend(attention, queries, memory, *rest, **options):  # type: ignore[no-untyped-def]
            out, weights = self.original(attention, queries, memory, *rest, **options)
            if attention is not self.attention or memory.shape[1] != 21:
                return out, weights
            width, heads = attention.embed_dim, attention.num_heads
            value = torch.nn.functional.linear(
                memory, attention.in_proj_weight[-width:], attention.in_proj_bias[-width:]
            )
            extra = weights[..., self.block, None] * (self.factor - 1)
            moved = extra * value[:, self.block].view(1, heads, 1, -1)
            change = moved.transpose(1, 2).flatten(2) @ attention.out_proj.weight.T
            return out + change, weights

        fusion.attend = attend

    def __exit__(self, *_: object) -> None:
        from biod2c_core.model import fusion

        fusion.attend = self.original


def test_choices_of_layers_heads_and_scales_change_the_map(answerer: Answerer) -> None:
    trace, _ = trace_of(answerer)
    whole, _ = map_trace(trace, View())
    for view in (View(layers=[1]), View(heads=[2]), View(scales=[3])):
        chosen, _ = map_trace(trace, view)
        assert chosen.sum().item() == pytest.approx(1)
        assert not torch.allclose(chosen, whole)
    even, _ = map_trace(trace, View(scales=[1]))
    torch.testing.assert_close(even, torch.full((4, 4), 1 / 16, dtype=torch.float64))
    with pytest.raises(InputError, match="scales"):
        map_trace(trace, View(scales=[4]))


def test_without_fusion_only_the_language_model_can_be_shown(answerer: Answerer) -> None:
    (shown,) = explain_without_fusion(answerer, IMAGE, QUESTIONS[:1])
    assert shown.view.method == "language"
    assert shown.values.sum() == pytest.approx(1)
    assert answerer.model.fusion.enabled
    trace, _ = trace_of(answerer)
    with pytest.raises(ConfigError, match="Choose the method 'language'"):
        map_trace(Trace(**{**vars(trace), "fusion": None}), View())


def test_a_model_trained_without_fusion_can_be_shown(llama: Path) -> None:
    model, processor = tiny_models.build(llama, fusion="off")
    answerer = Answerer(model, processor, "off", "0")
    (shown,) = explain(answerer, IMAGE, QUESTIONS[:1], View("language"))
    assert shown.values.sum() == pytest.approx(1)
    for method in ("fusion", "gradient"):
        with pytest.raises(ConfigError, match="Choose the method 'language'"):
            explain(answerer, IMAGE, QUESTIONS[:1], View(method))  # type: ignore[arg-type]
