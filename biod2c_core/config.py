"""Configuration: frozen dataclasses, read from YAML presets, changed by flags. Free of torch.

A preset names the parts of the model and the settings of both stages. Whatever a key is called wrongly
is an error that names its path and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from biod2c_core.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
T = TypeVar("T")

# Least and most of a number, by the last part of its key.
_LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("image_size", "r", "num_visual_tokens", "scales"), (1, math.inf)),
    **dict.fromkeys(("fusion_layers", "fusion_heads", "fusion_feed_forward"), (1, math.inf)),
    **dict.fromkeys(("text_hidden", "batch_size", "questions_per_image"), (1, math.inf)),
    **dict.fromkeys(("gradient_accumulation", "log_every"), (1, math.inf)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm"), (0, math.inf)),
    **dict.fromkeys(("semantic_weight", "attention_weight", "answer_weight"), (0, math.inf)),
    "answer_vote": (0, math.inf),
    "projection_layers": (1, 2),
    **dict.fromkeys(("queue_size", "max_steps"), (0, math.inf)),
    **dict.fromkeys(("save_every", "keep", "epochs", "max_loss"), (0, math.inf)),
    **dict.fromkeys(("dropout", "fusion_dropout", "warmup_ratio"), (0, 0.99)),
    "semantic_temperature": (1e-4, math.inf),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower; see ``biod2c_core.model.vision.VisionTower``.

    Attributes:
        library: ``timm``, ``open_clip``, or a vision library that was registered.
        name: The model's name in that library; for open_clip also ``hf-hub:OWNER/MODEL`` or
            ``local-dir:FOLDER``, which bring their weights.
        levels: Stages of the pyramid, from 0; or ``auto``, the last one of stride 16.
        image_size: Side of the square input, pixels; or ``auto``, the tower's own.
        normalize: Layer-normalise each level over its channels.
        mean: Mean of the RGB channels, in [0, 1]; or ``auto``, the tower's own.
        std: Standard deviation of the RGB channels; or ``auto``.
        weights: File or folder of the weights, of the trunk, the whole model or a CLIP checkpoint; or
            empty for random weights.
    """

    library: str = "open_clip"
    name: str = "RN50"
    levels: tuple[int, ...] | Literal["auto"] = (3,)
    image_size: int | Literal["auto"] = 512
    normalize: bool = False
    mean: tuple[float, ...] | Literal["auto"] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] | Literal["auto"] = (0.229, 0.224, 0.225)
    weights: str = ""


@dataclass(frozen=True)
class LoraSettings:
    """LoRA adapters of the language model (stage 2).

    Attributes:
        r: Rank.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout in front of the adapters.
        targets: Names of the layers to adapt; or ``auto``, the attention's projections.
    """

    r: int = 8
    alpha: int = 32
    dropout: float = 0.1
    targets: tuple[str, ...] | Literal["auto"] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class ModelSettings:
    """The parts of the model; names as in ``BioD2CConfig``.

    Attributes:
        vision: The vision tower.
        language_model: Folder or hub name of a causal language model with its tokenizer.
        lora: Adapters of stage 2.
        prompt: Template around the question; or ``chat``, the language model's own chat template.
        num_visual_tokens: V.
        scales: S, or ``"auto"``.
        architecture: ``paper``, or ``released`` as in the authors' published weights.
        fusion: ``on`` or ``off``.
        fusion_layers: Layers of the fusion decoder.
        fusion_heads: Its attention heads.
        fusion_feed_forward: Its feed-forward width.
        fusion_dropout: Its dropout.
        projection_layers: Linear layers of the text MLP and of each projection of Eq. (2), 1 or 2.
        text_hidden: Hidden width of a text MLP of two layers.
        beta_init: Initial gate.
        encode_positions: Tell the decoder where each block lies.
        normalize_attention: Cross-attention compares directions, as sharply as each head learns.
        normalize_queries: So does self-attention, and the decoder's queries are layer-normalised.
        mix_neighbours: Each cell of X_v sees its eight neighbours before the fusion; may begin in a
            checkpoint that is trained further.
        read_map: What lies under the map and around it is read once more; may begin likewise.
        semantic_loss: ``paper``, ``released`` or ``off``.
        semantic_temperature: tau.
        answer_vote: Weight of the words read off the visual tokens in the answer (not in the paper);
            L_ans of a stage trains them.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    language_model: str = ""
    lora: LoraSettings = field(default_factory=LoraSettings)
    prompt: str = "Question: {question} Answer:"
    num_visual_tokens: int = 32
    scales: int | Literal["auto"] = "auto"
    architecture: Literal["paper", "released"] = "paper"
    fusion: Literal["on", "off"] = "on"
    fusion_layers: int = 12
    fusion_heads: int = 8
    fusion_feed_forward: int = 1024
    fusion_dropout: float = 0.1
    projection_layers: int = 2
    text_hidden: int = 2048
    beta_init: float = 0.2
    encode_positions: bool = False
    normalize_attention: bool = False
    normalize_queries: bool = False
    mix_neighbours: bool = False
    read_map: bool = False
    semantic_loss: Literal["paper", "released", "off"] = "paper"
    semantic_temperature: float = 0.1
    answer_vote: float = 0.0


@dataclass(frozen=True)
class StageSettings:
    """How one stage is trained.

    Attributes:
        learning_rate: Peak learning rate of AdamW.
        epochs: Passes over the data.
        max_steps: Stop after so many optimiser steps; 0 for no limit.
        batch_size: Samples a step and process.
        questions_per_image: Most questions about one image that stay together in a batch, so that
            the image is encoded once for them.
        gradient_accumulation: Steps whose gradients are added before an update.
        weight_decay: Of AdamW.
        warmup_ratio: Share of the steps in which the learning rate rises.
        schedule: ``cosine``, ``linear`` or ``constant``.
        max_grad_norm: Gradients are clipped to this norm.
        semantic_weight: lambda of Eq. (5).
        attention_weight: Of L_att, which draws the fusion decoder's attention into the boxes of the
            records that have some (not in the paper).
        answer_weight: Of L_ans, which has the visual tokens alone name the answer's words (not in the
            paper).
        queue_size: k, texts of the queue that are used.
        bf16: Mixed precision in bfloat16.
        base_weights: How the language model's own, frozen weights are held: ``float32``,
            ``bfloat16``, or ``nf4`` (four bits, QLoRA); the latter two need ``bf16``.
        gradient_checkpointing: Recompute activations of the language model.
        packing: Lay the samples of a batch side by side without padding (varlen attention; a GPU and
            the package flash-attn).
        liger: Fused kernels of the language model (a GPU and the package liger-kernel).
        cache_features: Keep the frozen trunk's features on disk instead of computing them anew.
        log_every: Steps between log lines.
        save_every: Steps between checkpoints; 0 saves at the end of each epoch.
        keep: Checkpoints to keep; 0 keeps all.
        max_loss: A larger loss of a batch stops the run; 0 for no limit.
        seed: Seed of the data order and of dropout.
    """

    learning_rate: float = 2e-5
    epochs: float = 1
    max_steps: int = 0
    batch_size: int = 8
    questions_per_image: int = 1
    gradient_accumulation: int = 1
    weight_decay: float = 1e-3
    warmup_ratio: float = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_grad_norm: float = 1.0
    semantic_weight: float = 1.0
    attention_weight: float = 0.0
    answer_weight: float = 0.0
    queue_size: int = 30
    bf16: bool = True
    base_weights: Literal["float32", "bfloat16", "nf4"] = "float32"
    gradient_checkpointing: bool = False
    packing: bool = False
    liger: bool = False
    cache_features: bool = False
    log_every: int = 10
    save_every: int = 0
    keep: int = 2
    max_loss: float = 1000.0
    seed: int = 0


@dataclass(frozen=True)
class TrainingConfig:
    """A preset: the model and its two stages.

    Attributes:
        model: The parts of the model.
        stage1: How the first stage is trained.
        stage2: How the second one is.
        zero: DeepSpeed's ZeRO stage on several processes (0: plain data parallel); ``auto`` is 2 on
            GPUs and 0 on CPUs.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    stage1: StageSettings = field(default_factory=StageSettings)
    stage2: StageSettings = field(default_factory=StageSettings)
    zero: Literal["auto", 0, 2, 3] = "auto"

    def stage(self, number: int) -> StageSettings:
        """The settings of stage 1 or 2."""
        return self.stage1 if number == 1 else self.stage2


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml"))


def load_config(preset: str) -> TrainingConfig:
    """Read a preset by name, or a YAML file by path.

    Raises:
        ConfigError: It does not exist, is no YAML mapping, or has a key or value that does not fit.
    """
    import yaml

    path = PRESETS / f"{preset}.yaml"
    if preset.endswith((".yaml", ".yml")):
        path = Path(preset)
    elif not path.is_file():
        raise _unknown("preset", preset, preset_names())
    try:
        tree = yaml.safe_load(path.read_text("utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    return build(TrainingConfig, tree, "")


def dump_config(config: TrainingConfig) -> str:
    """The whole configuration as YAML, every key with its value."""
    import yaml

    return yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True)


def override(config: T, assignments: list[str]) -> T:
    """Apply ``path.to.key=value`` assignments.

    Args:
        config: A configuration dataclass.
        assignments: For example ``["stage2.learning_rate=1e-4", "model.vision.name=resnet18"]``.

    Raises:
        ConfigError: An assignment has no ``=``, or its path or value does not fit.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is no assignment", "Write key=value.")
        config = _assign(config, path.strip().split("."), text, "")
    return config


def _assign(config: Any, path: list[str], text: str, place: str) -> Any:
    hints = get_type_hints(type(config))
    name, rest = path[0], path[1:]
    where = f"{place}.{name}".lstrip(".")
    if name not in hints:
        raise _unknown("key", where, [f"{place}.{key}".lstrip(".") for key in hints])
    if rest:
        if not is_dataclass(hints[name]):
            raise ConfigError(f"{where} has no keys below it", f"Write {where}=value.")
        return replace(config, **{name: _assign(getattr(config, name), rest, text, where)})
    value = text if hints[name] is str else _decode(text, where)
    return replace(config, **{name: _check_limits(_convert(hints[name], value, where), where)})


def _decode(text: str, where: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{where} is {text!r}", "Write the value as YAML or JSON.") from None


def build(kind: type[T], tree: Any, place: str) -> T:
    """Make a configuration dataclass from decoded YAML.

    Raises:
        ConfigError: An unknown key (the nearest one is named) or a value of the wrong type.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{place or 'the configuration'} must be a mapping, got {tree!r}")
    hints = get_type_hints(kind)
    values = {}
    for key, value in tree.items():
        where = f"{place}.{key}".lstrip(".")
        if key not in hints:
            raise _unknown("key", where, [f"{place}.{name}".lstrip(".") for name in hints])
        values[key] = _check_limits(_convert(hints[key], value, where), where)
    for each in fields(kind):  # type: ignore[arg-type]
        if each.default is MISSING and each.default_factory is MISSING and each.name not in values:
            raise ConfigError(f"{place}.{each.name}".lstrip(".") + " is missing")
    return kind(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if is_dataclass(kind):
        return build(typing.cast("type[Any]", kind), value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        lists = [option for option in arguments if get_origin(option) is tuple]
        if lists and not isinstance(value, str):
            return _convert(lists[0], value, where)
        for option in arguments:
            try:
                return _convert(option, value, where)
            except ConfigError:
                continue
        raise ConfigError(f"{where} is {value!r}, expected {_name(kind)}")
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        if isinstance(value, bool) and ("on" if value else "off") in arguments:
            return "on" if value else "off"  # YAML reads a bare on/off as a boolean
        raise ConfigError(f"{where} is {value!r}", f"Use one of: {', '.join(map(str, arguments))}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}, expected a list")
        return tuple(_convert(arguments[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    return _scalar(kind, value, where)


def _check_limits(value: Any, where: str) -> Any:
    least, most = _LIMITS.get(where.rpartition(".")[2], (None, None))
    if isinstance(value, str) or least is None or most is None or least <= value <= most:
        return value
    upper = "" if most == math.inf else f" and at most {most:g}"
    raise ConfigError(f"{where} is {value}, expected at least {least:g}{upper}")


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str):
        try:
            return float(value)  # YAML reads 5e-5 as text
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} is {value!r}, expected {_name(kind)}")


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind).replace("typing.", ""))


def _unknown(what: str, name: str, known: list[str]) -> ConfigError:
    near = [each for each in known if _initials(each) == name]  # lr: learning_rate
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
    return ConfigError(f"unknown {what} {name!r}", hint)


def _initials(key: str) -> str:
    """``stage2.learning_rate`` -> ``stage2.lr``."""
    place, dot, last = key.rpartition(".")
    return place + dot + "".join(word[:1] for word in last.split("_"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
