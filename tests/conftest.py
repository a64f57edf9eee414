"""Shared fixtures: where the real data is, and what skips visibly without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import biod2c_core  # noqa: F401 (first of all: makes torchvision importable beside a CPU torch)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network by accident
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, so that a red run means a change; new ones are drawn by
# `pytest --hypothesis-profile=explore`.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("fixed")

REPOSITORY = Path(__file__).resolve().parent.parent


def _data_root() -> Path:
    return Path(os.environ.get("BIOD2C_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets."""
    return _data_root()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason."""
    import torch

    missing = {}
    if not _data_root().is_dir():
        missing["real_data"] = f"no real data at {_data_root()}; set BIOD2C_DATA"
    if not torch.cuda.is_available():
        missing["gpu"] = "no CUDA device"
    if not os.environ.get("BIOD2C_NETWORK"):
        missing["network"] = "set BIOD2C_NETWORK=1 to reach the internet"
    if not os.environ.get("BIOD2C_SLOW"):
        missing["slow"] = "takes longer than ten seconds; set BIOD2C_SLOW=1, as CI does"
    for item in items:
        for marker, reason in missing.items():
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
