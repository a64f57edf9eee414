"""Other towers and other language models go through the same building, step, and generation."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import tiny_models
import torch

from biod2c_core.config import LoraSettings, StageSettings, VisionConfig
from biod2c_core.model.build import build_model
from biod2c_core.training.stages import prepare_stage

TOWERS = {
    "timm ViT": VisionConfig("timm", "test_vit", levels=(5,), image_size=64),
    "timm ResNet": VisionConfig("timm", "resnet18", levels=(3,), image_size=64),
    "timm channels last": VisionConfig(
        "timm", "test_efficientnet_ln", levels=(2, 3), image_size=64
    ),
    "open_clip ResNet": VisionConfig("open_clip", "tiny-resnet", levels=(3,), image_size=64),
    "open_clip ViT": VisionConfig("open_clip", "tiny-vit", levels=(1,), image_size=64),
}
TARGETS = {
    "llama": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "opt": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
}
TEXT_TOWER = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
VISION_TOWERS = {
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "tiny-vit": {"image_size": 64, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
}


@pytest.fixture(autouse=True)
def small_open_clip_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Towers of open_clip's own two kinds, as small as they go."""
    for name, vision in VISION_TOWERS.items():
        config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT_TOWER}
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)


def step_and_answer(
    language_model: Path, data: Path, targets: tuple[str, ...], **parts: object
) -> None:
    """One optimizer step of stage 2 lowers the loss on its batch; then the model answers."""
    settings = tiny_models.model_settings(language_model, **parts)
    model, processor = build_model(settings, seed=0)
    prepare_stage(model, 2, StageSettings(), LoraSettings(r=2, targets=targets))
    batch = tiny_models.make_batch(processor, data.parent)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4)
    model.eval()  # without dropout a small step along the gradient cannot raise the loss
    before = model(**batch).loss
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    optimizer.step()
    after = model(**batch).loss
    assert float(after.detach()) < float(before.detach())
    inputs = processor([tiny_models.make_image(0)] * 2, list(tiny_models.QUESTIONS[:2]))
    answers = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answers.shape[0] == 2
    assert 1 <= answers.shape[1] <= 3


@pytest.mark.parametrize("tower", TOWERS)
def test_every_kind_of_tower(tower: str, llama: Path, data: Path) -> None:
    step_and_answer(llama, data, TARGETS["llama"], vision=TOWERS[tower])


@pytest.mark.parametrize("kind", TARGETS)
def test_every_kind_of_language_model(kind: str, tmp_path: Path, data: Path) -> None:
    language_model = tiny_models.save_language_model(tmp_path, kind)
    step_and_answer(language_model, data, TARGETS[kind])
