"""Where begin token, visual tokens, text and padding stand in a row of the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from biod2c_core.errors import ConfigError
from biod2c_core.inference.forced_decoding import score_answer
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.generation import Answerer
from biod2c_core.model.language_input import (
    LanguageInput,
    before_next,
    in_front_of_answers,
    pack,
    put_in_front,
)


def lay(mask: list[list[int]], visual: int, begin: int) -> tuple[LanguageInput, list[list[int]]]:
    """Visual tokens -1, -2 ... and text tokens 1, 2 ... in the order in which they are laid; padding 0."""
    real = torch.tensor(mask)
    text = real * torch.arange(1, real.shape[1] + 1)
    tokens = -torch.arange(1.0, visual + 1).expand(len(mask), -1)
    laid = put_in_front(tokens[..., None], text[..., None].float(), real, begin)
    return laid, laid.embeddings[..., 0].int().tolist()


@pytest.mark.parametrize(
    ("mask", "begin", "row"),
    [
        ([1, 1, 1], 0, [-1, -2, 1, 2, 3]),
        ([1, 1, 1], 1, [1, -1, -2, 2, 3]),
        ([0, 1, 1], 0, [0, -1, -2, 2, 3]),
        ([0, 1, 1], 1, [0, 2, -1, -2, 3]),
        ([1, 1, 0], 1, [1, -1, -2, 2, 0]),
        ([1, 1, 1], 2, [1, 2, -1, -2, 3]),
    ],
)
def test_order_of_a_row(mask: list[int], begin: int, row: list[int]) -> None:
    assert lay([mask], 2, begin)[1] == [row]


@given(
    st.lists(st.tuples(st.integers(3, 6), st.booleans()), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.data(),
)
def test_rows_of_a_batch_are_those_of_each_alone(
    rows: list[tuple[int, bool]], visual: int, begin: int, data: st.DataObject
) -> None:
    """Whatever the padding: the same tokens and positions, next to each other, and the same answers."""
    mask = [[0] * (6 - n) + [1] * n if left else [1] * n + [0] * (6 - n) for n, left in rows]
    laid, values = lay(mask, visual, begin)
    real = torch.tensor(mask)
    labels = torch.where(real.bool() & (real.cumsum(1) > begin), real.cumsum(1), -100)
    labels[:, : data.draw(st.integers(0, 5))] = -100
    answered = in_front_of_answers(laid, labels)
    for row, (n, _) in enumerate(rows):
        text = [i + 1 for i in range(6) if mask[row][i]]
        wanted = [*text[:begin], *(-1 - v for v in range(visual)), *text[begin:]]
        assert laid.mask is not None
        at = laid.mask[row].nonzero()[:, 0]
        assert at.tolist() == list(range(int(at[0]), int(at[0]) + n + visual))
        assert [values[row][i] for i in at] == wanted
        assert laid.positions[row][at].tolist() == list(range(n + visual))
        assert [values[row][i] for i in laid.places[row]] == [
            *(-1 - v for v in range(visual)),
            *(i + 1 if mask[row][i] else 0 for i in range(6)),
        ]
        asked = labels[row, 1:] != -100
        assert (
            before_next(laid, 6)[row, :-1][asked].tolist() == answered[row].nonzero()[:, 0].tolist()
        )
        following = [values[row][i + 1] for i in answered[row].nonzero()[:, 0].tolist()]
        assert following == [i + 1 for i in range(1, 6) if labels[row, i] != -100]
    packed = pack(laid._replace(answered=answered))
    assert packed.answered is not None
    assert packed.embeddings.shape[1] == sum(n + visual for n, _ in rows)
    assert packed.answered.sum() == answered.sum()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose tokenizer puts a begin token in front."""
    return tiny_models.save_language_model(tmp_path_factory.mktemp("begun"), template="<s> $A")


def test_the_begin_token_comes_before_the_image(begun: Path, tmp_path: Path) -> None:
    model, processor = tiny_models.build(begun)
    assert model.config.begin_tokens == 1
    images = [tiny_models.make_image(0), tiny_models.make_image(1)]
    batch = processor(images, [tiny_models.QUESTIONS[0], tiny_models.QUESTIONS[3]])
    seen: list[Tensor] = []
    handle = model.language_model.register_forward_pre_hook(
        lambda module, args, options: seen.append(options["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**batch)
        new = model.generate(**batch, max_new_tokens=1)
    handle.remove()
    begin = model.get_input_embeddings()(torch.tensor(1))
    for row in range(2):
        first = int((batch["attention_mask"][row] == 0).sum())
        for embeddings in seen:
            assert torch.equal(embeddings[row, first], begin)
            assert not torch.equal(embeddings[row, first + 1], begin)
    save_checkpoint(tmp_path, model, processor)
    with torch.no_grad():
        again = load_model(tmp_path).generate(
            **load_processor(tmp_path)(
                images, [tiny_models.QUESTIONS[0], tiny_models.QUESTIONS[3]]
            ),
            max_new_tokens=1,
        )
    assert torch.equal(again, new)


def test_a_checkpoint_that_was_trained_otherwise_stays_so(checkpoint: Path) -> None:
    assert load_model(checkpoint).config.begin_tokens == 0


@pytest.mark.parametrize("value", [-1, 0.5, "1", True])
def test_begin_tokens_are_a_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=f"begin_tokens is {value!r}"):
        BioD2CConfig(begin_tokens=value)


def test_attention_to_the_image_is_read_behind_the_begin_token(begun: Path) -> None:
    answerer = Answerer(*tiny_models.build(begun), "begun", "none")
    image = answerer.encode([tiny_models.make_image(0)])
    (answer,) = answerer.answer_encoded(image, [(0, tiny_models.QUESTIONS[0])], max_new_tokens=3)
    with torch.no_grad():
        scores = score_answer(answerer, image, tiny_models.QUESTIONS[0], answer.ids, attention=True)
    assert float(scores.log_p.sum().exp()) == pytest.approx(answer.confidence, rel=1e-3)
    whole: list[Tensor] = []
    for layer in answerer.model.language_model.model.layers:
        layer.self_attn.register_forward_hook(lambda _, inputs, output: whole.append(output[1]))
    with torch.no_grad():
        score_answer(answerer, image, tiny_models.QUESTIONS[0], answer.ids, attention=True)
    for seen, weights in zip(scores.attention, whole, strict=True):
        behind = weights[0, :, -len(answer.ids) - 1 : -1, 1 : 1 + tiny_models.VISUAL_TOKENS]
        torch.testing.assert_close(seen, behind)
