"""The tiny random models and data of ``tests/tiny_models.py`` as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import checkpoint, data, llama, volume

from biod2c_core.inference.vqa_model import VQAModel

__all__ = ["checkpoint", "data", "llama", "model", "volume"]


@pytest.fixture
def model(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> VQAModel:
    """Loads the tiny model for the embedded one."""
    tiny = VQAModel.load(checkpoint, "cpu")
    monkeypatch.setattr(VQAModel, "load", lambda *_: tiny)
    return tiny
