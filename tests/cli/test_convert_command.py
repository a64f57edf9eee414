"""``biod2c convert``, ``export``, ``push`` and ``pull`` from the command line."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import released
import tiny_models
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_core.config import load_config
from biod2c_core.model.backbones.open_clip_library import build_open_clip
from biod2c_core.model.checkpoints.folder import load_model

RN50 = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(result: Result) -> str:
    """The one line of a refusal."""
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def pmc_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in PMC-CLIP's layout, from data-parallel training."""
    torch.manual_seed(0)
    visual = build_open_clip("RN50", 64, RN50).state_dict()
    state = {f"module.visual.{name}": value for name, value in visual.items()}
    state["module.text_encoder.embeddings.weight"] = torch.zeros(4, 2)
    path = tmp_path_factory.mktemp("pmc_clip") / "checkpoint.pt"
    torch.save({"epoch": 1, "name": "pmc_clip", "state_dict": state, "optimizer": {}}, path)
    return path


def test_pmc_clip_alone_gives_a_trunk_and_a_preset(pmc_clip: Path, tmp_path: Path) -> None:
    result = invoke("convert", pmc_clip, tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["kind"] == "clip"
    assert {name.split(".")[0] for name in told["unused"]} == {"visual", "text_encoder"}
    assert any(name.startswith("visual.layer4.") for name in told["unused"])
    preset = load_config(str(tmp_path / "out" / "preset.yaml"))
    assert Path(preset.model.vision.weights) == tmp_path / "out" / "trunk.safetensors"
    assert preset.model.vision.image_size == 512


def test_pmc_clip_with_a_language_model_gives_a_whole_model(
    pmc_clip: Path, llama: Path, tmp_path: Path
) -> None:
    result = invoke("convert", pmc_clip, tmp_path / "out", "--language-model", llama)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert "  visual.layer4 (" in result.stderr
    assert "its fusion module is untrained" in result.stderr
    model = load_model(tmp_path / "out")
    stored = torch.load(pmc_clip, weights_only=True)["state_dict"]
    assert torch.equal(model.vision.trunk.model.conv1.weight, stored["module.visual.conv1.weight"])
    assert model.config.vision["image_size"] == 512


class Runs:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch it-ran",)


def test_a_pickle_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Runs()))
    line = refused(invoke("convert", "evil.pt", "out"))
    assert "evil.pt" in line
    assert not (tmp_path / "it-ran").exists()
    assert not (tmp_path / "out").exists()


def test_what_is_no_known_source(checkpoint: Path, tmp_path: Path) -> None:
    line = refused(invoke("convert", tmp_path / "none", tmp_path / "out"))
    assert "nothing at" in line
    line = refused(invoke("convert", checkpoint, tmp_path / "out"))
    assert "neither the authors' model nor a CLIP checkpoint" in line
    assert "fusion, language_model, vision" in line
    save_file({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "short.safetensors")
    line = refused(invoke("convert", tmp_path / "short.safetensors", tmp_path / "out"))
    assert "missing [model.bn1" in line
    assert "size mismatch [model.conv1.weight (1,)" in line


def test_an_output_that_exists(pmc_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "exists already" in refused(invoke("convert", pmc_clip, tmp_path))


def write_tokenizer(folder: Path, size: int) -> None:
    """Letters and special tokens, at most ``size`` of them."""
    words = ["<pad>", "</s>", "<unk>", *map(chr, range(33, 33 + size - 3))]
    model = models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


@pytest.mark.real_data
@pytest.mark.skipif(not released.FOLDER.is_dir(), reason=f"nothing at {released.FOLDER}")
def test_the_authors_weights_answer_from_the_command_line(tmp_path: Path) -> None:
    save_file(released.tensors(1), tmp_path / "model.safetensors")
    released.write_llama(tmp_path / "llama")
    line = refused(
        invoke(
            "convert", tmp_path / "model.safetensors", tmp_path / "out", "--language-model", "no"
        )
    )
    assert "no language model's configuration at no" in line
    write_tokenizer(tmp_path / "llama", released.recipe().VOCAB)
    result = invoke("convert", tmp_path / "model.safetensors", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["note"] == ""
    tiny_models.make_image(0).save(tmp_path / "image.png")
    options = ("-m", tmp_path / "out", "--device", "cpu")
    asked = invoke("ask", tmp_path / "image.png", "is it there?", *options)
    assert asked.exit_code == 0, asked.stderr


def test_export_and_a_card_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("export", tmp_path / "out", "-m", checkpoint, "--license", "MIT")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out'}\n"
    shown = invoke(
        "push", checkpoint, "owner/model", "--card-only", "--data-license", "VQA-RAD=CC0"
    )
    assert shown.exit_code == 0, shown.stderr
    assert "# owner/model" in shown.stdout
    assert "- VQA-RAD (CC0)" in shown.stdout
    assert "is not an assignment" in refused(
        invoke("push", checkpoint, "owner/model", "--card-only", "--data-license", "CC0")
    )


def test_push_and_pull_without_a_network(checkpoint: Path, tmp_path: Path) -> None:
    result = invoke("push", checkpoint, "owner/model")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "the hub could not be used for 'owner/model'" in result.stderr
    result = invoke("pull", "owner/model", tmp_path / "out")
    assert result.exit_code in (2, 5)
    assert result.stderr.count("\n") == 1
    assert "is not the name of a hub model" in refused(invoke("pull", "a/b/c", tmp_path / "out"))
