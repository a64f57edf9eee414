"""What BioD2C asks of a library of vision models; adding a library is writing one such class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from biod2c_core.errors import CheckpointError
from biod2c_core.model.checkpoints.downloads import download


@dataclass(frozen=True)
class Pretraining:
    """The images that a model was pretrained on.

    Attributes:
        image_size: Side of the square input, pixels.
        mean: Mean of the RGB channels, in [0, 1].
        std: Standard deviation of the RGB channels.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class VisionModel:
    """A model of a vision library, not built yet.

    Attributes:
        name: Its name in the library, ``model.vision.name``.
        definition: What to build it from, where the library does not know it by name; in the library's
            own form, as plain JSON: checkpoints keep it in ``config.json``.
        pretraining: What it was pretrained on; None where the library does not say.
        weights: Where its own weights are, as ``model.vision.weights`` names them; empty if nowhere.
    """

    name: str
    definition: dict[str, Any] | None = None
    pretraining: Pretraining | None = None
    weights: str = ""


class VisionLibrary(ABC):
    """A library of vision models, each of which can give feature maps of several levels.

    Levels are the stages of a convolutional network or the blocks of a transformer, counted from 0.
    Import the library itself inside the methods, so that only those who use it pay for it.

    Attributes:
        name: What ``model.vision.library`` calls it; checkpoints keep it.
    """

    name: ClassVar[str]

    @abstractmethod
    def find(self, name: str) -> VisionModel:
        """Look a model up without building it.

        Args:
            name: ``model.vision.name``.

        Raises:
            ConfigError: The library has no such model.
        """

    @abstractmethod
    def strides(self, model: VisionModel, image_size: int) -> list[int]:
        """The stride of each level the model has, in pixels of the input, level 0 first.

        ``model.vision.levels=auto`` chooses by it.

        Args:
            model: Which model.
            image_size: Side of the square input, pixels.

        Raises:
            ConfigError: The model cannot be built, or gives no feature map.
        """

    @abstractmethod
    def build_trunk(self, model: VisionModel, levels: Sequence[int], image_size: int) -> nn.Module:
        """The model with random weights, without what lies behind the last level.

        The names in its ``state_dict`` are those in checkpoints, so they must never change.

        Args:
            model: Which model; only ``name`` and ``definition`` are set when a checkpoint is loaded.
            levels: Ascending, without repeats.
            image_size: Side of the square input, pixels.

        Returns:
            A module whose ``forward`` takes images (B, 3, image_size, image_size) and returns a list of
            feature maps (B, C, h, w), one per level, in the order of ``levels``.

        Raises:
            ConfigError: The library has no such model, or the model has no such level.
        """

    @abstractmethod
    def uncut_names(self, model: VisionModel, image_size: int) -> set[str]:
        """Names of all tensors of the uncut model, as its pretrained weights name them.

        Args:
            model: Which model.
            image_size: Side of the square input, pixels.
        """

    def plain_name(self, name: str) -> str:
        """The name by which a tensor of the trunk and the same one of the uncut model are matched.

        This one drops ``model.`` in front, for trunks that keep the library's model in ``self.model``.

        Args:
            name: In the ``state_dict`` of the trunk or in pretrained weights.
        """
        while name.startswith("model."):
            name = name.removeprefix("model.")
        return name


def is_hub_folder(name: str) -> bool:
    """Whether it is ``local-dir:FOLDER`` or ``hf-hub:OWNER/MODEL``."""
    return name.startswith(("local-dir:", "hf-hub:"))


def hub_folder(name: str) -> Path | None:
    """The local folder behind ``local-dir:FOLDER`` or ``hf-hub:OWNER/MODEL``, else None.

    Raises:
        CheckpointError: The folder does not exist.
        InputError, EndpointError: As :func:`~biod2c_core.model.checkpoints.downloads.download`.
    """
    if not is_hub_folder(name):
        return None
    scheme, _, place = name.partition(":")
    if scheme == "hf-hub":
        return download(place, ("*.json", "*.safetensors", "*.bin"))
    if not Path(place).is_dir():
        raise CheckpointError(f"no folder at {place}", f"Check the path behind {scheme}:.")
    return Path(place)
