"""The scripts of a recipe import each other by their bare names, as when they are run."""

from __future__ import annotations

import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
sys.path.insert(0, str(RECIPES / "tiny"))
