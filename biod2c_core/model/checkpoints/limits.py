"""What a checkpoint folder may ask for, checked from its small files before anything is built."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from biod2c_core.errors import CheckpointError
from biod2c_core.foreign import read_json
from biod2c_core.model import familiarity

MOST_BYTES = 16 * 2**20  # of a configuration
MOST_TOKENIZER_BYTES = 256 * 2**20
MOST_IMAGE_SIDE = 2048
MOST_GROWTH = 64  # how many times longer a text may get before it is cut into tokens
_IDS = ("_token_id", "_token_ids", "_token_index")  # ends of names
# Parts of the names of sizes, whatever the kind of model, and the most that each may be.
_SIZES = (
    (re.compile(r"image_size|img_size"), MOST_IMAGE_SIDE),
    (re.compile(r"^num_(beams|beam_groups|return_sequences)$"), 64),
    (re.compile(r"layers?$|depth$|blocks$"), 512),
    (re.compile(r"heads?(_kv)?$|groups$"), 2048),
    (re.compile(r"expert"), 4096),
    (re.compile(r"vocab"), 4_000_000),
    (re.compile(r"(visual|begin)_tokens$"), 4096),
    (re.compile(r"^scales$"), 16),
    (re.compile(rf"({'|'.join(_IDS)})$"), 4_000_000),
    (re.compile(r"size$|dim$|width$|hidden$|inner$|embd$|^d_|feed_forward$|rank$|^r$"), 1_000_000),
)
_LARGEST = 10**12  # of any other number
_CODE = ("attn_implementation", "experts_implementation")  # a name with a slash is code of the hub
_CONFIGURATIONS = (
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
_SETTLED = 2.0  # seconds: what was changed just now may change again without a new time
_checked: dict[Path, _State] = {}  # folders that were found sound, by this process
_REMEDY = "It is damaged, or made to do harm; get the checkpoint from whoever trained it."


def weight_files(folder: Path) -> list[Path]:
    """The weights of a checkpoint folder, in order; what it knows of its training pictures is none."""
    return [path for path in sorted(folder.glob("*.safetensors")) if path.name != familiarity.FILE]


def check_folder(folder: Path) -> None:
    """Refuse a folder whose small files no honest checkpoint has.

    Looked at are pipes and devices, which have no end, the nesting and length of all configurations,
    sizes (see :func:`check_sizes`), the index of the weights, and how long the tokenizer can make a
    text. A folder that has been looked at
    is not read again while its files stay as they are.

    Raises:
        CheckpointError: The file is named.
    """
    state = _state(folder)
    if _checked.get(folder) == state:
        return
    _check_files(folder)
    newest = max((each for _, _, *times in state.files for each in times), default=0)
    if time.time() - newest / 1e9 > _SETTLED:
        _checked[folder] = state


def _check_files(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise CheckpointError(f"{path} is a pipe or a device, not a file", _REMEDY)
    for name in _CONFIGURATIONS:
        path = folder / name
        if path.exists():
            content = _read(path, MOST_BYTES)
            if name in ("config.json", "generation_config.json"):
                check_sizes(content, path)
            if name == "config.json":
                _check_vision(content.get("vision", {}), path)
            if "audio_tokenizer" in content:  # transformers would load a second model for it
                raise CheckpointError(f"{path} asks for an audio tokenizer", _REMEDY)
    for index in sorted(folder.glob("*.index.json")):
        check_index(index, (".safetensors",))
    if (folder / "tokenizer.json").exists():
        _check_tokenizer(folder / "tokenizer.json")


class _State(NamedTuple):
    """What a verdict on a folder rests on: its files, and the limits."""

    files: tuple[tuple[str, int, int, int], ...]  # name, size, times in ns
    limits: tuple[int, ...]


def _state(folder: Path) -> _State:
    found = sorted((each.name, each.stat()) for each in folder.iterdir() if each.is_file())
    files = tuple((name, at.st_size, at.st_mtime_ns, at.st_ctime_ns) for name, at in found)
    return _State(files, (MOST_BYTES, MOST_TOKENIZER_BYTES, MOST_IMAGE_SIDE, MOST_GROWTH))


def check_sizes(config: Any, source: object) -> None:
    """Refuse a configuration with sizes that no machine could hold.

    Args:
        config: As in ``config.json``, of any kind of model.
        source: Where it comes from, for the message.

    Raises:
        CheckpointError: A size is absurd, or the attention is a program of the hub.
    """
    for name, value in _fields(config):
        if name.lstrip("_").removesuffix("_internal") in _CODE and "/" in str(value):
            raise CheckpointError(f"{source}: {name} is {value!r}, code of the hub", _REMEDY)
        if name == "lora" and isinstance(value, dict):
            _check_lora(value, source)
        if name.endswith(_IDS) and not _is_whole(value):
            raise CheckpointError(
                f"{source}: {name} is {str(value)[:100]!r}, expected a whole number", _REMEDY
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least, most = _bounds(name)
        if isinstance(value, int) or most < _LARGEST:
            _check_number(name, value, (least, most), source)


def check_weights(config: Any, folder: Path) -> None:
    """Refuse a language model that is larger than the weights beside it; it would be filled with noise.

    Args:
        config: Its configuration.
        folder: With the weights, ``*.safetensors``.

    Raises:
        CheckpointError: Even at four bits a number they are too few.
    """
    width, layers = _number(config, "hidden_size"), _number(config, "num_hidden_layers")
    inner = _number(config, "intermediate_size", "moe_intermediate_size")
    heads = _number(config, "num_attention_heads") * _number(config, "head_dim")
    needed = width * _number(config, "vocab_size") + layers * width * max(inner, heads, 1)
    stored = sum(path.stat().st_size for path in weight_files(folder))
    if stored and needed > 2 * stored:
        raise CheckpointError(
            f"{folder / 'config.json'} describes a language model of at least {needed:,} numbers "
            f"(width {width}, {layers} layers), but the weights have only {stored:,} bytes",
            "Keep config.json and the weights of one checkpoint together.",
        )


def check_index(index: Path, suffixes: tuple[str, ...]) -> list[str]:
    """The files that an index of shards names, each beside it.

    Args:
        index: ``*.index.json``.
        suffixes: Of files that it may name.

    Raises:
        CheckpointError: It is none, or names itself, another index or a file elsewhere.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index} is not an index of shards", "Copy it again.") from error
    for name in names:
        plain = isinstance(name, str) and Path(name).name == name and name.endswith(suffixes)
        if not plain or not (index.parent / name).is_file():
            raise CheckpointError(
                f"{index} names {name!r}, which is not a file of weights beside it", "Copy it too."
            )
    return names


def _read(path: Path, most_bytes: int) -> dict[str, Any]:
    try:
        content = read_json(path, most_bytes)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be loaded ({reason})", _REMEDY) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} cannot be loaded (it is not a JSON object)", _REMEDY)
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # transformers could not write it again
        raise CheckpointError(f"{path} holds half a character", _REMEDY) from error
    return content


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name and value, inner ones too; a list's numbers have its name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            if isinstance(inner, list):
                yield from (
                    (str(name), each) for each in inner if not isinstance(each, dict | list)
                )
            yield from _fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def _check_vision(vision: Any, path: Path) -> None:
    """Only models of the libraries themselves: a name with a colon is fetched from elsewhere."""
    own = isinstance(vision, dict) and (
        ":" not in str(vision.get("name")) or vision.get("definition")
    )
    if not own:
        raise CheckpointError(f"{path} names no vision tower of timm or open_clip", _REMEDY)


def _check_lora(arguments: dict[str, Any], source: object) -> None:
    targets = arguments.get("target_modules")
    known = {"r", "lora_alpha", "lora_dropout", "target_modules", "bias", "use_rslora"}
    fits = isinstance(targets, list) and all(isinstance(name, str) for name in targets)
    if arguments.keys() - known or not fits:
        raise CheckpointError(
            f"{source}: lora has fields {sorted(arguments)} and targets {str(targets)[:100]!r}; "
            f"expected only {', '.join(sorted(known))}, the targets as a list of names",
            _REMEDY,
        )


def _bounds(name: str) -> tuple[int, int]:
    most = next((most for names, most in _SIZES if names.search(name)), 0)
    if name.endswith("feature_layer"):  # a place, which LLaVA counts from the end
        return -most, most
    if name.endswith(_IDS):  # some write -1 for none
        return -1, most
    return (0, most) if most else (-_LARGEST, _LARGEST)


def _is_whole(value: Any) -> bool:
    """Whether it is a token, or several, or none."""
    if isinstance(value, list):
        return all(type(each) is int for each in value)
    return value is None or type(value) is int


def _check_number(name: str, value: float, bounds: tuple[int, int], source: object) -> None:
    least, most = bounds
    least += name in ("image_size", "img_size", "vocab_size")
    if not least <= value <= most:
        shown = f"{value:,}" if abs(value) < 10**15 else "beyond all bounds"
        raise CheckpointError(
            f"{source}: {name} is {shown}, expected {least:,} to {most:,}", _REMEDY
        )


def _number(config: Any, *names: str) -> int:
    values = [getattr(config, name, None) for name in names]
    return min((v for v in values if isinstance(v, int) and not isinstance(v, bool)), default=0)


def _check_tokenizer(path: Path) -> None:
    try:
        content = read_json(path, MOST_TOKENIZER_BYTES)
        growth = _growth(content.get("normalizer"))
        growth *= max(_growth(content.get(each)) for each in ("pre_tokenizer", "decoder"))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the processor cannot be loaded: {path} is not a tokenizer ({reason})", _REMEDY
        ) from error
    for pattern in _patterns(content):
        if explodes(pattern):
            raise CheckpointError(
                f"{path} cuts texts by {pattern[:100]!r}, which takes forever on some of them",
                _REMEDY,
            )
    if growth > MOST_GROWTH:
        raise CheckpointError(
            f"{path} would make a text {growth:,} times longer, over the limit of {MOST_GROWTH}",
            _REMEDY,
        )


def _growth(step: Any) -> int:
    """How many times longer a normalizer, pre-tokenizer or decoder can make a text by replacing."""
    if not isinstance(step, dict):
        return 1
    growth = 1
    for name in ("normalizers", "pretokenizers", "decoders"):
        for inner in step.get(name) or ():
            growth *= _growth(inner)
            if growth > 10**9:
                return growth
    if step.get("type") == "Replace":
        pattern = step.get("pattern") or {}
        replaced = len(str(pattern.get("String") or " "))
        empty = "Regex" in pattern  # may match between two characters
        growth *= max(1, -(-len(str(step.get("content", ""))) // replaced) + empty)
    return growth


def _patterns(value: Any) -> Iterator[str]:
    """The regular expressions of a tokenizer, without the vocabulary's texts."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "Regex" and isinstance(inner, str):
                yield inner
            elif name not in ("model", "added_tokens"):
                yield from _patterns(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _patterns(inner)


def explodes(pattern: str) -> bool:
    """Whether a pattern repeats without end what can itself match one text in many ways.

    That is a group with a repetition or a choice inside, repeated: ``(x+)+`` or ``(a|ab)*``. The
    search then takes exponential time, and the tokenizers library panics.
    """
    open_groups, inside = [False], re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    inside = re.sub(r"\[\^?\]?[^\]]*\]|\(\?[:=!>a-z-]+:?|\(\?<[=!]", _shortened, inside)
    after_group = False  # whether the last group closed can match in many ways
    for step in re.finditer(r"([*+]|\{\d*,\})(\+|\??)|[()|]|[^()|]", inside):
        if step[1]:
            if after_group:
                return True
            if step[2] != "+":  # what a possessive repetition has taken it never gives back
                open_groups[-1] = True
            after_group = False
        elif step[0] == "(":
            open_groups.append(False)
            after_group = False
        elif step[0] == ")":
            after_group = len(open_groups) > 1 and open_groups.pop()
            open_groups[-1] |= after_group
        else:
            open_groups[-1] |= step[0] == "|" and len(open_groups) > 1
            after_group = False
    return False


def _shortened(found: re.Match[str]) -> str:
    return "(" if found[0].startswith("(") else "x"
