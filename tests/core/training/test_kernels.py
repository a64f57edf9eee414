"""Packing gives the losses of padding; switches that need a GPU or a package are refused in a line."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from biod2c_core.errors import InputError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.training import kernels
from biod2c_core.training.run import train


def step(model: BioD2CForConditionalGeneration, batch: dict[str, Tensor]) -> list[Tensor]:
    """Losses and gradients of a training step."""
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    assert output.loss_nll is not None
    assert output.loss_sem is not None
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return [output.loss_nll.detach(), output.loss_sem.detach(), *gradients]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_samples_do_not_see_each_other(attention: str, llama: Path, data: Path) -> None:
    """The plain attentions honour the same positions as the varlen kernels do."""
    model, processor = tiny_models.build(llama, fusion_dropout=0.0)
    batch = tiny_models.make_batch(processor, data.parent)
    model.train().language_model.set_attn_implementation(attention)
    shapes: list[Any] = []
    model.language_model.register_forward_pre_hook(
        lambda module, _, inputs: shapes.append(tuple(inputs["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    padded = step(model, batch)
    model.packing = True
    packed = step(model, batch)
    real = int(batch["attention_mask"].sum()) + 4 * tiny_models.VISUAL_TOKENS
    slots = batch["attention_mask"].shape[1] + tiny_models.VISUAL_TOKENS
    assert shapes == [(4, slots), (1, real)]
    assert real < 4 * slots
    assert len(padded) > 20
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


def test_answers_are_not_packed(llama: Path, data: Path) -> None:
    """Evaluation wants logits at all positions of each row."""
    model, processor = tiny_models.build(llama)
    batch = tiny_models.make_batch(processor, data.parent)
    model.packing = True
    assert model(**batch).logits.shape[:2] == batch["input_ids"].shape


@pytest.mark.parametrize(
    ("switch", "line"),
    [
        ("packing", "packing=true, but this run is on the CPU, and varlen attention runs on CUDA"),
        ("liger", "liger=true, but this run is on the CPU, and Liger's kernels run on CUDA"),
    ],
)
def test_on_the_cpu_a_switch_is_refused_before_anything_is_done(
    switch: str, line: str, llama: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_models.training_config(llama, **{switch: True})
    with pytest.raises(InputError, match=line):
        train(config, 2, [data], tmp_path / "run", tiny_models.Silent(), device="cpu")
    assert not (tmp_path / "run").exists()


def test_what_is_missing_on_a_gpu_is_named(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_models.training_config(llama, packing=True, bf16=False).stage2
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'flash_attn', which is not .*biod2c\[packing\]"):
        kernels.check_kernels(settings, on_cpu=False)
    with pytest.raises(InputError, match=r"'liger_kernel', which is not .*biod2c\[liger\]"):
        kernels.check_kernels(replace(settings, packing=False, liger=True), on_cpu=False)
    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="packing=true needs mixed precision"):
        kernels.check_kernels(settings, on_cpu=False)
    kernels.check_kernels(replace(settings, bf16=True, liger=True), on_cpu=False)


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_a_language_model_without_varlen_attention_is_named(llama: Path) -> None:
    model = tiny_models.build(llama)[0]
    settings = tiny_models.training_config(llama, packing=True).stage2
    with pytest.raises(InputError, match="packing=true does not work here"):
        kernels.choose_kernels(model, settings, on_cpu=False)
    assert not model.packing


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("switch", "package"), [("packing", "flash_attn"), ("liger", "liger_kernel")]
)
def test_on_a_gpu_a_switch_changes_the_losses_by_rounding_only(
    switch: str, package: str, llama: Path, data: Path
) -> None:
    pytest.importorskip(package)
    settings = tiny_models.training_config(llama, bf16=True, **{switch: True}).stage2
    kernels.check_kernels(settings, on_cpu=False)
    losses = []
    for chosen in (replace(settings, **{switch: False}), settings):
        model, processor = tiny_models.build(llama, fusion_dropout=0.0)
        batch = tiny_models.make_batch(processor, data.parent)
        kernels.choose_kernels(model, chosen, on_cpu=False)
        model.cuda().train()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            losses.append(step(model, {k: v.cuda() for k, v in batch.items()})[:2])
    torch.testing.assert_close(losses[1], losses[0], atol=0, rtol=2e-2)
