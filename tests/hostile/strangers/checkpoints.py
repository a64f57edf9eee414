"""A checkpoint: code and pickles beside it, absurd sizes, endless templates, files that are others'."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import tiny_models

from strangers.checkpoint_tricks import CURVE, TRICKS
from strangers.trials import CPU, Command, Place, Stranger


def prepare(folder: Path) -> dict[str, Path]:
    """Every kind of model that a command reads, with all the files that one can have, and data."""
    import inputs  # of the fault harness
    import tiny_vlms
    import torch

    from biod2c_core.curation.filter_images.classifier import Head, ImageFilter
    from biod2c_core.curation.filter_images.encoder import ImageEncoder
    from biod2c_core.curation.filter_images.layout import FEATURES
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
    curves = {"weights": identity, "yes_no": CURVE, "other": CURVE}
    (made["model"] / "calibration.json").write_text(json.dumps(curves))
    tiny_vlms.save("llava", made["vlm"])
    inputs._make_clip(made["clip"])
    _sentence_encoder(made["encoder"])
    data = tiny_models.write_data(folder / "data", 4, images=2)
    rows = [{**json.loads(line), "caption": "a lesion in the lung"} for line in data.open()]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_models.write_data(folder / "trained", 24, images=24)
    tiny_models.write_data(folder / "held", 44, images=44)
    labels = [f"{n}.png,{'polluted' if n % 2 else 'clean'}" for n in range(40)]
    (folder / "held/labels.csv").write_text("\n".join(["image,label", *labels]) + "\n")
    encoder = ImageEncoder.load(str(made["model"]), torch.device("cpu"))
    made["filter"].mkdir()
    ImageFilter(Head(encoder.width + FEATURES, 4), encoder.identity).save(made["filter"])
    return {
        **made,
        "data": folder / "data",
        "trained": folder / "trained",
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


def _visit(place: Place, said: str) -> None:
    """Ask the server the page and a question."""
    url = re.search(r"http://[^ ]+", said)
    assert url is not None
    body = json.dumps({"messages": [{"role": "user", "content": "is it?"}]}).encode()
    request = urllib.request.Request(
        f"{url[0].rstrip('/')}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    with contextlib.suppress(OSError):  # refused, which is an answer too
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=20
        ).read()


def _commands() -> tuple[Command, ...]:
    def model(
        name: str, *words: object, base: str = "model", reads: str = "", **more: Any
    ) -> Command:
        """A command of which one word is to be the stranger's folder."""

        def arguments(place: Place) -> list[object]:
            known = {
                "THEIRS": place.theirs,
                "OUT": place.out / "made",
                "PICTURE": place.examples["picture"],
                "DATA": place.examples["data"] / "records.jsonl",
                "TRAINED": place.examples["trained"] / "records.jsonl",
                "HELD": place.examples["held"] / "records.jsonl",
                "LABELS": place.examples["held"] / "labels.csv",
                "IMAGES": place.examples["data"],
                "FILTER": place.examples["filter"],
                "MODEL": place.examples["model"],
                "CLIP": place.examples["clip"] / "checkpoint.pt",
            }
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
        model(
            "calibrate",
            "calibrate",
            "HELD",
            "-m",
            "THEIRS",
            "--train",
            "TRAINED",
            *CPU,
            writes=("calibration.json", "familiarity.safetensors"),
        ),
        model("evaluate", "evaluate", *data, "-m", "THEIRS", reads="evaluate run.model"),
        model(
            "evaluate hf:",
            "evaluate",
            *data,
            "-m",
            "hf:THEIRS",
            base="vlm",
            reads="evaluate run.model",
        ),
        model("export", "export", "OUT", "-m", "THEIRS"),
        model(
            "filter-images fit",
            "filter-images",
            "fit",
            "LABELS",
            "-o",
            "OUT",
            "--encoder",
            "THEIRS",
            *CPU,
            reads="filter-images fit.encoder",
            partly=True,
            steady=False,
        ),
        model(
            "filter-images run",
            "filter-images",
            "run",
            "IMAGES",
            "-o",
            "OUT",
            "--encoder",
            "THEIRS",
            "--filter",
            "FILTER",
            *CPU,
            reads="filter-images run.encoder",
            partly=True,
        ),
        model(
            "filter-images run --filter",
            "filter-images",
            "run",
            "IMAGES",
            "-o",
            "OUT",
            "--encoder",
            "MODEL",
            "--filter",
            "THEIRS",
            *CPU,
            base="filter",
            reads="filter-images run.classifier",
        ),
        model(
            "push --card-only",
            "push",
            "THEIRS",
            "them/theirs",
            "--card-only",
            reads="push.folder",
            partly=True,
        ),
        model(
            "serve", "serve", "--port", "0", "-m", "THEIRS", *CPU, until="serving at", visit=_visit
        ),
        model("train", *train, "-m", "THEIRS"),
        model(
            "train --set",
            *train,
            "--set",
            "model.language_model=THEIRS",
            *parts,
            base="llama",
            reads="train.settings",
        ),
        model(
            "convert", "convert", "THEIRS/checkpoint.pt", "OUT", base="clip", reads="convert.source"
        ),
        model(
            "convert --language-model",
            "convert",
            "CLIP",
            "OUT",
            "--language-model",
            "THEIRS",
            base="llama",
            reads="convert.language_model",
        ),
        model(
            "data queue",
            "data",
            "queue",
            "DATA",
            "-o",
            "OUT.jsonl",
            "--knowledge",
            "captions",
            "--encoder",
            "THEIRS",
            base="encoder",
            reads="data queue.encoder",
        ),
    )


STRANGER = Stranger(prepare, TRICKS, _commands())
