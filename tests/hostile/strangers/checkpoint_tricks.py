"""What can be done to a checkpoint, of whatever kind it is."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from children import CANARY

from strangers.files import link, replaced, written
from strangers.trials import HONEST, REFUSED, SAME, Trick

_DEEP = "[" * 100_000
OWN = ("model",)  # tricks on what only a model of this project has
TEXT = ("model", "llama", "vlm")  # what has a language model
ALL = (*TEXT, "encoder")
CURVE = {
    "method": "isotonic",
    "temperature": 1.0,
    "points": [[0.0, 0.1], [1.0, 0.9]],
    "records": 30,
}


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """Change fields of a file; a name with dots is an inner one."""

    def play(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) if path.exists() else {}
        for key, value in changes.items():
            *outer, last = key.split("__")
            held = content
            for each in outer:
                held = held[each]
            held[last] = value
        path.write_text(json.dumps(content))

    return play


def _code(folder: Path) -> dict[str, Any]:
    """Python that leaves a mark, under every name that somebody could look for; gives the auto_map."""
    mark = folder.parent / CANARY
    names = ("Config", "Model", "Tokenizer", "Processor")
    code = f"open({str(mark)!r}, 'w')\n" + "".join(f"class {name}: pass\n" for name in names)
    code += "def generate(*_, **__): pass\n"
    (folder / "custom_generate").mkdir(exist_ok=True)
    modules = ("theirs.py", "__init__.py", "sitecustomize.py", "custom_generate/generate.py")
    for name in (
        *modules,
        "modeling_theirs.py",
        "tokenization_theirs.py",
        "configuration_theirs.py",
    ):
        (folder / name).write_text(code)
    kinds = {
        "AutoConfig": "Config",
        "AutoProcessor": "Processor",
        "AutoImageProcessor": "Processor",
    }
    kinds |= {f"AutoModel{each}": "Model" for each in ("", "ForCausalLM", "ForImageTextToText")}
    found: dict[str, Any] = {kind: f"theirs.{name}" for kind, name in kinds.items()}
    return {**found, "AutoTokenizer": ["theirs.Tokenizer", "theirs.Tokenizer"]}


def with_code(name: str, **further: Any) -> Callable[[Path], None]:
    """A file that names the Python beside it."""
    return lambda folder: edit(name, auto_map=_code(folder), **further)(folder)


def _pickle(folder: Path) -> bytes:
    return b"cos\nsystem\n(S'touch " + str(folder.parent / CANARY).encode() + b"'\ntR."


def weights_as_pickle(folder: Path, name: str = "") -> None:
    """A pickle that runs a program in place of the weights, or under another name."""
    (weights,) = (
        path
        for path in folder.iterdir()
        if path.suffix in (".safetensors", ".pt") and path.name not in ("familiarity.safetensors",)
    )
    if name:
        weights.unlink()
    (folder / (name or weights.name)).write_bytes(_pickle(folder))


def beside_as_pickle(folder: Path) -> None:
    """Pickles beside honest weights, under every name that a library looks for."""
    names = ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt")
    for name in (
        *names,
        "scheduler.pt",
        "rng_state.pth",
        "open_clip_pytorch_model.bin",
        "vocab.pkl",
    ):
        (folder / name).write_bytes(_pickle(folder))


def index_of(target: str) -> Callable[[Path], None]:
    """Weights by an index that names something else."""

    def play(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside/weights.safetensors")
        index = {"metadata": {}, "weight_map": {"beta": target}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return play


def _tensors(name: str, **changes: Callable[[Any], Any]) -> Callable[[Path], None]:
    def play(folder: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import load_file, save_file

        path = folder / name
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        for key, tensor in tensors.items():
            for pattern, change in changes.items():
                if re.search(pattern, key):
                    tensors[key] = change(tensor).contiguous()
        save_file(tensors, path, metadata=metadata)

    return play


def _header(size: int, text: bytes) -> bytes:
    return struct.pack("<Q", size) + text


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


_GROW = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}] * 9,
}
_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
_MARK = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


def _template(text: str) -> Callable[[Path], None]:
    def play(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(text)
        if (folder / "attributes.json").exists():
            edit("processor_config.json", prompt="chat")(folder)

    return play


def _own() -> list[Trick]:
    """On what only models of this project have."""
    processor = partial(edit, "processor_config.json")
    config = partial(edit, "config.json")
    settings = {
        "a prompt that is a format": processor(prompt="{question:>300000000}"),
        "a prompt that reaches inside": processor(prompt="{question.__class__}"),
        "a negative side": processor(image_size=-64),
        "an absurd side": processor(image_size=10**6),
        "no deviations": processor(image_std=[0, 0, 0]),
        "a million fusion layers": config(fusion_layers=10**6),
        "a billion visual tokens": config(num_visual_tokens=10**9),
        "a vision tower of the hub": config(vision__name="hf-hub:them/theirs"),
        "a vision tower of a folder": config(vision__name="local-dir:/etc"),
        "adapters by a pattern": config(lora={"r": 2, "lora_alpha": 4, "target_modules": "(a+)+b"}),
    }
    tricks = [Trick(name, play, OWN, REFUSED) for name, play in settings.items()]
    attributes = "attributes.json"
    others = {
        "100,000 brackets as calibration": written("calibration.json", _DEEP),
        "a calibration of NaN": edit(
            "calibration.json", yes_no={**CURVE, "points": [[float("nan")] * 2] * 2}
        ),
        "a calibration of another place": replaced(
            "calibration.json", link("../outside/secret.json")
        ),
        "100,000 brackets as attributes": written(attributes, _DEEP),
        "attributes of no kind": written(
            attributes, json.dumps([{"question": 7, "values": {"a": [[]]}}])
        ),
        "attributes that escape": written(
            attributes,
            json.dumps(
                [
                    {
                        "question": "\x1b[31m{0.__class__}[/b]",
                        "values": {"\x1b]0;x\x07": ["it"], "=1+1": []},
                    }
                ]
            ),
        ),
        "a hundred thousand attributes": written(
            attributes,
            json.dumps([{"question": f"q{n}?", "values": {"it": []}} for n in range(9000)]),
        ),
        "a familiarity of no shape": written("familiarity.safetensors", _header(2**62, b"{}")),
        "a familiarity of NaN": _tensors(
            "familiarity.safetensors", **{".": lambda t: t * float("nan")}
        ),
        "a familiarity of one number": _tensors(
            "familiarity.safetensors", **{".": lambda t: t.flatten()[:1]}
        ),
        "a familiarity of another place": replaced(
            "familiarity.safetensors", link("../outside/secret.json")
        ),
    }
    return tricks + [Trick(name, play, OWN) for name, play in others.items()]


def _of_sizes() -> list[Trick]:
    """Sizes in the language model's own configuration, which our models keep in theirs."""
    found = []
    for prefix, bases in (("text_config__", ("model", "vlm")), ("", ("llama", "encoder"))):
        sizes = {
            "a million layers": {"num_hidden_layers": 10**6},
            "a vocabulary beyond all bounds": {"vocab_size": 10**40},
            "a size below nothing": {"hidden_size": -1},
        }
        for name, changes in sizes.items():
            named = {prefix + key: value for key, value in changes.items()}
            found.append(
                Trick(f"{name} ({bases[0]})", edit("config.json", **named), bases, REFUSED)
            )
    return found


_GENERATION = {
    "tokens without end": {"max_new_tokens": 10**9, "max_length": 10**9, "min_new_tokens": 10**9},
    "a million beams": {"num_beams": 10**6, "num_return_sequences": 10**6},
    "settings of no kind": {"temperature": float("nan"), "top_k": -1, "eos_token_id": [[10**30]]},
    "a decoder of the hub": {"custom_generate": "them/theirs", "assistant_confidence_threshold": 1},
    "a compiled cache": {
        "cache_implementation": "them",
        "compile_config": {"backend": "os.system"},
    },
}


def _common() -> list[Trick]:
    """On any model that transformers reads."""
    found = [
        Trick(
            f"Python named in {name}", with_code(name), ALL
        )  # a calibration is of another model then
        for name in ("config.json", "tokenizer_config.json")
    ]
    found += [
        Trick(
            "Python named in processor_config.json",
            with_code("processor_config.json"),
            ("model", "vlm"),
        ),
        Trick(
            "a tokenizer class of their own",
            with_code("tokenizer_config.json", tokenizer_class="Theirs"),
            ALL,
        ),
        Trick("a model of their own", with_code("config.json", model_type="theirs"), ALL, REFUSED),
        Trick("Python beside it, named nowhere", _code, (*ALL, "filter", "clip"), SAME),
        Trick("pickles beside it", beside_as_pickle, (*ALL, "filter"), SAME),
        Trick("weights that are a pickle", weights_as_pickle, (*ALL, "filter", "clip"), REFUSED),
        Trick(
            "only a pickle of weights",
            partial(weights_as_pickle, name="pytorch_model.bin"),
            ALL,
            REFUSED,
        ),
        Trick("a template that loops", _template(_LOOP), TEXT),
        Trick("a template of 3 GB", _template("{{ 'a' * 3000000000 }}"), TEXT),
        Trick("a template that reaches inside", _template(_MARK), TEXT),
        Trick(
            "a pattern that explodes",
            edit("tokenizer.json", pre_tokenizer=_split("(x+x+)+y")),
            TEXT,
            REFUSED,
        ),
        Trick("texts made longer", edit("tokenizer.json", normalizer=_GROW), TEXT, REFUSED),
        Trick(
            "adapters of the hub",
            edit("adapter_config.json", peft_type="LORA", base_model_name_or_path="them/theirs"),
            TEXT,
        ),
        Trick(
            "an attention kernel of the hub",
            edit("config.json", attn_implementation="them/kernel"),
            ALL,
        ),
        Trick(
            "weights named elsewhere",
            edit("config.json", transformers_weights="../outside/secret.json"),
            ALL,
        ),
        Trick(
            "another library's quantization",
            edit("config.json", quantization_config={"quant_method": "them", "load_in_4bit": True}),
            ALL,
        ),
        Trick(
            "weights of NaN",
            _tensors("model.safetensors", **{"weight$": lambda t: t * float("nan")}),
            ALL,
        ),
        Trick(
            "weights without bounds",
            _tensors("model.safetensors", **{"weight$": lambda t: t * 1e38}),
            ALL,
        ),
        Trick(
            "weights of one number",
            _tensors("model.safetensors", **{"weight$": lambda t: t.flatten()[:1]}),
            ALL,
            REFUSED,
        ),
        Trick(
            "a header without end",
            written("model.safetensors", _header(2**63, b"{}")),
            ALL,
            REFUSED,
        ),
    ]
    for target in (
        "model.safetensors.index.json",
        "../outside/weights.safetensors",
        "/dev/zero",
        "x" * 5000,
    ):
        found.append(Trick(f"an index of {target[:40]}", index_of(target), ALL, REFUSED))
    places = {
        "elsewhere": link("../outside/secret.json"),
        "a device": link("/dev/zero"),
        "itself": link("config.json"),
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
    }
    for name, make in places.items():
        for file in ("config.json", "model.safetensors"):
            found.append(Trick(f"{file} is {name}", replaced(file, make), ALL, REFUSED))
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        found.append(Trick(f"100,000 brackets as {file}", written(file, _DEEP), ALL, REFUSED))
    for name, settings in _GENERATION.items():
        found.append(Trick(name, edit("generation_config.json", **settings), TEXT))
    return found


def _of_filters() -> list[Trick]:
    name, bases = "filter.json", ("filter",)
    return [
        Trick("brackets as a filter", written(name, _DEEP), bases, REFUSED),
        Trick("a filter of absurd size", edit(name, hidden=10**9, width=10**9), bases, REFUSED),
        Trick(
            "a filter of NaN",
            _tensors("head.safetensors", **{".": lambda t: t * float("nan")}),
            bases,
        ),
        Trick(
            "a filter on a device", replaced("head.safetensors", link("/dev/zero")), bases, REFUSED
        ),
    ]


TRICKS = (Trick(HONEST, lambda _: None), *_common(), *_own(), *_of_sizes(), *_of_filters())
