"""BioD2C: biomedical visual question answering with dual-level semantic consistency.

The folders follow the paper: ``data`` -> ``model`` -> ``training`` -> ``evaluation`` -> ``inference``;
see ``docs/architecture.md``. Importing this package is cheap: heavy libraries load where they are used.
"""

from importlib.metadata import PackageNotFoundError, version

from biod2c_core import torchvision_compat

try:
    __version__ = version("biod2c")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0.0.0"

torchvision_compat.install()
