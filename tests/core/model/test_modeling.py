"""The assembled model: one way to encode, two losses, and what each of them can change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from torch import Tensor

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model import equations
from biod2c_core.model.build import model_config
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.training.stages import prepare_stage

Built = tuple[BioD2CForConditionalGeneration, BioD2CProcessor]


@pytest.fixture(scope="module")
def built(llama: Path) -> Built:
    return tiny_models.build(llama)


@pytest.fixture(scope="module")
def batch(built: Built, data: Path) -> dict[str, Tensor]:
    return tiny_models.make_batch(built[1], data.parent)


@pytest.fixture
def fresh(llama: Path) -> BioD2CForConditionalGeneration:
    return tiny_models.build(llama)[0]


def test_logits_stand_at_the_text_positions(built: Built, batch: dict[str, Tensor]) -> None:
    output = built[0](**batch)
    words = built[0].config.text_config.vocab_size
    assert output.logits.shape == (*batch["input_ids"].shape, words)
    assert output.attention is None


def test_losses_are_equations_3_to_5_of_the_visual_tokens(
    built: Built, batch: dict[str, Tensor]
) -> None:
    """L_sem again in numpy, from the visual tokens and the embedding table alone."""
    model = built[0]
    output = model(**batch)
    image = model.encode_image(batch["pixel_values"])
    tokens = model.encode(batch["question_ids"], batch["question_mask"], image).tokens
    table = model.get_input_embeddings().weight.detach().double().numpy()
    divergences = []
    for row in range(4):
        texts = [
            table[ids[mask.bool()].numpy()].mean(0)
            for ids, mask in zip(batch["queue_ids"][row], batch["queue_mask"][row], strict=True)
            if mask.any()
        ]
        if not texts:
            continue
        ids = batch["question_ids"][row][batch["question_mask"][row].bool()]
        question = table[ids.numpy()].mean(0)
        visual = tokens[row].detach().double().numpy().mean(0)
        p, q = (softmax_of_cosines(x, np.array(texts)) for x in (visual, question))
        divergences.append((p * np.log(p / q)).sum())
    assert len(divergences) == 3  # one of the four has no queue
    semantic = float(output.losses["sem"].detach())
    assert semantic == pytest.approx(np.mean(divergences), rel=1e-4)
    assert float(output.loss.detach()) == pytest.approx(
        semantic + float(output.losses["nll"].detach()), rel=1e-6
    )


def softmax_of_cosines(x: np.ndarray, texts: np.ndarray) -> np.ndarray:
    cosines = texts @ x / np.linalg.norm(texts, axis=1) / np.linalg.norm(x)
    scores = np.exp(cosines / 0.1)
    return scores / scores.sum()


def test_lambda_weighs_the_semantic_loss(
    fresh: BioD2CForConditionalGeneration, batch: dict[str, Tensor]
) -> None:
    fresh.loss_weights = {"sem": 0.25}
    output = fresh(**batch)
    wanted = equations.total_loss(output.losses, {"sem": 0.25})
    assert torch.equal(output.loss, wanted)


def test_a_sample_gives_the_same_in_a_padded_batch_and_alone(
    built: Built, batch: dict[str, Tensor]
) -> None:
    model = built[0]
    together = model(**batch)
    losses = []
    for row in range(4):
        length = int(batch["attention_mask"][row].sum())
        question = int(batch["question_mask"][row].sum())
        alone = model(
            input_ids=batch["input_ids"][row : row + 1, :length],
            attention_mask=batch["attention_mask"][row : row + 1, :length],
            labels=batch["labels"][row : row + 1, :length],
            question_ids=batch["question_ids"][row : row + 1, :question],
            question_mask=batch["question_mask"][row : row + 1, :question],
            pixel_values=batch["pixel_values"][batch["image_rows"][row]][None],
        )
        torch.testing.assert_close(
            alone.logits[0], together.logits[row, :length], atol=1e-4, rtol=1e-4
        )
        counted = int((batch["labels"][row] != -100).sum())
        losses += [float(alone.losses["nll"].detach())] * counted
    assert float(together.losses["nll"].detach()) == pytest.approx(np.mean(losses), rel=1e-4)


def test_questions_that_share_an_image_give_what_separate_copies_give(
    built: Built, batch: dict[str, Tensor]
) -> None:
    model = built[0]
    rows = torch.tensor([1, 0, 1, 1])
    texts = {
        key: value for key, value in batch.items() if key not in ("pixel_values", "image_rows")
    }
    shared = model(**texts, pixel_values=batch["pixel_values"][:2], image_rows=rows)
    copied = model(**texts, pixel_values=batch["pixel_values"][rows])
    torch.testing.assert_close(shared.logits, copied.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shared.losses["sem"], copied.losses["sem"])


def test_precomputed_features_stand_for_pixels(built: Built, batch: dict[str, Tensor]) -> None:
    model = built[0]
    features = {k: v for k, v in batch.items() if k != "pixel_values"}
    features["grid_features"] = model.vision(batch["pixel_values"])
    assert torch.equal(model(**features).loss, model(**batch).loss)


def test_training_and_generation_share_one_encode(
    built: Built, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built[0]
    seen: list[Tensor] = []
    encode = model.encode

    def counted(*arguments: Any, **named: Any) -> Any:
        result = encode(*arguments, **named)
        seen.append(result.tokens)
        return result

    monkeypatch.setattr(model, "encode", counted)
    monkeypatch.setattr(type(model.fusion), "forward", counting(type(model.fusion).forward, seen))
    model(**batch)
    asked = {k: v for k, v in batch.items() if k not in ("labels", "queue_ids", "queue_mask")}
    model.generate(**asked, max_new_tokens=2, do_sample=False)
    assert len(seen) == 4  # encode and the fusion below it, once each
    assert all(torch.equal(seen[0], tokens) for tokens in seen)


def counting(function: Any, seen: list[Tensor]) -> Any:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        seen.append(result.tokens)
        return result

    return wrapped


def test_asking_for_attention_changes_nothing_else(built: Built, batch: dict[str, Tensor]) -> None:
    model = built[0]
    plain = model(**batch)
    shown = model(**batch, return_attention=True)
    assert torch.equal(plain.logits, shown.logits)
    assert torch.equal(plain.loss, shown.loss)
    layers, heads = model.config.fusion_layers, model.config.fusion_heads
    tokens = batch["question_ids"].shape[1]
    assert shown.attention.shape == (4, layers, heads, tokens, 21)  # 1 + 4 + 16 blocks
    torch.testing.assert_close(shown.attention.sum(-1), torch.ones(4, layers, heads, tokens))


def gradients(model: BioD2CForConditionalGeneration, loss: Tensor) -> dict[str, float]:
    """Largest gradient of each parameter."""
    loss.backward()
    return {
        name: 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        for name, parameter in model.named_parameters()
    }


def test_semantic_loss_reaches_every_weight_of_the_fusion_and_no_other(
    fresh: BioD2CForConditionalGeneration, batch: dict[str, Tensor]
) -> None:
    """In stage 2, where the authors' code reaches neither gate nor beta nor text MLP."""
    prepare_stage(fresh, 2, StageSettings(), LoraSettings(r=2))
    fresh.train()
    largest = gradients(fresh, fresh(**batch).losses["sem"])
    moved = {name for name, value in largest.items() if value > 0}
    assert {name.split(".")[1] for name in moved} == {
        "beta",
        "decoder",
        "project",
        "project_gated",
        "queries",
        "text_mlp",
    }
    assert moved == {name for name in largest if name.startswith("fusion.")}


def test_the_texts_are_a_fixed_target(llama: Path, batch: dict[str, Tensor]) -> None:
    """Without the fused branch, nothing is left through which L_sem could move an embedding."""
    model, _ = tiny_models.build(llama, fusion="off")
    largest = gradients(model, model(**batch).losses["sem"])
    assert model.get_input_embeddings().weight.requires_grad
    assert not [n for n, value in largest.items() if value > 0 and not n.startswith("fusion.")]
    assert largest["fusion.project.0.weight"] > 0


def test_text_loss_reaches_fusion_and_language_model(
    fresh: BioD2CForConditionalGeneration, batch: dict[str, Tensor]
) -> None:
    largest = gradients(fresh, fresh(**batch).losses["nll"])
    assert largest["fusion.beta"] > 0
    assert largest["fusion.text_mlp.0.weight"] > 0
    assert largest["language_model.lm_head.weight"] > 0
    assert all(value == 0 for name, value in largest.items() if name.startswith("vision."))


def test_fusion_off_is_blind_to_the_question(llama: Path, batch: dict[str, Tensor]) -> None:
    model, _ = tiny_models.build(llama, fusion="off")
    assert "fusion.beta" not in dict(model.named_parameters())
    image = model.encode_image(batch["pixel_values"])
    other = batch["question_ids"].flip(0)
    first = model.encode(batch["question_ids"], batch["question_mask"], image)
    second = model.encode(other, batch["question_mask"], image, return_attention=True)
    assert torch.equal(first.tokens, second.tokens)
    assert second.attention is None
    assert model(**batch).loss.isfinite()


def test_fusion_on_is_not(built: Built, batch: dict[str, Tensor]) -> None:
    model = built[0]
    image = model.encode_image(batch["pixel_values"])
    first = model.encode(batch["question_ids"], batch["question_mask"], image)
    other = model.encode(batch["question_ids"].flip(0), batch["question_mask"], image)
    assert not torch.allclose(first.tokens, other.tokens, atol=1e-4)


def test_semantic_loss_off(llama: Path, built: Built, batch: dict[str, Tensor]) -> None:
    model, _ = tiny_models.build(llama, semantic_loss="off")
    output = model(**batch)
    assert "sem" not in output.losses
    assert torch.equal(output.loss, output.losses["nll"])
    assert torch.equal(output.losses["nll"], built[0](**batch).losses["nll"])


def test_without_a_queue_there_is_no_semantic_loss(built: Built, data: Path) -> None:
    batch = tiny_models.make_batch(built[1], data.parent, queue_size=0)
    output = built[0](**batch)
    assert "sem" not in output.losses
    assert torch.equal(output.loss, output.losses["nll"])


def test_without_labels_there_is_no_loss(built: Built, batch: dict[str, Tensor]) -> None:
    output = built[0](**{key: value for key, value in batch.items() if key != "labels"})
    assert output.loss is None
    assert output.losses is None


def test_gradient_checkpointing_changes_no_gradient(llama: Path, batch: dict[str, Tensor]) -> None:
    results = []
    for enabled in (False, True):
        model, _ = tiny_models.build(llama)
        model.train()
        if enabled:
            model.gradient_checkpointing_enable()
        inside = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
        assert bool(inside) is enabled
        torch.manual_seed(1)
        model(**batch).loss.backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        torch.testing.assert_close(gradient, results[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [("question_ids", "no question_ids"), ("attention_mask", "no input_ids or attention_mask")],
)
def test_what_is_missing_beside_an_image_is_named(
    built: Built, batch: dict[str, Tensor], left_out: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        built[0](**{key: value for key, value in batch.items() if key != left_out})


def test_an_image_comes_as_pixels_or_as_features(built: Built, batch: dict[str, Tensor]) -> None:
    for given in ({}, {"pixel_values": batch["pixel_values"], "grid_features": torch.zeros(1)}):
        with pytest.raises(InputError, match="either pixel_values or grid_features"):
            built[0].encode_image(**given)


def test_question_longer_than_the_visual_tokens_is_cut(
    built: Built, batch: dict[str, Tensor]
) -> None:
    model = built[0]
    image = model.encode_image(batch["pixel_values"][:1])
    ids = torch.arange(3, 3 + tiny_models.VISUAL_TOKENS + 5)[None]
    long = model.encode(ids, torch.ones_like(ids), image)
    cut = ids[:, : tiny_models.VISUAL_TOKENS]
    assert torch.equal(long.tokens, model.encode(cut, torch.ones_like(cut), image).tokens)
    losses = []
    for texts in (ids, cut):  # a queue text goes as far as the question
        read = {"question_ids": texts.expand(4, -1), "queue_ids": texts.expand(4, 2, -1).clone()}
        read["queue_ids"][:, 1] += 9
        masks = {n.replace("ids", "mask"): torch.ones_like(each) for n, each in read.items()}
        losses.append(model(**{**batch, **read, **masks}).losses["sem"])
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "maybe"}, "fusion is 'maybe'. Use one of: on, off"),
        ({"semantic_loss": "kl"}, "semantic_loss is 'kl'"),
        ({"semantic_temperature": 0.0}, "semantic_temperature is 0.0, expected at least 0.0001"),
    ],
)
def test_configuration_refuses_what_the_paper_has_no_name_for(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        BioD2CConfig(**changes)
    assert message in str(caught.value)


def test_defaults_are_the_papers() -> None:
    config = BioD2CConfig()
    assert (config.vision["name"], config.vision["levels"]) == ("RN50", [3])
    assert config.vision["image_size"] == 512
    assert (config.num_visual_tokens, config.fusion_layers, config.fusion_heads) == (32, 12, 8)
    assert (config.fusion_feed_forward, config.fusion_dropout) == (1024, 0.1)
    assert (config.beta_init, config.semantic_temperature) == (0.2, 0.1)
    assert config.text_config.model_type == "llama"


def test_encoder_decoder_models_are_refused(llama: Path) -> None:
    from transformers import T5Config

    config = model_config(tiny_models.model_settings(llama), T5Config(d_model=8, num_layers=1))
    with pytest.raises(ConfigError, match=r"is an encoder-decoder model \(t5\)"):
        BioD2CForConditionalGeneration(config)


def test_guidance_trains_the_decoder_and_changes_nothing_else(
    fresh: BioD2CForConditionalGeneration, batch: dict[str, Tensor]
) -> None:
    plain = fresh(**batch)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).expand(len(batch["labels"]), 1, 4)
    fresh.loss_weights["att"] = 0.25
    guided = fresh(**batch, boxes=boxes)
    assert "att" not in plain.losses
    assert guided.attention is None
    torch.testing.assert_close(guided.loss, plain.loss + 0.25 * guided.losses["att"])
    largest = gradients(fresh, guided.losses["att"])
    assert largest["fusion.decoder.layers.0.multihead_attn.in_proj_weight"] > 0
    assert largest["fusion.text_mlp.0.weight"] > 0
    assert largest["fusion.beta"] == 0  # only where it looks, not what it makes of it


def test_answer_words_train_the_fusion_module_and_go_past_the_language_model(
    fresh: BioD2CForConditionalGeneration, batch: dict[str, Tensor]
) -> None:
    plain = fresh(**batch)
    assert "ans" not in plain.losses
    fresh.loss_weights["ans"] = 0.25
    read = fresh(**batch)
    torch.testing.assert_close(read.loss, plain.loss + 0.25 * read.losses["ans"])
    largest = gradients(fresh, read.losses["ans"])
    for name in ("queries", "beta", "project_gated.2.weight", "text_mlp.0.weight"):
        assert largest[f"fusion.{name}"] > 0, name
    assert not any(
        value for name, value in largest.items() if "language_model.model.layers" in name
    )


def test_guidance_needs_a_fusion_decoder(llama: Path, batch: dict[str, Tensor]) -> None:
    model, _ = tiny_models.build(llama, fusion="off")
    output = model(**batch, boxes=torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]).expand(4, 1, 4))
    assert "att" not in output.losses
