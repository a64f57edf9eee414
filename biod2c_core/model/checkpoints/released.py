"""The authors' published ``model.safetensors`` under this project's names.

Their file holds a vision trunk, the fusion module and a LoRA-wrapped language model; a second
decoder, a second set of queries and one linear layer in it are never used by their own code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from biod2c_core.errors import CheckpointError
from biod2c_core.model.configuration import BioD2CConfig

IMAGE_SIZE = 512
_HEADS = 8  # of their decoder; no shape tells
_LORA = {"lora_alpha": 32, "lora_dropout": 0.1}
_LANGUAGE_MODEL = "llamacasual."
_UNUSED = ("fc_hpm.", "query_embed2.", "decoder_hpm.")
_UNSTORED = "rotary_emb.inv_freq"  # a table that older versions of transformers stored
_STEM = (
    "conv1",
    "bn1",
    "",
    "conv2",
    "bn2",
    "",
    "conv3",
    "bn3",
    "",
    "",
    "layer1",
    "layer2",
    "layer3",
)
_FUSION = {
    "query_embed1.weight": "queries",
    "beta": "beta",
    "mlp.layer1.": "text_mlp.0.",
    "mlp.layer2.": "text_mlp.2.",
    "fc_l1.": "project.0.",
    "fc_l2.": "project.2.",
    "fc_l1_gate.": "project_gated.0.",
    "fc_l2_gate.": "project_gated.2.",
    "decoder.": "decoder.",
}
_SHAPES = (
    "query_embed1.weight",
    "mlp.layer1.weight",
    "decoder.layers.0.linear1.weight",
    "fc_l2.weight",
)


def is_released(names: Collection[str]) -> bool:
    """Whether these are the names of the authors' file."""
    return any(name.startswith((_LANGUAGE_MODEL, "fc_l1.", "query_embed1.")) for name in names)


def rename(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Give every tensor this project's name.

    Args:
        tensors: The authors' file; its LoRA layers named as by any version of PEFT.

    Returns:
        Tensors by their new name (names that nothing is known of stay), and the unused names.
    """
    adapted = {name.partition(".lora_")[0] for name in tensors if ".lora_" in name}
    renamed, unused = {}, []
    for name, value in tensors.items():
        if name.startswith(_UNUSED) or name.endswith(_UNSTORED):
            unused.append(name)
        elif name.startswith(_LANGUAGE_MODEL):
            renamed[_language_model_name(name, adapted)] = value
        elif name.startswith("vision_model."):
            renamed[_vision_name(name)] = value
        else:
            renamed[_fusion_name(name)] = value
    return renamed, unused


def _language_model_name(name: str, adapted: Collection[str]) -> str:
    """``llamacasual.base_model.model.X`` -> ``language_model.X``, in PEFT's present names."""
    inner = name.removeprefix(_LANGUAGE_MODEL).removeprefix("base_model.model.")
    inner = re.sub(r"\.(lora_[AB])\.(weight|bias)$", r".\1.default.\2", inner)
    module, _, parameter = name.rpartition(".")
    if module in adapted:  # older PEFT: the adapted weight itself, without a name of its own
        inner = f"{inner.rpartition('.')[0]}.base_layer.{parameter}"
    return f"language_model.{inner}"


def _vision_name(name: str) -> str:
    _, index, rest = name.split(".", 2)
    known = index.isdigit() and int(index) < len(_STEM) and _STEM[int(index)]
    return f"vision.trunk.model.{_STEM[int(index)]}.{rest}" if known else name


def _fusion_name(name: str) -> str:
    for old, new in _FUSION.items():
        if name == old or (old.endswith(".") and name.startswith(old)):
            return f"fusion.{new}{name.removeprefix(old)}"
    return name


def configuration(tensors: Mapping[str, Tensor], text_config: Any) -> BioD2CConfig:
    """The configuration that the shapes in the authors' file tell.

    Args:
        tensors: The authors' file.
        text_config: Configuration of the language model in it.

    Raises:
        CheckpointError: A tensor that tells a size is missing, or the language model has another
            width.
    """
    missing = [name for name in _SHAPES if name not in tensors]
    if missing:
        raise CheckpointError(
            f"the weights do not fit the authors' layout: missing {missing}",
            "Give the complete published model.safetensors.",
        )
    queries, text_mlp, linear, project = (tensors[name] for name in _SHAPES)
    if project.shape[0] != text_config.hidden_size:
        raise CheckpointError(
            f"the weights are for a language model of width {project.shape[0]}, and the one given "
            f"has width {text_config.hidden_size}",
            "Give the configuration of the language model that is in the file.",
        )
    layers = {name.split(".")[2] for name in tensors if name.startswith("decoder.layers.")}
    return BioD2CConfig(
        vision={
            "library": "open_clip",
            "name": "RN50",
            "levels": [3],
            "image_size": IMAGE_SIZE,
        },
        text_config=text_config,
        num_visual_tokens=queries.shape[0],
        scales=6,
        architecture="released",
        fusion_layers=len(layers),
        fusion_heads=_HEADS,
        fusion_feed_forward=linear.shape[0],
        text_hidden=text_mlp.shape[0],
        semantic_loss="released",
        lora=_lora(tensors),
    )


def _lora(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The adapters' settings: rank and layers from the tensors, the rest as the authors trained."""
    downs = [name for name in tensors if re.search(r"\.lora_A(\.default)?\.weight$", name)]
    if not downs:
        return None
    targets = sorted({name.partition(".lora_A")[0].rpartition(".")[2] for name in downs})
    return {"r": tensors[downs[0]].shape[0], "target_modules": targets, **_LORA}
