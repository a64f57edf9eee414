"""A checkpoint: code and pickles beside it, absurd sizes, endless templates, files that are others'."""

from __future__ import annotations

import json
import os
import re
import struct
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tiny_models
from children import CANARY

from strangers.files import link, replaced, written
from strangers.trials import CPU, EITHER, HONEST, REFUSED, SAME, Command, Place, Stranger, Trick

_DEEP = "[" * 100_000
OWN = ("model",)  # tricks on what only a model of this project has
TEXT = ("model", "llama", "vlm")  # what has a language model
ALL = (*TEXT, "encoder")
_CURVE = {"method": "isotonic", "temperature": 1.0, "points": [[0.0, 0.1], [1.0, 0.9]], "records": 30}  # fmt: skip


def prepare(folder: Path) -> dict[str, Path]:
    """Every kind of model that a command reads, with all the files that one can have, and data."""
    import inputs  # of the fault harness
    import tiny_vlms
    import torch

    from biod2c_cli import app
    from biod2c_core.model.checkpoints.folder import fingerprint, save_checkpoint
    from biod2c_core.model.familiarity import Reference

    made = {name: folder / name for name in ("llama", "model", "vlm", "clip", "filter", "encoder")}
    tiny_models.save_language_model(made["llama"])
    save_checkpoint(made["model"], *tiny_models.build(made["llama"]))
    attributes = [
        {"question": "what modality is the image?", "values": {"CT": ["scan"], "MRI": []}}
    ]
    (made["model"] / "attributes.json").write_text(json.dumps(attributes))
    width = 2 * tiny_models.GRID[-1]
    first = torch.nn.functional.one_hot(torch.tensor([0]), width).float()
    identity = fingerprint(made["model"])
    reference = Reference(torch.zeros(width), torch.ones(width), first, torch.full((20,), 1e-3))
    reference.save(made["model"], identity)
    curves = {"weights": identity, "yes_no": _CURVE, "other": _CURVE}
    (made["model"] / "calibration.json").write_text(json.dumps(curves))
    tiny_vlms.save("llava", made["vlm"])
    inputs._make_clip(made["clip"])
    _sentence_encoder(made["encoder"])
    tiny_models.write_data(folder / "data", 4, images=2)
    tiny_models.write_data(folder / "held", 44, images=44)
    labels = [f"{n}.png,{'polluted' if n % 2 else 'clean'}" for n in range(44)]
    (folder / "held/labels.csv").write_text("\n".join(["image,label", *labels]) + "\n")
    fit = ["filter-images", "fit", folder / "held/labels.csv", "-o", made["filter"]]
    command = [str(each) for each in (*fit, "--encoder", made["model"], *CPU)]
    app.app(command, standalone_mode=False)
    return {
        **made,
        "data": folder / "data",
        "held": folder / "held",
        "picture": folder / "data/0.png",
    }


def _sentence_encoder(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny_models.WORDS.lower().split()]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(
        BertConfig(vocab_size=len(dict.fromkeys(words)), intermediate_size=48, **sizes)
    ).save_pretrained(folder)


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
    (weights,) = (path for path in folder.iterdir() if path.suffix in (".safetensors", ".pt")
                  and path.name not in ("familiarity.safetensors",))  # fmt: skip
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


_GROW = {"type": "Sequence", "normalizers": [
    {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}] * 9}  # fmt: skip
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
        "a calibration of NaN": edit("calibration.json", yes_no={**_CURVE, "points": [[float("nan")] * 2] * 2}),  # noqa: E501
        "a calibration of another place": replaced("calibration.json", link("../outside/secret.json")),
        "100,000 brackets as attributes": written(attributes, _DEEP),
        "attributes of no kind": written(attributes, json.dumps([{"question": 7, "values": {"a": [[]]}}])),
        "attributes that escape": written(attributes, json.dumps(
            [{"question": "\x1b[31m{0.__class__}[/b]", "values": {"\x1b]0;x\x07": ["it"], "=1+1": []}}])),
        "a hundred thousand attributes": written(attributes, json.dumps(
            [{"question": f"q{n}?", "values": {"it": []}} for n in range(9000)])),
        "a familiarity of no shape": written("familiarity.safetensors", _header(2**62, b"{}")),
        "a familiarity of NaN": _tensors("familiarity.safetensors", **{".": lambda t: t * float("nan")}),
        "a familiarity of one number": _tensors("familiarity.safetensors", **{".": lambda t: t.flatten()[:1]}),
        "a familiarity of another place": replaced("familiarity.safetensors", link("../outside/secret.json")),
    }  # fmt: skip
    return tricks + [Trick(name, play, OWN) for name, play in others.items()]


def _of_sizes() -> list[Trick]:
    """Sizes in the language model's own configuration, which our models keep in theirs."""
    found = []
    for prefix, bases in (("text_config__", ("model", "vlm")), ("", ("llama", "encoder"))):
        sizes = {"a million layers": {"num_hidden_layers": 10**6},
                 "a vocabulary beyond all bounds": {"vocab_size": 10**40},
                 "a size below nothing": {"hidden_size": -1}}  # fmt: skip
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
    named = {"config.json": SAME, "tokenizer_config.json": EITHER}
    found = [
        Trick(f"Python named in {name}", with_code(name), ALL, expected)
        for name, expected in named.items()
    ]
    found += [
        Trick("Python named in processor_config.json", with_code("processor_config.json"), ("model", "vlm")),
        Trick("a tokenizer class of their own", with_code("tokenizer_config.json", tokenizer_class="Theirs"), ALL),
        Trick("a model of their own", with_code("config.json", model_type="theirs"), ALL, REFUSED),
        Trick("Python beside it, named nowhere", _code, (*ALL, "filter", "clip"), SAME),
        Trick("pickles beside it", beside_as_pickle, (*ALL, "filter"), SAME),
        Trick("weights that are a pickle", weights_as_pickle, (*ALL, "filter", "clip"), REFUSED),
        Trick("only a pickle of weights", partial(weights_as_pickle, name="pytorch_model.bin"), ALL, REFUSED),
        Trick("a template that loops", _template(_LOOP), TEXT),
        Trick("a template of 3 GB", _template("{{ 'a' * 3000000000 }}"), TEXT),
        Trick("a template that reaches inside", _template(_MARK), TEXT),
        Trick("a pattern that explodes", edit("tokenizer.json", pre_tokenizer=_split("(x+x+)+y")), TEXT, REFUSED),
        Trick("texts made longer", edit("tokenizer.json", normalizer=_GROW), TEXT, REFUSED),
        Trick("adapters of the hub", edit("adapter_config.json", peft_type="LORA", base_model_name_or_path="them/theirs"), TEXT),  # noqa: E501
        Trick("an attention kernel of the hub", edit("config.json", attn_implementation="them/kernel"), ALL),
        Trick("weights named elsewhere", edit("config.json", transformers_weights="../outside/secret.json"), ALL),
        Trick("another library's quantization", edit("config.json", quantization_config={"quant_method": "them", "load_in_4bit": True}), ALL),  # noqa: E501
        Trick("weights of NaN", _tensors("model.safetensors", **{"weight$": lambda t: t * float("nan")}), ALL),
        Trick("weights without bounds", _tensors("model.safetensors", **{"weight$": lambda t: t * 1e38}), ALL),
        Trick("weights of one number", _tensors("model.safetensors", **{"weight$": lambda t: t.flatten()[:1]}), ALL, REFUSED),  # noqa: E501
        Trick("a header without end", written("model.safetensors", _header(2**63, b"{}")), ALL, REFUSED),
    ]  # fmt: skip
    for target in (
        "model.safetensors.index.json",
        "../outside/weights.safetensors",
        "/dev/zero",
        "x" * 5000,
    ):
        found.append(Trick(f"an index of {target[:40]}", index_of(target), ALL, REFUSED))
    places = {"elsewhere": link("../outside/secret.json"), "a device": link("/dev/zero"), "itself": link("config.json"),
              "a pipe": os.mkfifo, "a folder": Path.mkdir}  # fmt: skip
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
        Trick("a filter of NaN", _tensors("head.safetensors", **{".": lambda t: t * float("nan")}), bases),
        Trick("a filter on a device", replaced("head.safetensors", link("/dev/zero")), bases, REFUSED),
    ]  # fmt: skip


def _visit(place: Place, said: str) -> None:
    """Ask the server the page and a question."""
    url = re.search(r"http://[^ ]+", said)
    assert url is not None
    body = json.dumps({"messages": [{"role": "user", "content": "is it?"}]}).encode()
    request = urllib.request.Request(
        f"{url[0].rstrip('/')}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=20
        ).read()
    except OSError:
        pass  # refused, which is an answer too


def _commands() -> tuple[Command, ...]:
    def model(
        name: str, *words: object, base: str = "model", reads: str = "", **more: Any
    ) -> Command:
        """A command of which one word is to be the stranger's folder."""

        def arguments(place: Place) -> list[object]:
            known = {
                "THEIRS": place.theirs, "OUT": place.out / "made", "PICTURE": place.examples["picture"],
                "DATA": place.examples["data"] / "records.jsonl", "HELD": place.examples["held"] / "records.jsonl",
                "LABELS": place.examples["held"] / "labels.csv", "IMAGES": place.examples["data"],
                "FILTER": place.examples["filter"], "MODEL": place.examples["model"], "CLIP": place.examples["clip"] / "checkpoint.pt",
            }  # fmt: skip
            filled = []
            for word in map(str, words):
                for key, value in known.items():
                    word = re.sub(rf"\b{key}\b", str(value), word)
                filled.append(word)
            return filled

        return Command(name, (reads or f"{name}.model",), arguments, base, **more)

    train = ("train", "--data", "DATA", "-o", "OUT", "--max-steps", "1", "--batch-size", "2", *CPU)
    tower = ("library=timm", "name=test_efficientnet", "image_size=64", "levels=[3]")
    parts = [word for each in tower for word in ("--set", f"model.vision.{each}")]
    data = ("DATA", "--split", "all", "-o", "OUT", *CPU)
    return (
        model("ask", "ask", "PICTURE", "is it a CT?", "-m", "THEIRS", "--json", *CPU),
        model("ask --chat", "ask", "PICTURE", "--chat", "-m", "THEIRS", *CPU, reads="ask.model"),
        model("attn-map", "attn-map", "PICTURE", "is it?", "-m", "THEIRS", "-o", "OUT.png", *CPU),
        model("calibrate", "calibrate", "HELD", "-m", "THEIRS", "--train", "DATA", *CPU,
              writes=("calibration.json", "familiarity.safetensors")),
        model("evaluate", "evaluate", *data, "-m", "THEIRS", reads="evaluate run.model"),
        model("evaluate hf:", "evaluate", *data, "-m", "hf:THEIRS", base="vlm", reads="evaluate run.model"),
        model("export", "export", "OUT", "-m", "THEIRS"),
        model("filter-images fit", "filter-images", "fit", "LABELS", "-o", "OUT", "--encoder", "THEIRS", *CPU,
              reads="filter-images fit.encoder", steady=False),
        model("filter-images run", "filter-images", "run", "IMAGES", "-o", "OUT", "--encoder", "THEIRS", "--filter",
              "FILTER", *CPU, reads="filter-images run.encoder"),
        model("filter-images run --filter", "filter-images", "run", "IMAGES", "-o", "OUT", "--encoder", "MODEL",
              "--filter", "THEIRS", *CPU, base="filter", reads="filter-images run.classifier"),
        model("push --card-only", "push", "THEIRS", "them/theirs", "--card-only", reads="push.folder"),
        model("serve", "serve", "--port", "0", "-m", "THEIRS", *CPU, until="serving at", visit=_visit),
        model("train", *train, "-m", "THEIRS"),
        model("train --set", *train, "--set", "model.language_model=THEIRS", *parts, base="llama", reads="train.settings"),
        model("convert", "convert", "THEIRS/checkpoint.pt", "OUT", base="clip", reads="convert.source"),
        model("convert --language-model", "convert", "CLIP", "OUT", "--language-model", "THEIRS", base="llama",
              reads="convert.language_model"),
        model("data queue", "data", "queue", "DATA", "-o", "OUT.jsonl", "--knowledge", "captions", "--encoder", "THEIRS",
              base="encoder", reads="data queue.encoder"),
    )  # fmt: skip


STRANGER = Stranger(
    prepare,
    (Trick(HONEST, lambda _: None), *_common(), *_own(), *_of_sizes(), *_of_filters()),
    _commands(),
)
