"""Let a CPU build of torch live beside a torchvision that was linked against CUDA.

torchvision registers the schemas of its operators from a compiled library. Where that library cannot
be loaded (its CUDA dependencies are absent), ``import torchvision`` dies with "operator
torchvision::nms does not exist", and takes timm, open_clip and much of transformers with it, although
none of them calls that operator here. The finder below declares the two missing schemas just before
torchvision's own code runs, and only if its library really did not load; a call of ``nms`` still fails.
Nothing is imported until somebody imports torchvision.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []  # keeps the schemas registered for the life of the process


def _declare_missing_operators(package: Path) -> None:
    import torch

    for library in sorted(package.glob("_C*.so")):
        try:
            torch.ops.load_library(str(library))
            return
        except OSError:
            continue
    declared = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        declared.define(schema)
    _libraries.append(declared)


class _TorchvisionLoader(Loader):
    """torchvision's own loader, with the schemas declared first."""

    def __init__(self, loader: Loader, package: Path) -> None:
        self._loader = loader
        self._package = package

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Delegate to the wrapped loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Declare what is missing, then run torchvision's own code."""
        _declare_missing_operators(self._package)
        self._loader.exec_module(module)


class _TorchvisionFinder(MetaPathFinder):
    """Finds torchvision as the standard finder does and wraps only the loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.origin is None:
            return None
        spec.loader = _TorchvisionLoader(spec.loader, Path(spec.origin).parent)
        return spec


def install() -> None:
    """Put the finder in front, once. Costs nothing until torchvision is imported."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
