"""Full fine-tuning, from the language model's weights to a checkpoint without adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from biod2c_core.config import TrainingConfig
from biod2c_core.data.images import load_image
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.model.checkpoints.card import CardFacts
from biod2c_core.model.checkpoints.export import export
from biod2c_core.model.checkpoints.folder import load_model, load_model_config
from biod2c_core.model.generation import Answerer
from biod2c_core.training.start import start_model
from biod2c_core.training.train import TrainingResult, train

LANGUAGE, FUSION = "language_model.", "fusion."


def settings(llama: Path, **changes: Any) -> TrainingConfig:
    return tiny_models.training_config(llama, **{"train": "full", "save_every": 2, **changes})


def run(config: TrainingConfig, data: Path, output: Path, **options: Any) -> TrainingResult:
    return train(config, 2, [data], output, tiny_models.Silent(), device="cpu", **options)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_model(folder).state_dict()


def test_all_of_the_language_model_learns_resumes_and_is_exported(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    config = settings(llama, max_steps=3)
    whole = run(config, data, tmp_path / "whole")
    assert load_model_config(whole.model_folder).lora is None
    begun, _ = start_model(config, None, config.stage2.seed)
    before, after = begun.state_dict(), weights(whole.model_folder)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved >= {
        name for name, _ in begun.language_model.named_parameters(prefix=LANGUAGE[:-1])
    }
    assert not any(name.startswith("vision.") for name in moved)

    halted = shutil.copytree(tmp_path / "whole", tmp_path / "halted")
    shutil.rmtree(halted / "model")
    shutil.rmtree(halted / "checkpoints" / "checkpoint-3")
    with pytest.raises(InputError, match=r"was started with stage2\.train='full', not 'lora'"):
        run(settings(llama, max_steps=3, train="lora"), data, halted, resume=True)
    resumed = weights(run(config, data, halted, resume=True).model_folder)
    assert all(torch.equal(resumed[name], after[name]) for name in after)

    exported = export(str(whole.model_folder), tmp_path / "exported", CardFacts())
    assert all(torch.equal(value, after[name]) for name, value in weights(exported).items())
    image = load_image(data.parent / "0.png")
    answers = [
        Answerer.load(str(folder), "cpu").answer([image], ["is it?"], max_new_tokens=3)[0]
        for folder in (whole.model_folder, exported)
    ]
    assert answers[0] == answers[1]


def test_a_run_takes_its_rates_and_its_decay_by_group(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """Of two runs of one step, the one with decay is nearer to zero by rate x decay x the weight."""
    rates = {FUSION: 1e-3, LANGUAGE: 1e-2}
    rated = {"learning_rate": rates[FUSION], "language_learning_rate": rates[LANGUAGE]}
    made = []
    for decay in (0.0, 0.5):
        config = settings(llama, max_steps=1, warmup_ratio=0.0, weight_decay=decay, **rated)
        made.append(weights(run(config, data, tmp_path / str(decay)).model_folder))
    begun, _ = start_model(config, None, config.stage2.seed)
    for name, start in begun.named_parameters():
        if name.startswith("vision."):
            continue
        still = start.dim() < 2 or name == "fusion.queries"
        rate = rates[FUSION if name.startswith(FUSION) else LANGUAGE]
        expected = torch.zeros_like(start) if still else rate * 0.5 * start
        torch.testing.assert_close(made[0][name] - made[1][name], expected, atol=1e-6, rtol=1e-3)
        step = (made[0][name] - start).abs().max().item()  # AdamW's first is its rate
        assert step == pytest.approx(rate, rel=0.02), name


def test_a_checkpoint_with_other_groups_of_parameters_is_one_line(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """As earlier versions wrote them, to whom beta and the queries decayed."""
    config = settings(llama, max_steps=2, save_every=1)
    run(config, data, tmp_path)
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-2")
    file = tmp_path / "checkpoints" / "checkpoint-1" / "optimizer.pt"
    state = torch.load(file, weights_only=True)
    decaying, other, *rest = state["param_groups"]
    decaying["params"], other["params"] = (
        [*decaying["params"], *other["params"][:2]],
        other["params"][2:],
    )
    torch.save({**state, "param_groups": [decaying, other, *rest]}, file)
    publish_again = {"optimizer.pt": file.stat().st_size}
    sizes = file.with_name("complete.json")
    sizes.write_text(json.dumps({**json.loads(sizes.read_text()), **publish_again}))
    with pytest.raises(CheckpointError, match=r"checkpoint-1 had other groups .* earlier version"):
        run(config, data, tmp_path, resume=True)


def test_a_resumed_run_takes_the_rates_and_decay_that_it_is_given(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """Also a decay where it had none before."""
    values = {"save_every": 1, "schedule": "constant", "learning_rate": 1e-3, "weight_decay": 0.0}
    run(settings(llama, max_steps=1, **values), data, tmp_path / "begun")
    before = weights(tmp_path / "begun" / "model")
    made = []
    for changes in ({}, {"language_learning_rate": 1e-4, "weight_decay": 0.5}):
        folder = shutil.copytree(tmp_path / "begun", tmp_path / f"{len(made)}")
        config = settings(llama, max_steps=2, **{**values, **changes})
        made.append(weights(run(config, data, folder, resume=True).model_folder))
    for name, rate in (("fusion.project.0.weight", 1e-3), ("language_model.lm_head.weight", 1e-4)):
        plain, changed = (after[name] - before[name] for after in made)
        assert plain.abs().max() > 1e-4
        expected = plain * rate / 1e-3 - rate * 0.5 * before[name]
        torch.testing.assert_close(changed, expected, atol=1e-6, rtol=1e-3)
