"""BioD2C in Python: ask about images, see where the model looks, measure it.

    import biod2c

    model = biod2c.load()
    print(model.ask("examples/chest_xray.jpg", "What imaging modality is this?"))

Importing this package is cheap: torch and transformers are loaded by what needs them. It also makes
transformers' Auto classes know BioD2C, whenever they are imported. See ``docs/python.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import biod2c_core  # noqa: F401 (makes torchvision importable beside a CPU torch)
from biod2c import auto_classes

if TYPE_CHECKING:
    from biod2c.evaluation import evaluate as evaluate
    from biod2c_core.data.formats import read_records as read_records
    from biod2c_core.data.records import Record as Record
    from biod2c_core.data.records import write_records as write_records
    from biod2c_core.errors import BioD2CError as BioD2CError
    from biod2c_core.inference.image_choice import ImageChoice as ImageChoice
    from biod2c_core.inference.questions import Reply as Reply
    from biod2c_core.inference.volumes.ask import Whole as Whole
    from biod2c_core.inference.vqa_model import VQAModel as VQAModel
    from biod2c_core.inference.vqa_model import load as load

    __version__: str

_MODULES = {
    "BioD2CError": "biod2c_core.errors",
    "ImageChoice": "biod2c_core.inference.image_choice",
    "Record": "biod2c_core.data.records",
    "Reply": "biod2c_core.inference.questions",
    "VQAModel": "biod2c_core.inference.vqa_model",
    "Whole": "biod2c_core.inference.volumes.ask",
    "__version__": "biod2c_core",
    "evaluate": "biod2c.evaluation",
    "load": "biod2c_core.inference.vqa_model",
    "read_records": "biod2c_core.data.formats",
    "write_records": "biod2c_core.data.records",
}
__all__ = [
    "BioD2CError",
    "ImageChoice",
    "Record",
    "Reply",
    "VQAModel",
    "Whole",
    "__version__",
    "evaluate",
    "load",
    "read_records",
    "write_records",
]

auto_classes.register()


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
