"""The tiny random models and data of ``tests/tiny_models.py`` as fixtures."""

from tiny_models import checkpoint, data, llama, volume

__all__ = ["checkpoint", "data", "llama", "volume"]
