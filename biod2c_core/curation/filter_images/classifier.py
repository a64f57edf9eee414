"""The paper's classifier: an MLP head on the frozen encoder's vector and the layout of the figure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.curation.filter_images.layout import FEATURES
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.foreign import read_json

EMBEDDED = Path(__file__).resolve().parents[2] / "assets" / "image-filter"
CONFIG, WEIGHTS = "filter.json", "head.safetensors"
LAYOUT_VERSION = 2  # raise it when layout.py measures differently
_CLIP = 6.0  # standard deviations
# Features are blurred, and images mixed in pairs: sources are few, and a head that fits each of them
# exactly misjudges the next.
_NOISE = 0.2  # standard deviations
_MIXING = 0.4  # of the Beta distribution that the shares of a pair are drawn from


class Head(nn.Module):
    """Standardised features to the logit of "polluted".

    Args:
        width: Features of an image.
        hidden: Units of the hidden layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.3), nn.Linear(hidden, 1)
        )

    def standardize(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, width), of mean 0 and deviation 1 on the training images."""
        return ((features - self.mean) * self.scale).clamp(-_CLIP, _CLIP)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B,)."""
        return self.layers(self.standardize(features)).squeeze(1)


class ImageFilter:
    """A trained head and the encoder it belongs to.

    Args:
        head: The MLP.
        encoder: Identity of the encoder whose vectors it was trained on.
        about: Facts for people, kept in ``filter.json``.
    """

    def __init__(self, head: Head, encoder: str, about: dict[str, Any] | None = None) -> None:
        self.head = head.eval()
        self.encoder = encoder
        self.about = about or {}

    @property
    def identity(self) -> str:
        """Equal only for equal weights."""
        state = {name: tensor.half() for name, tensor in self.head.state_dict().items()}
        return hashlib.sha256(serialize(state)).hexdigest()[:20]

    @torch.no_grad()
    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of being polluted: (B, width) float32 -> (B,) float64."""
        return torch.sigmoid(self.head(torch.from_numpy(features)).double()).numpy()

    def save(self, folder: Path) -> None:
        """Write the head (float16 is enough) and its configuration."""
        # A kill between the two files must not leave a head with the configuration of another.
        (folder / CONFIG).unlink(missing_ok=True)
        state = {name: tensor.half() for name, tensor in self.head.state_dict().items()}
        with atomic_open(folder / WEIGHTS, "wb") as file:
            file.write(serialize(state))
        hidden, width = self.head.state_dict()["layers.0.weight"].shape
        config = {"width": width, "hidden": hidden, "layout": LAYOUT_VERSION}
        write_json(folder / CONFIG, {**config, "encoder": self.encoder, "about": self.about})

    @classmethod
    def load(cls, folder: Path | None, encoder: str) -> ImageFilter:
        """Read a head.

        Args:
            folder: Where ``fit`` wrote it, or None for the embedded one.
            encoder: Identity of the encoder in use.

        Raises:
            CheckpointError: It is missing or damaged, or was trained on another encoder.
        """
        place = folder or EMBEDDED
        if not (place / CONFIG).is_file():
            raise CheckpointError(
                f"no image filter at {place}",
                "Give a folder that 'biod2c filter-images fit' wrote, or none for the embedded one.",
            )
        try:
            config = read_json(place / CONFIG)
            wanted, layout = str(config["encoder"]), int(config["layout"])
            state = load_file(place / WEIGHTS)
            shape = (int(config["hidden"]), int(config["width"]))
            if shape != tuple(state["layers.0.weight"].shape):  # before a head of any size is built
                raise ValueError(
                    f"{WEIGHTS} has no head of {shape[1]} features and {shape[0]} units"
                )
            head = Head(shape[1], shape[0])
            head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except (
            OSError,
            ValueError,
            ArithmeticError,
            KeyError,
            TypeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise CheckpointError(
                f"the image filter in {place} is damaged ({' '.join(str(error).split())[:200]})",
                "Copy it again or run 'biod2c filter-images fit'.",
            ) from error
        if wanted != encoder or layout != LAYOUT_VERSION:
            raise CheckpointError(
                f"the image filter in {place} was trained on other features: encoder {wanted}, "
                f"layout {layout}; here are encoder {encoder}, layout {LAYOUT_VERSION}",
                "Use the encoder it was trained with (--encoder), or fit it again.",
            )
        return cls(head, wanted, config.get("about"))


def join_features(vectors: np.ndarray, layouts: Sequence[np.ndarray]) -> np.ndarray:
    """What the head reads: (B, D) and B times (FEATURES,) -> (B, D + FEATURES), float32."""
    return np.concatenate((vectors, np.stack(list(layouts))), axis=1, dtype=np.float32)


def train_head(
    features: np.ndarray,
    polluted: np.ndarray,
    *,
    seed: int = 0,
    hidden: int = 64,
    steps: int = 350,
) -> Head:
    """Train the MLP; both labels count the same however many there are of each.

    Every batch is mixed with itself in another order (mixup, Zhang et al. 2018).

    Args:
        features: (N, width), float32.
        polluted: (N,), bool.
        seed: Of weights, order and dropout.
        hidden: Units of the hidden layer.
        steps: Optimizer steps of at most 128 images.

    Raises:
        InputError: One of the labels is missing.
    """
    common = float(polluted.mean()) if len(polluted) else 0.0
    if not 0 < common < 1:
        raise InputError("all images have the same label", "Label some of both.")
    torch.manual_seed(seed)
    inputs, labels = torch.from_numpy(features), torch.from_numpy(polluted.astype(np.float32))
    head = Head(features.shape[1], hidden)
    spread, middle = torch.std_mean(inputs, dim=0)
    head.mean.copy_(middle)
    head.scale.copy_(1 / spread.clamp_min(1e-3))
    weights = torch.where(labels > 0, 0.5 / common, 0.5 / (1 - common))
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.02)
    inputs, batch = head.standardize(inputs), min(128, len(labels))
    mixing = torch.distributions.Beta(_MIXING, _MIXING)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    order = torch.empty(0, dtype=torch.long)
    head.train()
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(labels))
        chosen, order = order[:batch], order[batch:]
        share, other = mixing.sample(), chosen[torch.randperm(batch)]
        mixed, target, weight = (
            values[chosen].lerp(values[other], share) for values in (inputs, labels, weights)
        )
        mixed = mixed + _NOISE * torch.randn_like(mixed)
        loss = nn.functional.binary_cross_entropy_with_logits(
            head.layers(mixed).squeeze(1), target, weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def feature_width(encoder_width: int) -> int:
    """Length of what the head reads for an encoder's vectors."""
    return encoder_width + FEATURES
