"""The stand-in for the authors' published weights, and what their code computes from it, told anew.

``BIOD2C_RELEASED`` names the folder with ``make_released_checkpoint.py`` and ``expected.safetensors``.
:func:`authors_model` is a second derivation of their arithmetic from torch's own layers, for cases that
the expected file does not hold; nothing of the project's model is used in it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("BIOD2C_RELEASED", REPOSITORY.parent / "shared" / "released_parity"))


@cache
def recipe() -> Any:
    """The script that writes the stand-in."""
    spec = importlib.util.spec_from_file_location(
        "released", FOLDER / "make_released_checkpoint.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def expected() -> dict[str, Tensor]:
    """What the authors' code gave."""
    return load_file(FOLDER / "expected.safetensors")


@cache
def _two_layer_tensors() -> dict[str, Tensor]:
    return recipe().checkpoint(2)


def tensors(layers: int = 2) -> dict[str, Tensor]:
    """The stand-in's tensors; with another depth without the decoder that the authors never use."""
    script = recipe()
    if layers == 2:
        return dict(_two_layer_tensors())
    layout = script.layout
    script.layout = lambda count: {
        name: value for name, value in layout(count).items() if not name.startswith("decoder_hpm.")
    }
    try:
        return script.checkpoint(layers)
    finally:
        script.layout = layout


def write_llama(folder: Path) -> Path:
    """The configuration of the language model in the stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(recipe().LLAMA_CONFIG))
    return folder


def images() -> Tensor:
    """The two images of the expected file."""
    return torch.randn(2, 3, 512, 512, generator=torch.Generator().manual_seed(20251))


def relative(got: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((got.float() - wanted.float()).abs().max() / wanted.float().abs().max())


def _linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _two_layers(weights: dict[str, Tensor], first: str, second: str, x: Tensor) -> Tensor:
    return _linear(weights, second, F.relu(_linear(weights, first, x)))


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _pyramid(grid: Tensor) -> Tensor:
    """Max plus mean of 1, 4, 16 ... blocks of a (B, D, 32, 32) map: (B, 1365, D)."""
    return torch.cat(
        [
            (F.adaptive_max_pool2d(grid, side) + F.adaptive_avg_pool2d(grid, side)).flatten(2)
            for side in (1, 2, 4, 8, 16, 32)
        ],
        dim=2,
    ).transpose(1, 2)


def _trunk(weights: dict[str, Tensor]) -> nn.Module:
    visual = open_clip.CLIP(
        16,
        open_clip.CLIPVisionCfg(layers=(3, 4, 6, 3), width=64, image_size=512),
        open_clip.CLIPTextCfg(context_length=1, vocab_size=1, width=8, heads=1, layers=1),
    ).visual
    v: Any = visual
    first = [v.conv1, v.bn1, v.act1, v.conv2, v.bn2, v.act2, v.conv3, v.bn3, v.act3, v.avgpool]
    trunk = nn.Sequential(*first, v.layer1, v.layer2, v.layer3)
    trunk.load_state_dict(_part(weights, "vision_model."))
    return trunk.eval()


def _language_model(weights: dict[str, Tensor]) -> Any:
    """The Llama with its adapters folded in: W + (32 / 8) B A."""
    inner = _part(weights, "llamacasual.base_model.model.")
    state = {k.replace(".base_layer", ""): v for k, v in inner.items() if "lora_" not in k}
    for name in inner:
        if ".lora_A." in name:
            down, up = inner[name], inner[name.replace("lora_A", "lora_B")]
            place = name.replace(".lora_A.default", "")
            state[place] = state[place] + 4 * up @ down
    config = dict(recipe().LLAMA_CONFIG)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def authors_model(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Everything of the expected file, for weights with any number of fusion layers."""
    inputs = expected()
    layer = nn.TransformerDecoderLayer(1024, 8, 1024, 0.0, batch_first=True, norm_first=True)
    decoder = nn.TransformerDecoder(layer, layers, nn.LayerNorm(1024)).eval()
    decoder.load_state_dict(_part(weights, "decoder."))
    language_model = _language_model(weights)
    embed = language_model.get_input_embeddings()
    grid = _trunk(weights)(images())
    cells, blocks = grid.flatten(2).transpose(1, 2), _pyramid(grid)
    queries = weights["query_embed1.weight"].expand(2, -1, -1)
    before = _two_layers(weights, "fc_l1", "fc_l2", decoder(queries, cells))

    def visual_tokens(ids: Tensor) -> Tensor:
        question = _two_layers(
            weights, "mlp.layer1", "mlp.layer2", embed(F.pad(ids, (0, 32 - ids.shape[1])))
        )
        fused = _two_layers(weights, "fc_l1_gate", "fc_l2_gate", decoder(question, blocks))
        return before + torch.tanh(weights["beta"]) * fused

    long = visual_tokens(inputs["question_ids"])
    short = visual_tokens(inputs["short_question_ids"])
    logits = language_model(inputs_embeds=torch.cat([long, embed(inputs["ids"])], 1)).logits
    nll = F.cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
    queue, text = embed(inputs["queue_ids"]), embed(inputs["question_ids"])
    p_v, p_t = (
        (F.cosine_similarity(x[:, None], queue, dim=-1).mean(-1) / 0.1).softmax(-1)
        for x in (before, text)
    )
    prompt = torch.cat([short, embed(inputs["short_question_ids"])], 1)
    generated = language_model.generate(
        inputs_embeds=prompt,
        attention_mask=torch.ones(prompt.shape[:2]),
        max_new_tokens=12,
        do_sample=False,
    )
    return {
        "grid_features_mean": grid.mean((2, 3)),
        "grid_features_corner": cells[:, :4],
        "mfe_first_21": blocks[:, :21],
        "mfe_last_8": blocks[:, -8:],
        "visual_tokens": long,
        "visual_tokens_short": short,
        "logits": logits[:, 32:],
        "loss_nll": nll,
        "loss_total": nll + (p_t * (p_t.log() - p_v.log())).sum(-1).mean(),
        "generated_ids_short": generated,
    }
