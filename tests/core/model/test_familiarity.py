"""Pictures like those of training: shares by hand, what is kept, and files made to do harm."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.model import familiarity
from biod2c_core.model.checkpoints.folder import fingerprint, load_model
from biod2c_core.model.familiarity import FILE, Reference, load_reference
from biod2c_core.model.generation import Answerer

WIDTH = 96  # twice that of the tiny model's grid


def around(angles: list[float]) -> Tensor:
    """Points on a circle, whose mean is 0 and whose deviation is the same in both directions."""
    turns = torch.tensor(angles).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], 1)


CIRCLE = around([float(angle) for angle in range(0, 360, 18)])  # 20 pictures
# by so many degrees off one of these
OFF = [0.2, 0.4, *(3 + i / 10 for i in range(10)), *(7 + i / 10 for i in range(10))]
LEFT_OUT = around([18.0 * i + off for i, off in enumerate(OFF)])


def test_the_share_of_left_out_pictures_that_lie_farther() -> None:
    reference = Reference.fit(CIRCLE, LEFT_OUT)
    assert reference.distance(around([9.0])).item() == pytest.approx(1 - 0.98769, abs=1e-3)
    assert len(reference.distances) == 20  # what is .2 and .4 off is taken for the same picture
    assert reference.familiarity(around([0.0, 5.5, 9.0])) == [1.0, 0.5, 0.0]


def test_of_many_pictures_the_most_different_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiarity, "MOST_PICTURES", 20)
    crowd = around([0.01 * i for i in range(-500, 500)])
    both = torch.cat([crowd, around([180.0, 90.0])])
    reference = Reference.fit(both, around([float(angle) for angle in range(5, 360, 5)]))
    assert len(reference.features) <= 20
    assert reference.distance(around([180.0, 90.0])).max() < 1e-3


def test_too_few_pictures() -> None:
    with pytest.raises(InputError, match="20 pictures of training and 0 others are too few"):
        Reference.fit(CIRCLE, CIRCLE)


def test_a_reference_is_found_again_with_its_weights_only(tmp_path: Path) -> None:
    reference = Reference.fit(CIRCLE, LEFT_OUT)
    reference.save(tmp_path, "x")
    again = load_reference(tmp_path, "x", 2)
    assert again is not None
    for name, value in vars(reference).items():
        assert torch.allclose(getattr(again, name), value, atol=1e-6)
    assert load_reference(tmp_path, "y", 2) is None
    assert load_reference(tmp_path / "elsewhere", "x", 2) is None


def test_it_is_not_taken_for_weights(checkpoint: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    before = fingerprint(own)
    Reference.fit(CIRCLE, LEFT_OUT).save(own, before)
    assert fingerprint(own) == before
    load_model(own)


Harm = Callable[[dict[str, Tensor]], object]
HARMS: dict[str, Harm] = {
    "shape": lambda tensors: tensors.update(features=torch.ones(3, WIDTH + 1).char()),
    "flat": lambda tensors: tensors.update(features=torch.ones(()).char()),
    "empty": lambda tensors: tensors.update(distances=torch.zeros(0)),
    "mean": lambda tensors: tensors.update(mean=torch.zeros(1)),
    "whole": lambda tensors: tensors.update(mean=torch.zeros(WIDTH, dtype=torch.int64)),
    "numbers": lambda tensors: tensors.update(features=torch.ones(4, WIDTH)),
    "nan": lambda tensors: tensors["mean"].fill_(torch.nan),
    "infinite": lambda tensors: tensors["distances"].fill_(torch.inf),
    "zero": lambda tensors: tensors["deviation"].zero_(),
    "missing": lambda tensors: tensors.pop("mean"),
    "more": lambda tensors: tensors.update(code=torch.zeros(1)),
}


@pytest.mark.parametrize("harm", [*HARMS, "huge", "bytes", "folder"])
def test_a_file_made_to_do_harm_ends_in_one_line(
    harm: str, checkpoint: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    identity, path = fingerprint(own), own / FILE
    tensors = {
        "mean": torch.zeros(WIDTH),
        "deviation": torch.ones(WIDTH),
        "features": torch.ones(4, WIDTH).char(),
        "distances": torch.rand(9),
    }
    if harm in HARMS:
        HARMS[harm](tensors)
    save_file(tensors, path, {"weights": identity})
    if harm == "huge":
        with path.open("r+b") as file:
            file.truncate(10**12)  # a hole: nothing is written
    elif harm == "bytes":
        path.write_bytes(b"\xff" * 200)
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(CheckpointError, match="cannot be loaded") as raised:
        Answerer.load(own, "cpu")
    assert "\n" not in str(raised.value)


def test_absurd_numbers_of_a_file_give_no_absurd_familiarity(tmp_path: Path) -> None:
    huge, tiny = torch.full((WIDTH,), 3e38), torch.full((WIDTH,), 1e-38)
    Reference(huge, tiny, torch.zeros(4, WIDTH), torch.full((9,), -3e38)).save(tmp_path, "x")
    loaded = load_reference(tmp_path, "x", WIDTH)
    assert loaded is not None
    shares = loaded.familiarity(torch.cat([torch.randn(3, WIDTH), huge[None], -huge[None]]))
    assert all(0 <= share <= 1 for share in shares)
