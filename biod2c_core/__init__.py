"""BioD2C: biomedical visual question answering with dual-level semantic consistency.

The folders follow the paper: ``data`` -> ``model`` -> ``training`` -> ``evaluation`` -> ``inference``;
see ``docs/architecture.md``. Importing this package is cheap: heavy libraries load where they are used.
"""

import logging

from biod2c_core import torchvision_compat

torchvision_compat.install()
# where DeepSpeed is installed, other libraries import it, and it prints warnings among our data
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


def __getattr__(name: str) -> str:
    """``__version__``, looked up when it is asked for: reading package metadata takes a while."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("biod2c")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0.0.0"
