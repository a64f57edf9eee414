"""Any tower with any language model trains, saves, loads and answers; ``docs/backbones.md`` shows the table.

Run this file to print the table: ``python tests/core/model/test_backbones.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "tests"))  # where the file is run by itself

import tiny_models  # noqa: E402

from biod2c_core.config import LoraSettings, StageSettings, VisionConfig  # noqa: E402
from biod2c_core.model.backbones.open_clip_library import build_open_clip  # noqa: E402
from biod2c_core.model.build import build_model  # noqa: E402
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint  # noqa: E402
from biod2c_core.training.stages import prepare_stage  # noqa: E402

AUTO: dict[str, Any] = dict.fromkeys(("levels", "image_size", "mean", "std"), "auto")
SMALL = {**AUTO, "image_size": 64}
CLIPS = {
    "small-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "small-vit": {"image_size": 64, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
}
IN_TIMM = {
    "timm_model_name": "test_vit",
    "timm_model_pretrained": True,  # as BiomedCLIP's says; its weights are in the folder all the same
    "timm_pool": "",
    "timm_proj": "linear",
    "image_size": 64,
}
HUB_FOLDER = "BiomedCLIP's kind"
# name in the table: library, name, fixed settings, X_v, S
TOWERS: dict[str, tuple[str, str, dict[str, Any], tuple[int, int, int], int]] = {
    "open_clip ResNet (PMC-CLIP's kind)": ("open_clip", "small-resnet", SMALL, (4, 4, 128), 3),
    "open_clip ViT": ("open_clip", "small-vit", SMALL, (4, 4, 32), 3),
    f"open_clip folder, ViT of timm ({HUB_FOLDER})": ("open_clip", "", AUTO, (4, 4, 64), 3),
    "timm EfficientNet": ("timm", "test_efficientnet", SMALL, (4, 4, 48), 3),
    "timm ResNet": ("timm", "test_resnet", SMALL, (4, 4, 192), 3),
    "timm ConvNeXt": ("timm", "test_convnext", SMALL, (4, 4, 48), 3),
    "timm ViT": ("timm", "test_vit", SMALL, (4, 4, 64), 3),
}
# tower, language model, LoRA on
COMBINATIONS = [
    (tower, kind, targets)
    for index, tower in enumerate(TOWERS)
    for kind, targets in [
        list(
            {
                "llama": "q_proj, v_proj",
                "gpt2": "c_attn",
                "opt": "q_proj, v_proj",
                "qwen2": "q_proj, v_proj",
                "gpt_neox": "query_key_value",
                "mistral": "q_proj, v_proj",
                "gemma": "q_proj, v_proj",
            }.items()
        )[(2 * index + step) % 7]
        for step in (0, 1)
    ]
]


def table() -> str:
    """The table of ``docs/backbones.md``."""
    lines = [
        "| tower | X_v | S | language model | LoRA on | trains, saves, loads, answers the same |",
        "|---|---|---|---|---|---|",
    ]
    for tower, kind, targets in COMBINATIONS:
        _, _, _, grid, scales = TOWERS[tower]
        size = " x ".join(map(str, grid))
        lines.append(f"| {tower} | {size} | {scales} | {kind} | {targets} | yes |")
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def small_open_clip_models(monkeypatch: pytest.MonkeyPatch) -> None:
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    for name, vision in CLIPS.items():
        config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the hub gives it: definition, preprocessing, weights of both halves."""
    folder = tmp_path_factory.mktemp("clip")
    definition = {
        "embed_dim": 16,
        "vision_cfg": IN_TIMM,
        "text_cfg": {"hf_model_name": "none/such"},
    }
    torch.manual_seed(5)
    visual = build_open_clip("hub", 64, definition).state_dict()
    text = {"text.transformer.weight": torch.zeros(2), "logit_scale": torch.zeros(())}
    weights = {f"visual.{name}": value for name, value in visual.items()} | text
    save_file(weights, folder / "open_clip_model.safetensors")
    preprocessing = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"model_cfg": definition, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("language_models")
    kinds = {kind for _, kind, _ in COMBINATIONS}
    return {kind: tiny_models.save_language_model(folder / kind, kind) for kind in sorted(kinds)}


def answers(model: Any, processor: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of two answers and the logits of their prompts."""
    images = [tiny_models.make_image(0), tiny_models.make_image(1)]
    inputs = processor(images, list(tiny_models.QUESTIONS[:2]))
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        return ids, model(**inputs).logits


@pytest.mark.parametrize(("tower", "kind", "targets"), COMBINATIONS)
def test_combination(
    tower: str,
    kind: str,
    targets: str,
    language_models: dict[str, Path],
    clip_folder: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    library, name, options, grid, scales = TOWERS[tower]
    vision = VisionConfig(library, name or f"local-dir:{clip_folder}", **options)  # type: ignore[arg-type]
    settings = tiny_models.model_settings(language_models[kind], vision=vision)
    model, processor = build_model(settings, seed=0)
    batch = tiny_models.make_batch(processor, data.parent)
    assert model.vision(batch["pixel_values"]).shape[1:] == grid
    assert model.fusion.scales == scales
    prepare_stage(model, 2, StageSettings(), LoraSettings(r=2, dropout=0.0, targets="auto"))
    assert sorted(model.config.lora["target_modules"]) == sorted(targets.split(", "))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    model.train()
    for _ in range(2):  # LoRA's second factor starts at zero: its first moves in the second step
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    moved = [not torch.equal(new, old) for new, old in zip(trained, before, strict=True)]
    assert all(moved)
    save_checkpoint(tmp_path, model.eval(), processor)
    ids, logits = answers(model, processor)
    loaded, loaded_processor = load_model(tmp_path), load_processor(tmp_path)
    again, again_logits = answers(loaded, loaded_processor)
    assert torch.equal(ids, again)
    assert torch.equal(logits, again_logits)


def test_the_page_shows_the_table() -> None:
    assert len(COMBINATIONS) >= 12
    assert table() in (REPOSITORY / "docs" / "backbones.md").read_text("utf-8")


if __name__ == "__main__":
    print(table())
