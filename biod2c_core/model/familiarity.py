"""How familiar a picture is: how near it lies to pictures of training, as the trunk sees them.

Notation used for tensor shapes:

- B: batch, N: pictures of training that are kept, P: pictures, F: numbers a picture, twice the width of
  X_v, n: left-out pictures
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from biod2c_core.atomic import atomic_open
from biod2c_core.errors import CheckpointError, InputError

FILE = "familiarity.safetensors"
MOST_PICTURES = 700  # of training that are kept
LEAST_PICTURES = 20  # left-out ones that a share is made of
_MOST_BYTES = 64 * 2**20
_SAME = 1e-3  # a left-out picture that lies nearer than this to one of training is that picture
_REMEDY = "Remove it, and let 'biod2c calibrate' with --train make another."


@dataclass(frozen=True)
class Reference:
    """Pictures of training, and how far from them left-out pictures lie.

    Attributes:
        mean: Of the pictures of training, (F,), float32.
        deviation: Their standard deviation, (F,), float32, above 0.
        features: Standardized, of length 1, (N, F), float32.
        distances: Of left-out pictures, (n,), float32, rising.
    """

    mean: Tensor
    deviation: Tensor
    features: Tensor
    distances: Tensor

    @classmethod
    def fit(cls, trained: Tensor, left_out: Tensor) -> Reference:
        """Keep what is needed of pictures of training, and measure left-out ones by it.

        Args:
            trained: Summaries of pictures of training, (P, F).
            left_out: Summaries of pictures that training did not have, (n, F). Any that training had all
                the same is not counted.

        Raises:
            InputError: There are too few of either.
        """
        mean, deviation = trained.mean(0), trained.std(0, correction=0).clamp_min(1e-6)
        features = _restored(_rounded(_spread(_directions(trained, mean, deviation))))
        whole = cls(mean, deviation, features, torch.zeros(1))
        distances = whole.distance(left_out)
        distances = distances[distances > _SAME].sort().values
        if len(trained) < LEAST_PICTURES or len(distances) < LEAST_PICTURES:
            raise InputError(
                f"{len(trained)} pictures of training and {len(distances)} others are too few to tell "
                "how familiar a picture is",
                f"Give at least {LEAST_PICTURES} of each, in --train and among the held-out records.",
            )
        return cls(mean, deviation, features, distances)

    def distance(self, summary: Tensor) -> Tensor:
        """Cosine distance to the nearest picture of training, (B,), 0 to 2.

        Args:
            summary: Of :class:`~biod2c_core.model.fusion.ImageEncoding`, (B, F).
        """
        given = _directions(summary.float().cpu(), self.mean, self.deviation)
        nearest = (given @ self.features.T).amax(1)
        return (1 - nearest).nan_to_num(2.0).clamp(0, 2)

    def familiarity(self, summary: Tensor) -> list[float]:
        """The share of left-out pictures that lie farther from training, of each picture, 0 to 1.

        Args:
            summary: Of :class:`~biod2c_core.model.fusion.ImageEncoding`, (B, F).
        """
        count = len(self.distances)
        nearer = torch.searchsorted(self.distances, self.distance(summary), right=True)
        return [round(1 - int(each) / count, 4) for each in nearer]

    def save(self, folder: Path, identity: str) -> None:
        """Write it into the folder of a checkpoint, atomically.

        Args:
            folder: Of the checkpoint.
            identity: :func:`biod2c_core.model.checkpoints.folder.fingerprint` of it.
        """
        tensors = {**vars(self), "features": _rounded(self.features)}
        content = save(
            {name: value.contiguous() for name, value in tensors.items()}, {"weights": identity}
        )
        with atomic_open(folder / FILE, "wb") as file:
            file.write(content)


def _directions(summary: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return F.normalize((summary - mean) / deviation, dim=-1)


def _rounded(directions: Tensor) -> Tensor:
    """In a byte a number: which way a row points hardly changes, and its length is known."""
    largest = directions.abs().amax(1, keepdim=True).clamp_min(1e-6)
    return (127 * directions / largest).round().char()


def _restored(rounded: Tensor) -> Tensor:
    return F.normalize(rounded.float(), dim=-1)


def _spread(directions: Tensor) -> Tensor:
    """As many as are kept, each the farthest from those before: rare kinds are kept with common ones."""
    chosen = [0]
    farthest = 1 - directions @ directions[0]
    while len(chosen) < min(MOST_PICTURES, len(directions)):
        place = int(farthest.argmax())
        if farthest[place] <= _SAME:  # the rest are copies
            break
        chosen.append(place)
        farthest = torch.minimum(farthest, 1 - directions @ directions[place])
    return directions[chosen]


def load_reference(folder: Path, identity: str, width: int) -> Reference | None:
    """The reference of a checkpoint; None where there is none for these weights.

    Args:
        folder: Of the checkpoint.
        identity: :func:`biod2c_core.model.checkpoints.folder.fingerprint` of it.
        width: F of its model.

    Raises:
        CheckpointError: The file is damaged, or made to do harm.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, over the limit of {_MOST_BYTES:,}")
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("weights") != identity:
                return None
            return _checked({name: file.get_tensor(name) for name in file.keys()}, width)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be loaded ({reason})", _REMEDY) from error


def _checked(tensors: dict[str, Tensor], width: int) -> Reference:
    """A reference of these tensors.

    Raises:
        ValueError: They are not what :meth:`Reference.save` writes.
    """
    names = set(Reference.__dataclass_fields__)
    if set(tensors) != names:
        raise ValueError(
            f"its tensors are {', '.join(sorted(tensors)[:5])}; not {', '.join(names)}"
        )
    features, distances = tensors["features"], tensors["distances"]
    wanted = {
        "mean": (width,),
        "deviation": (width,),
        "features": (len(features) if features.dim() else 0, width),
        "distances": (distances.numel(),),
    }
    for name, shape in wanted.items():
        value = tensors[name]
        dtype = torch.int8 if name == "features" else torch.float32
        if tuple(value.shape) != shape or 0 in shape or value.dtype != dtype:
            raise ValueError(f"{name} is {tuple(value.shape)} {value.dtype}, not {shape} {dtype}")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")
    if tensors["deviation"].min() <= 0:
        raise ValueError("a deviation is not above 0")
    tensors |= {"features": _restored(features), "distances": distances.sort().values}
    return Reference(**tensors)
