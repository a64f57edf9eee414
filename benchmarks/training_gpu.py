"""The preset ``paper`` at full size with random weights on one GPU: memory, samples a second, MFU.

    python benchmarks/training_gpu.py [--batch 8] [--tokens 64] [--steps 20] [--tera-flops 989]
    python benchmarks/training_gpu.py --toy     # the same lines with a toy model, on the CPU too

For LoRA and QLoRA (extra ``qlora``), with and without activation checkpointing. A row that does not fit
says so. MFU counts 2 FLOPs for each weight of the decoder and position forward, and as many back, since
the language model's own weights get no gradient; recomputation is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from biod2c_core.config import ModelSettings, StageSettings, VisionConfig, load_config
from biod2c_core.model.build import model_config
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.training.hardware.base_weights import hold_base_weights
from biod2c_core.training.logs.run_log import peak_memory
from biod2c_core.training.stages import count_parameters, prepare_stage

TOY_TEXT = {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
TOY_MODEL: dict[str, Any] = {
    "vision": VisionConfig("timm", "test_efficientnet", levels=(3,), image_size=64),
    "scales": "auto",
    "fusion_layers": 2,
    "fusion_feed_forward": 64,
    "text_hidden": 64,
}


@dataclass(frozen=True)
class Setting:
    """What is trained.

    Attributes:
        model: The parts of the model.
        text: Arguments of the language model's configuration.
        stage: How it is trained.
        device: Where.
    """

    model: ModelSettings
    text: dict[str, Any]
    stage: StageSettings
    device: torch.device


def make_batch(setting: Setting, batch: int, tokens: int, words: int) -> dict[str, torch.Tensor]:
    """Random pixels and texts; the last four tokens are the answer."""
    ids = torch.randint(1, words, (batch, tokens))
    labels = ids.clone()
    labels[:, :-4] = -100
    question = ids[:, :16]
    side = setting.model.vision.image_size
    assert isinstance(side, int)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.rand(batch, 3, side, side),
        "question_ids": question,
        "question_mask": torch.ones_like(question),
        "queue_ids": torch.randint(1, words, (batch, 30, 10)),
        "queue_mask": torch.ones(batch, 30, 10, dtype=torch.long),
    }
    return {name: tensor.to(setting.device) for name, tensor in inputs.items()}


def build(setting: Setting) -> tuple[BioD2CForConditionalGeneration, int]:
    """The model, ready for stage 2, and the weights of the language model's decoder."""
    from transformers import LlamaConfig

    torch.manual_seed(0)
    text = LlamaConfig(**setting.text, attn_implementation="sdpa")
    model = BioD2CForConditionalGeneration(model_config(setting.model, text))
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    decoder = count_parameters(model.language_model)[1]
    decoder -= sum(count_parameters(each)[1] for each in ends)
    prepare_stage(model, 2, StageSettings(), setting.model.lora)
    hold_base_weights(model, setting.stage)
    model.vision.fold()
    if setting.stage.gradient_checkpointing:
        model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    return model.to(setting.device).train(), decoder


def synchronize(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure(setting: Setting, batch: int, tokens: int, steps: int) -> dict[str, float]:
    """Train some steps of stage 2 and measure the second half."""
    model, decoder = build(setting)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, fused=True)
    inputs = make_batch(setting, batch, tokens, model.config.text_config.vocab_size)
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    begin = 0.0
    for step in range(steps):
        if step == steps // 2:
            synchronize(setting.device)
            begin = time.perf_counter()
        with torch.autocast(setting.device.type, dtype=torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    synchronize(setting.device)
    seconds = (time.perf_counter() - begin) / (steps - steps // 2)
    positions = batch * (tokens + setting.model.num_visual_tokens)
    return {
        "memory": peak_memory() / 2**30,
        "samples": batch / seconds,
        "flops": 4 * decoder * positions / seconds,
    }


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tera-flops", type=float, default=989, help="of the card in bfloat16")
    parser.add_argument("--toy", action="store_true", help="a toy model: shows that this works")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.toy):
        sys.exit("no GPU is at hand")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = load_config("paper")
    model = replace(config.model, **TOY_MODEL) if arguments.toy else config.model
    text = {**TOY_TEXT, "num_attention_heads": 4} if arguments.toy else {}
    kinds = ["bfloat16"] + (["nf4"] if find_spec("bitsandbytes") else [])
    for base, checkpointing in ((kind, on) for kind in kinds for on in (True, False)):
        name = f"{base}, checkpointing {'on' if checkpointing else 'off'}"
        stage = replace(config.stage2, base_weights=base, gradient_checkpointing=checkpointing)
        setting = Setting(model, text, stage, device)
        try:
            found = measure(setting, arguments.batch, arguments.tokens, arguments.steps)
        except torch.OutOfMemoryError:
            print(f"{name:28} does not fit", flush=True)
            continue
        finally:
            torch.cuda.empty_cache()
        share = found["flops"] / (arguments.tera_flops * 1e12)
        print(
            f"{name:28} {found['memory']:6.1f} GiB {found['samples']:8.2f} samples/s "
            f"MFU {share:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
