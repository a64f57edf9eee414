"""Every command that reads what a stranger made, by ``python tests/hostile/every_command.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from biod2c_cli.app import app

SCRIPT = Path(__file__).with_name("every_command.py")
# Parameters that name nothing of a stranger's: outputs, numbers, switches, words of the person's own.
_OWN = """
allow_outside api_key as_csv as_json asks attn axis batch batch_size beside bf16 biovgq budget
card_only chat column consistency controls count data_license device dry_run dtype engine epochs
form format fractions frame fsdp gpu_memory gpus group heads host image_root image_side in_flight
judge judge_passes k keep language layers leaderboard learning_rate license limit list_ mask_text
master max_batch max_body max_images max_pixels max_queue max_steps max_tokens method min_confidence
move n_best node_rank nodes npy num_shards onnx output paper_table plot port processes profile
prompt public question questions repeat resume revision rpm save_every scales second_column seed select
shuffle_images slice_ slices source_name split stage strict temperature tensorboard text text_only
threshold timeout tokens tpm wandb window workers zero
"""
# A name at an endpoint; a name on the hub, of which tests/core/model/test_sharing.py has strange answers.
NAMES = {"gen-qa.model", "pull.name", "push.name"}


def parameters(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every command with sub-commands' names, and each of its parameters."""
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from parameters(command.get_command(None, name), (*path, name))
    else:
        yield from ((" ".join(path), each.name) for each in command.params)


def test_no_command_that_reads_a_stranger_s_work_is_left_out() -> None:
    """A new command or parameter is tried (``strangers/``), or listed above."""
    ask = "import every_command as e; [print(r) for s in e.strangers().values() for c in s.commands for r in c.reads]"  # noqa: E501
    found = subprocess.run(
        [sys.executable, "-c", ask], cwd=SCRIPT.parent, capture_output=True, text=True, check=True
    )
    tried = set(found.stdout.splitlines())
    there = {f"{command}.{name}" for command, name in parameters(get_command(app))}
    reading = {each for each in there if each.rpartition(".")[2] not in _OWN.split()} - NAMES
    assert reading == tried


def _run(*options: str) -> str:
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, f"{options}: {done.stdout[-6000:]} {done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_tricks_of_strangers_get_nowhere() -> None:
    """A sample; ``BIOD2C_HOSTILE_SEED`` draws another."""
    seed = os.environ.get("BIOD2C_HOSTILE_SEED", "0")
    assert "32 trials, 0 violations" in _run("--trials", "8", "--seed", seed)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(
    not os.environ.get("BIOD2C_HOSTILE_ALL"), reason="set BIOD2C_HOSTILE_ALL=1; half an hour"
)
@pytest.mark.parametrize("kind", ["checkpoints", "presets", "datasets", "endpoints"])
def test_every_trick_on_every_command(kind: str) -> None:
    assert "0 violations" in _run("--kinds", kind)
