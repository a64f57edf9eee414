"""Weights for a vision trunk: from its own file, the uncut model's, or a whole CLIP checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from biod2c_core.errors import CheckpointError
from biod2c_core.model.backbones.vision_library import hub_folder
from biod2c_core.model.checkpoints.tensor_files import check_fit, read_tensors
from biod2c_core.model.vision import VisionTower

_VISUAL = "visual."  # how CLIP models call their vision tower


def is_clip(names: Collection[str]) -> bool:
    """Whether these are the names of a CLIP model's tensors."""
    return any(name.startswith(_VISUAL) for name in names)


def load_trunk(tower: VisionTower, source: Path | str) -> list[str]:
    """Load a trunk's weights; every tensor must be there and of the right shape.

    Args:
        tower: Whose trunk is filled, in place.
        source: A weight file or its folder, or ``hf-hub:OWNER/MODEL``: the trunk's own tensors, the
            whole model it was cut from, or a CLIP checkpoint around it (PMC-CLIP's
            ``checkpoint.pt``, with or without the prefix of data-parallel training).

    Returns:
        Names in the source that the trunk has no use for.

    Raises:
        CheckpointError: There is nothing usable, or names or shapes differ; they are listed.
    """
    path = hub_folder(str(source)) or Path(source)
    if not path.exists():
        raise CheckpointError(f"no vision weights at {path}", "Check model.vision.weights.")
    weights, unused = select_weights(read_tensors(path), tower)
    check_fit(
        weights,
        tower.trunk.state_dict(),
        f"vision weights {path}",
        "Choose the tower and image size they were made for.",
    )
    tower.trunk.load_state_dict(weights)
    return unused


def select_weights(
    tensors: Mapping[str, Tensor], tower: VisionTower
) -> tuple[dict[str, Tensor], list[str]]:
    """Give tensors the trunk's names, and set apart those of layers that were cut off.

    Args:
        tensors: By the names of the trunk, of the uncut model, or of a CLIP checkpoint.
        tower: The tower.

    Returns:
        The trunk's weights (unknown names stay, so that the check of the fit lists them), and the
        names of the rest.
    """
    own = tower.trunk.state_dict().keys()
    if tensors.keys() <= own:
        return dict(tensors), []
    plain_name = tower.library.plain_name
    places = {plain_name(name): name for name in own}
    uncut = tower.library.uncut_names(tower.model, tower.image_size)
    known = {plain_name(name) for name in uncut}
    clip = is_clip(tensors)
    weights, unused = {}, []
    for name, value in tensors.items():
        plain = plain_name(name.removeprefix(_VISUAL))
        if clip and not name.startswith(_VISUAL):
            unused.append(name)
        elif plain in places:
            weights[places[plain]] = value
        elif plain in known:
            unused.append(name)
        else:
            weights[name] = value
    return weights, unused
