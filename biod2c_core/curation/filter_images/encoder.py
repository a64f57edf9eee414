"""The frozen image encoder of the filter: the vision tower of a BioD2C checkpoint, pooled."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from biod2c_core.errors import CheckpointError, ConfigError
from biod2c_core.foreign import read_json
from biod2c_core.model.checkpoints.folder import locate
from biod2c_core.model.vision import VisionTower, check_scale, grid_shape

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "image-filter" / "encoder"
_PREFIX = "vision.trunk."


class ImageEncoder:
    """Images to one vector each.

    Args:
        tower: The frozen vision tower.
        mean: Of the RGB channels, in [0, 1].
        std: Of the RGB channels.
        identity: Equal only for equal weights and settings.

    Attributes:
        side: Height and width of the pixels it takes.
        width: Length of a vector: mean and standard deviation of X_v over the grid.
    """

    def __init__(
        self, tower: VisionTower, mean: list[float], std: list[float], identity: str
    ) -> None:
        self.tower = tower
        self.identity = identity
        self.side = tower.image_size
        device = next(tower.parameters()).device
        self.width = 2 * grid_shape(tower)[2]
        self._scale = torch.tensor([1 / (255 * each) for each in std], device=device)
        self._shift = torch.tensor([a / b for a, b in zip(mean, std, strict=True)], device=device)

    @classmethod
    def load(
        cls, checkpoint: str | Path | None = None, device: torch.device | str = "cpu"
    ) -> ImageEncoder:
        """Read the vision tower of a checkpoint, and nothing else of it.

        Args:
            checkpoint: A folder, a hub name, or None for the encoder of the embedded filter:
                EfficientNet-Lite0 as ImageNet trained it, which tells drawings from pictures better than
                the trunk of biod2c-tiny, which is trained further on pictures alone.
            device: Where to compute.

        Raises:
            CheckpointError: There is none, or it is damaged.
            ConfigError: Its settings make no sense.
        """
        folder = EMBEDDED if checkpoint is None else locate(checkpoint)
        try:
            vision = read_json(folder / "config.json")["vision"]
            image = read_json(folder / "processor_config.json")
            mean, std = list(image["image_mean"]), list(image["image_std"])
            check_scale(mean, std)
            weights = _trunk_weights(folder)
            tower = VisionTower(**{**vision, "levels": tuple(vision["levels"])})
            tower.trunk.load_state_dict(weights)
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"the image encoder in {folder} cannot be loaded "
                f"({' '.join(str(error).split())[:300]})",
                "The files are damaged or incomplete; copy or train it again.",
            ) from error
        identity = _identity(weights, vision, mean, std)
        return cls(tower.float().to(device), mean, std, identity)

    def to(self, device: torch.device | str) -> ImageEncoder:
        """Compute there from now on; returns itself."""
        self.tower.to(device)
        self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Encode images.

        Args:
            pixels: (B, side, side, 3), uint8.

        Returns:
            (B, width), float32.
        """
        values = torch.from_numpy(pixels).to(self._scale.device).float() * self._scale - self._shift
        grid = self.tower(values.permute(0, 3, 1, 2)).flatten(1, 2)  # (B, N * N, D)
        spread, middle = torch.std_mean(grid, dim=1)
        return torch.cat((middle, spread), dim=1).cpu().numpy()


def _trunk_weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                if name.startswith(_PREFIX):
                    found[name.removeprefix(_PREFIX)] = file.get_tensor(name)
    return found


def _identity(
    weights: dict[str, Tensor], vision: dict[str, Any], mean: list[float], std: list[float]
) -> str:
    """A hash of the weights in half precision (so that it does not depend on how they are stored)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if tensor.is_floating_point():
            digest.update(name.encode())
            digest.update(tensor.half().contiguous().numpy().tobytes())
    settings = [list(vision["levels"]), vision["image_size"], bool(vision["normalize"]), mean, std]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:20]
