"""The tiny random models and data of ``tests/tiny_models.py`` as fixtures; no test is timed."""

from hypothesis import settings
from tiny_models import checkpoint, data, llama

__all__ = ["checkpoint", "data", "llama"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
