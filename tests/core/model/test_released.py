"""The authors' published weights give here what their own code computes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import released
import torch
from safetensors.torch import save_file
from torch import Tensor

from biod2c_core.errors import CheckpointError
from biod2c_core.model.checkpoints.convert import convert
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.model.modeling import BioD2CForConditionalGeneration

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not released.FOLDER.is_dir(), reason=f"nothing at {released.FOLDER}; set BIOD2C_RELEASED"
    ),
]
TENSORS = (
    "grid_features_mean",
    "grid_features_corner",
    "mfe_first_21",
    "mfe_last_8",
    "visual_tokens",
    "visual_tokens_short",
    "logits",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    save_file(released.tensors(), folder / "model.safetensors")
    released.write_llama(folder / "llama")
    return folder


@pytest.fixture(scope="module")
def converted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(source, tmp_path_factory.mktemp("converted") / "model").folder


@torch.no_grad()
def compute(model: BioD2CForConditionalGeneration) -> dict[str, Tensor]:
    """What the expected file holds, by this project's model."""
    inputs = released.expected()
    grid = model.vision(released.images())
    image = model.encode_image(grid_features=grid)
    short = inputs["short_question_ids"]
    question = {
        "question_ids": inputs["question_ids"],
        "question_mask": torch.ones_like(inputs["question_ids"]),
    }
    output = model(
        input_ids=inputs["ids"],
        attention_mask=torch.ones_like(inputs["ids"]),
        labels=inputs["labels"][:, 32:],
        queue_ids=inputs["queue_ids"],
        queue_mask=torch.ones_like(inputs["queue_ids"]),
        grid_features=grid,
        **question,
    )
    generated = model.generate(
        input_ids=short,
        attention_mask=torch.ones_like(short),
        question_ids=short,
        question_mask=torch.ones_like(short),
        image=image,
        max_new_tokens=12,
        do_sample=False,
    )
    return {
        "grid_features_mean": grid.mean((1, 2)),
        "grid_features_corner": grid.flatten(1, 2)[:, :4],
        "mfe_first_21": image.blocks[:, :21],
        "mfe_last_8": image.blocks[:, -8:],
        "visual_tokens": model.encode(image=image, **question).tokens,
        "visual_tokens_short": model.encode(short, torch.ones_like(short), image).tokens,
        "logits": output.logits,
        "loss_nll": output.losses["nll"],
        "loss_total": output.loss,
        "generated_ids_short": generated,
    }


def assert_same(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in TENSORS:
        assert released.relative(got[name], wanted[name]) < 1e-4, name
    for name in ("loss_nll", "loss_total"):
        assert float(got[name]) == pytest.approx(float(wanted[name]), abs=1e-4), name
    assert torch.equal(got["generated_ids_short"], wanted["generated_ids_short"])


def test_every_expected_tensor_after_conversion_and_after_saving_again(
    converted: Path, tmp_path: Path
) -> None:
    model = load_model(converted)
    assert_same(compute(model), released.expected())
    assert model.generation_config.eos_token_id == 1  # the released weights stop there
    model.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[name]), name


def test_the_second_derivation_agrees_with_the_expected_file() -> None:
    """Otherwise it would prove nothing about twelve layers."""
    assert_same(released.authors_model(released.tensors(), 2), released.expected())


@pytest.mark.slow
def test_twelve_fusion_layers(tmp_path: Path) -> None:
    weights = released.tensors(12)
    save_file(weights, tmp_path / "model.safetensors")
    llama = released.write_llama(tmp_path / "llama")
    folder = convert(tmp_path / "model.safetensors", tmp_path / "out", str(llama)).folder
    model = load_model(folder)
    assert model.config.fusion_layers == 12
    assert_same(compute(model), released.authors_model(weights, 12))


def test_what_the_authors_never_use_is_listed(source: Path, tmp_path: Path) -> None:
    result = convert(source, tmp_path / "out")
    prefixes = {name.partition(".")[0] for name in result.unused}
    assert prefixes == {"fc_hpm", "query_embed2", "decoder_hpm"}
    assert result.tensors + len(result.unused) == len(released.tensors())
    assert "no tokenizer" in result.note


def test_older_names_of_peft(source: Path, converted: Path, tmp_path: Path) -> None:
    renamed = {
        name.replace(".base_layer", "").replace(".default", ""): value
        for name, value in released.tensors().items()
    }
    assert len(renamed) == len(released.tensors())
    save_file(renamed, tmp_path / "model.safetensors")
    folder = convert(tmp_path, tmp_path / "out", str(source / "llama")).folder
    old, new = load_model(folder).state_dict(), load_model(converted).state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(value, new[name]) for name, value in old.items())


def test_the_gate_the_text_mlp_and_beta_get_no_gradient_from_the_released_loss(
    converted: Path,
) -> None:
    """The paper's loss is taken after the gate and does reach them."""
    model = load_model(converted)
    inputs = released.expected()
    torch.manual_seed(0)
    batch = {
        "input_ids": inputs["ids"],
        "attention_mask": torch.ones_like(inputs["ids"]),
        "labels": inputs["labels"][:, 32:],
        "question_ids": inputs["question_ids"],
        "question_mask": torch.ones_like(inputs["question_ids"]),
        "queue_ids": inputs["queue_ids"],
        "queue_mask": torch.ones_like(inputs["queue_ids"]),
        "grid_features": torch.randn(2, 32, 32, 1024),
    }
    for kind, reached in (("released", False), ("paper", True)):
        model.config.semantic_loss = kind
        (gradient,) = torch.autograd.grad(
            model(**batch).losses["sem"], model.fusion.beta, allow_unused=True
        )
        assert (gradient is not None) == reached


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.norm.weight": None}, r"missing \[fusion.decoder.norm.weight\] \(1\)"),
        ({"stranger.weight": torch.zeros(2)}, r"unexpected \[stranger.weight\] \(1\)"),
        ({"beta": torch.zeros(3)}, r"size mismatch \[fusion.beta \(3,\) instead of \(\)\] \(1\)"),
        ({"fc_l2.weight": torch.zeros(48, 1024)}, "a language model of width 48, .* width 64"),
        ({"query_embed1.weight": None}, r"missing \['query_embed1.weight'\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: dict[str, Tensor | None], message: str, source: Path, tmp_path: Path
) -> None:
    weights = {k: v for k, v in {**released.tensors(1), **change}.items() if v is not None}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        convert(tmp_path / "model.safetensors", tmp_path / "out", str(source / "llama"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
