"""Packing gives the losses of padding; switches that need a GPU or a package are refused in a line."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from biod2c_core.errors import InputError
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.ops.dropout import Dropout
from biod2c_core.training.hardware import kernels
from biod2c_core.training.train import train


def step(model: BioD2CForConditionalGeneration, batch: dict[str, Tensor]) -> list[Tensor]:
    """Losses and gradients of a training step."""
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    assert "nll" in output.losses
    assert "sem" in output.losses
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return [output.losses["nll"].detach(), output.losses["sem"].detach(), *gradients]


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


def test_samples_are_not_packed_where_a_layer_carries_a_state_on(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    model.config.text_config.layer_types = ["linear_attention", "full_attention"]
    settings = tiny_models.training_config("none", packing=True).stage2
    with pytest.raises(InputError, match=r"\(linear_attention\) carry what they have read"):
        kernels.choose_kernels(model, settings, on_cpu=False)
    assert not model.packing


def test_adapters_on_the_cpu_have_our_dropout_and_leave_casts_to_mixed_precision(
    llama: Path, data: Path
) -> None:
    settings = tiny_models.training_config(llama, bf16=True).stage2
    model, processor = tiny_models.build(llama, fusion_dropout=0.0)
    model.add_lora({"r": 2, "lora_dropout": 0.5, "target_modules": ["q_proj", "down_proj"]})
    adapters = [each for each in model.modules() if isinstance(each, LoraLayer)]
    for adapter in adapters:  # as they are new, they would add nothing
        nn.init.normal_(adapter.lora_B["default"].weight, std=0.1)
    batch = tiny_models.make_batch(processor, data.parent)
    model.language_model.set_attn_implementation("eager")
    plain = model.eval()(**batch).loss
    read: list[torch.dtype] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read.append(inputs[0].dtype)

    losses = []
    for chosen in (False, True):
        if chosen:
            kernels.choose_kernels(model, settings, on_cpu=True)
        handle = adapters[-1].lora_A["default"].register_forward_pre_hook(note)  # of a down_proj
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses.append(model(**batch).loss)
        handle.remove()
    assert read == [torch.float32, torch.bfloat16]
    torch.testing.assert_close(losses[1], losses[0], atol=0, rtol=2e-2)
    dropouts = [each.lora_dropout["default"] for each in adapters]
    assert len(dropouts) > 1
    assert all(isinstance(each, Dropout) and each.p == 0.5 for each in dropouts)
    kernels.choose_kernels(model, replace(settings, bf16=False), on_cpu=True)
    torch.testing.assert_close(model(**batch).loss, plain)


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
