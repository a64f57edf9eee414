"""The preset ``paper`` at full size with random weights on one GPU: memory, samples a second, MFU.

    python benchmarks/training_gpu.py [--batch 8] [--tokens 64] [--steps 20] [--tera-flops 989]

For LoRA and QLoRA (extra ``qlora``), with and without activation checkpointing. A row that does not fit
says so. MFU counts 2 FLOPs for each weight and position forward, and as many back, since the language
model's own weights get no gradient; recomputation is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from importlib.util import find_spec

import torch

from biod2c_core.config import load_config
from biod2c_core.model.build import model_config
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.training.base_weights import hold_base_weights
from biod2c_core.training.stages import prepare_stage


def make_batch(batch: int, tokens: int, words: int) -> dict[str, torch.Tensor]:
    """Random pixels and texts; the last four tokens are the answer."""
    ids = torch.randint(1, words, (batch, tokens))
    labels = ids.clone()
    labels[:, :-4] = -100
    question = ids[:, :16]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.rand(batch, 3, 512, 512),
        "question_ids": question,
        "question_mask": torch.ones_like(question),
        "queue_ids": torch.randint(1, words, (batch, 30, 10)),
        "queue_mask": torch.ones(batch, 30, 10, dtype=torch.long),
    }


def measure(
    base: str, checkpointing: bool, batch: int, tokens: int, steps: int
) -> dict[str, float]:
    """Train some steps of stage 2 and measure the second half."""
    from transformers import LlamaConfig

    config = load_config("paper")
    text = LlamaConfig(attn_implementation="sdpa")
    settings = replace(config.stage2, base_weights=base, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    model = BioD2CForConditionalGeneration(model_config(config.model, text))
    prepare_stage(model, 2, 1.0, config.model.lora)
    hold_base_weights(model, settings)
    model.vision.fold()
    if checkpointing:
        model.language_model.activation_checkpointing_enable({"use_reentrant": False})
    model.cuda().train()
    torch.cuda.reset_peak_memory_stats()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-5, fused=True)
    inputs = {k: v.cuda() for k, v in make_batch(batch, tokens, text.vocab_size).items()}
    begin = 0.0
    for step in range(steps):
        if step == steps // 2:
            torch.cuda.synchronize()
            begin = time.perf_counter()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) / (steps - steps // 2)
    weights = 6.74e9 + sum(parameter.numel() for parameter in trained)
    positions = batch * (tokens + config.model.num_visual_tokens)
    return {
        "memory": torch.cuda.max_memory_allocated() / 2**30,
        "samples": batch / seconds,
        "flops": 4 * weights * positions / seconds,
    }


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tera-flops", type=float, default=989, help="of the card in bfloat16")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU is at hand")
    kinds = ["bfloat16"] + (["nf4"] if find_spec("bitsandbytes") else [])
    for base in kinds:
        for checkpointing in (True, False):
            name = f"{base}, checkpointing {'on' if checkpointing else 'off'}"
            try:
                found = measure(
                    base, checkpointing, arguments.batch, arguments.tokens, arguments.steps
                )
            except torch.cuda.OutOfMemoryError:
                print(f"{name:28} does not fit")
                continue
            finally:
                torch.cuda.empty_cache()
            share = found["flops"] / (arguments.tera_flops * 1e12)
            print(
                f"{name:28} {found['memory']:6.1f} GiB {found['samples']:7.2f} samples/s "
                f"MFU {share:.1%}"
            )


if __name__ == "__main__":
    main()
