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
from biod2c_core.model.answering import Answerer
from biod2c_core.model.checkpoints import load_model
from biod2c_core.model.quantization import bits_from_environment, quantize_language_model

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed"
)


@needs_torchao
@pytest.mark.parametrize(("bits", "error"), [(8, 0.03), (4, 0.3)])
def test_packed_layers_answer_nearly_the_same(bits: int, error: float, checkpoint: Path) -> None:
    language_model = load_model(checkpoint).language_model
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        wanted = language_model(ids).logits
        head = copy.deepcopy(language_model.lm_head.weight)
        assert quantize_language_model(language_model, bits) == 2 * 7
        got = language_model(ids).logits
    assert 0 < (got - wanted).norm() / wanted.norm() < error
    assert torch.equal(language_model.lm_head.weight, head)
    kinds = {
        type(module.weight.data)
        for name, module in language_model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    assert torch.Tensor not in kinds


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
