"""Makes transformers' Auto classes know BioD2C without importing transformers.

``AutoModelForImageTextToText.from_pretrained`` and its like look a model up in a registry, and only
code that imports torch can enter BioD2C there. So it is entered when somebody imports the registry: each
of transformers' three modules below, once its own code has run, imports the module of ours that adds to it.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType

_ENTERED_BY = {
    "transformers.models.auto.configuration_auto": "biod2c_core.model.configuration",
    "transformers.models.auto.modeling_auto": "biod2c_core.model.modeling",
    "transformers.models.auto.processing_auto": "biod2c_core.model.processing",
}


class _RegistryFinder(MetaPathFinder):
    """Finds the registries as the standard finder does, and adds to them once they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _ENTERED_BY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_enter(module: ModuleType) -> None:
            run(module)
            import_module(_ENTERED_BY[fullname])

        spec.loader.exec_module = run_and_enter  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Enter BioD2C in the registries that are loaded, and in the others once they are."""
    if not any(isinstance(finder, _RegistryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistryFinder())
    for registry, module in _ENTERED_BY.items():
        if registry in sys.modules:
            import_module(module)
