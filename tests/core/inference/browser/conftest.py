"""The tiny model of ``exported.py`` as a fixture."""

from exported import exported

__all__ = ["exported"]
