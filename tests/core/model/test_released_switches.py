"""What ``released`` changes, on a tiny model: the padded question counts, and the authors' L_sem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch

from biod2c_core.errors import ConfigError
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.semantic import Texts, released_semantic_consistency

V = tiny_models.VISUAL_TOKENS


@pytest.fixture(scope="module")
def parts(llama: Path) -> Any:
    return tiny_models.build(llama, architecture="released", semantic_loss="released")


def test_the_question_is_filled_with_padding_that_counts(parts: Any) -> None:
    model, _ = parts
    image = model.encode_image(grid_features=torch.randn(1, *tiny_models.GRID))
    ids, mask = torch.tensor([[5, 6, 7, 9]]), torch.tensor([[1, 1, 1, 0]])
    got = model.encode(ids, mask, image).tokens
    filled = torch.tensor([[5, 6, 7] + [0] * (V - 3)])
    model.config.architecture = "paper"
    wanted = model.encode(filled, torch.ones_like(filled), image).tokens
    masked = model.encode(ids, mask, image).tokens
    model.config.architecture = "released"
    assert torch.equal(got, wanted)
    assert not torch.allclose(got, masked)
    long = torch.arange(3, 3 + 2 * V)[None]
    cut = model.encode(long, torch.ones_like(long), image).tokens
    assert torch.equal(cut, model.encode(long[:, :V], torch.ones(1, V), image).tokens)


def test_the_authors_semantic_loss_by_hand(parts: Any) -> None:
    """Position by position, zero rows up to ten texts in the softmax, D(p(t) || p(v))."""
    model, _ = parts
    torch.manual_seed(3)
    tokens = torch.randn(2, V, 32)
    question = torch.tensor([[5, 6, 7], [8, 9, 0]])
    question_mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    queue = torch.randint(3, 300, (2, 4, 5))
    queue_mask = torch.ones_like(queue)
    queue_mask[0, 1, 3:] = 0
    queue_mask[1, 2:] = 0  # two of its four texts are missing
    texts = Texts(question, question_mask, queue, queue_mask)
    embed = model.get_input_embeddings()
    got = released_semantic_consistency(embed, tokens, texts, 0.1, model.config.padding_id).mean()

    table = model.get_input_embeddings().weight.detach().double().numpy()

    def text(ids: list[int]) -> np.ndarray:
        return table[(ids + [0] * V)[:V]]

    def cosines(x: np.ndarray, row: int) -> np.ndarray:
        values = []
        for entry in range(10):
            real = entry < 4 and bool(queue_mask[row, entry].any())
            if not real:
                values.append(0.0)
                continue
            t = text(queue[row, entry][queue_mask[row, entry] == 1].tolist())
            norms = np.linalg.norm(x, axis=1) * np.linalg.norm(t, axis=1)
            cosine = np.divide((x * t).sum(1), norms, out=np.zeros(V), where=norms > 0)
            values.append(float(cosine.mean()))  # the padding token's embedding is zero here
        return np.array(values)

    losses = []
    for row in range(2):
        words = text(question[row][question_mask[row] == 1].tolist())
        pair = []
        for x in (words, tokens[row].double().numpy()):
            scores = np.exp(cosines(x, row) / 0.1)
            pair.append(scores / scores.sum())
        p_text, p_visual = pair
        losses.append(float((p_text * np.log(p_text / p_visual)).sum()))
    assert float(got) == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_released_loss_reads_the_tokens_before_the_gate(parts: Any, data: Path) -> None:
    model, processor = parts
    batch = tiny_models.make_batch(processor, data.parent)
    first = model(**batch)
    with torch.no_grad():
        before = float(model.fusion.beta)
        model.fusion.beta.fill_(1.5)
        second = model(**batch)
        model.fusion.beta.fill_(before)
    assert torch.equal(first.losses["sem"], second.losses["sem"])
    assert not torch.equal(first.losses["nll"], second.losses["nll"])
    torch.testing.assert_close(first.loss, first.losses["nll"] + first.losses["sem"])


@pytest.mark.parametrize("name", ["architecture", "semantic_loss"])
def test_unknown_variants_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 'theirs'. Use one of: paper, released"):
        BioD2CConfig(**{name: "theirs"})
