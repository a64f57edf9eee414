"""The language model in 8 or 4 bits: which layers, how far off, and what is said where it cannot be."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest
import tiny_models
import torch
from torch import nn

from biod2c_core.errors import ConfigError, InputError
from biod2c_core.model.backbones.quantization import bits_from_environment, quantize_language_model
from biod2c_core.model.checkpoints.folder import load_model
from biod2c_core.model.generation import Answerer

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed"
)


@needs_torchao
@pytest.mark.parametrize(("bits", "error"), [(8, 0.02), (4, 0.2)])
def test_every_linear_layer_but_the_head_is_packed(
    bits: int, error: float, checkpoint: Path
) -> None:
    language_model = load_model(checkpoint).language_model
    before = copy.deepcopy(language_model)
    assert quantize_language_model(language_model, bits) == 2 * 7
    torch.manual_seed(0)
    for name, old in before.named_modules():
        if not isinstance(old, nn.Linear):
            continue
        new, x = language_model.get_submodule(name), torch.randn(64, old.in_features)
        with torch.no_grad():
            wanted, got = old(x), new(x)
        if name == "lm_head":
            assert torch.equal(got, wanted)
        else:
            assert 0 < (got - wanted).norm() / wanted.norm() < error, name


@needs_torchao
def test_the_environment_reaches_every_command_that_loads_a_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOD2C_LOAD_IN", "8bit")
    answerer = Answerer.load(str(checkpoint), "cpu")
    (answer,) = answerer.answer([tiny_models.make_image(0)], ["is there a lesion?"])
    assert 0 <= answer.confidence <= 1


def test_without_a_package_one_line_says_so(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="8-bit loading needs the package 'torchao'") as caught:
        quantize_language_model(load_model(checkpoint).language_model, 8)
    assert "\n" not in str(caught.value)


def test_an_unknown_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIOD2C_LOAD_IN", raising=False)
    assert bits_from_environment() is None
    monkeypatch.setenv("BIOD2C_LOAD_IN", "2bit")
    with pytest.raises(ConfigError, match=r"BIOD2C_LOAD_IN is '2bit'\. Use one of: 8bit, 4bit"):
        bits_from_environment()
