"""What the commands read, as small as it goes, and how it is changed between two runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any


def make_inputs(folder: Path, read: Collection[str]) -> None:
    """Write what the commands read.

    Args:
        folder: Where to.
        read: Names of what is needed; what is made in a moment is made in any case.
    """
    import tiny_models

    from biod2c_core.config import dump_config
    from biod2c_core.model.checkpoints.folder import save_checkpoint

    llama = tiny_models.save_language_model(folder / "llama")
    save_checkpoint(folder / "model", *tiny_models.build(llama))
    tiny_models.write_data(folder / "data", 12)
    tiny_models.write_data(folder / "known", 48, images=24)
    tiny_models.write_data(folder / "held", 48, images=48)  # of which half are not known
    tiny_models.write_data(folder / "many", 4000)
    config = tiny_models.training_config(llama, max_steps=8, save_every=1, keep=2)
    config = replace(config, model=replace(config.model, fusion_layers=1))
    (folder / "toy.yaml").write_text(dump_config(config))
    _make_captions(folder / "captions", 40)
    if "images" in read:
        _make_images(folder)
    if "clip" in read:
        _make_clip(folder / "clip")


def _make_images(folder: Path) -> None:
    """Clean and polluted pictures, their labels, and a classifier."""
    import tiny_models
    from PIL import Image

    from biod2c_cli import app

    (folder / "images").mkdir()
    labels = ["image,label"]
    for index in range(60):
        name, light = f"{index:02d}.png", index % 2
        picture = Image.new("L", (60, 60), 250) if light else tiny_models.make_image(index)
        picture.convert("RGB").save(folder / "images" / name)
        labels.append(f"images/{name},{'polluted' if light else 'clean'}")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    fit = ["filter-images", "fit", folder / "labels.csv", "-o", folder / "filter"]
    options = ["--encoder", folder / "model", "--device", "cpu"]
    app.app([str(each) for each in [*fit, *options]], standalone_mode=False)


def _make_captions(folder: Path, count: int) -> None:
    from PIL import Image

    folder.mkdir()
    Image.new("RGB", (60, 40), (90, 20, 30)).save(folder / "i.jpg")
    rows = [
        {
            "id": f"r{number}",
            "image": "i.jpg",
            "question": "Describe the image.",
            "caption": f"Chest CT number {number} showing a mass in the lung.",
        }
        for number in range(count)
    ]
    _write_rows(folder / "records.jsonl", rows)


def _make_clip(folder: Path) -> None:
    """A checkpoint in PMC-CLIP's layout."""
    import torch

    from biod2c_core.model.backbones.open_clip_library import build_open_clip

    torch.manual_seed(0)
    sizes = {"image_size": 64, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None}
    visual = build_open_clip("RN50", 64, {"embed_dim": 16, "vision_cfg": sizes}).state_dict()
    kept = {name: value for name, value in visual.items() if not name.startswith("layer4")}
    folder.mkdir()
    state = {f"module.visual.{name}": value for name, value in kept.items()}
    torch.save({"epoch": 1, "name": "pmc_clip", "state_dict": state}, folder / "checkpoint.pt")


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)  # the file may be shared with other runs
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _change_row(path: Path, number: int, **fields: str) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number] |= fields
    _write_rows(path, rows)


def change_answer(name: str) -> Callable[[Path], None]:
    """Another answer of the third record in a folder."""
    return lambda inputs: _change_row(inputs / name / "records.jsonl", 2, answer="right lung")


def change_caption(inputs: Path) -> None:
    """Another caption of the third record."""
    _change_row(inputs / "captions/records.jsonl", 2, caption="MRI of the brain with a lesion.")


def change_picture(name: str) -> Callable[[Path], None]:
    """Another picture of the same name."""

    def change(inputs: Path) -> None:
        import tiny_models

        (inputs / name).unlink()
        tiny_models.make_image(77).save(inputs / name)

    return change


def change_weights(inputs: Path) -> None:
    """One tensor of the model."""
    from safetensors.torch import load_file, save_file

    path = inputs / "model/model.safetensors"
    tensors = load_file(path)
    tensors["fusion.queries"] = tensors["fusion.queries"] + 1
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})


def change_clip(inputs: Path) -> None:
    """One tensor of the checkpoint."""
    import torch

    path = inputs / "clip/checkpoint.pt"
    held = torch.load(path, weights_only=True)
    held["state_dict"]["module.visual.conv1.weight"] += 1
    path.unlink()
    torch.save(held, path)
