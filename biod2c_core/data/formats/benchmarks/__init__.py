"""Benchmarks of the field in the layout in which each is published, one file each."""

from __future__ import annotations

from biod2c_core.data.formats.benchmarks import (
    medxpertqa,
    mmmu,
    omnimedvqa,
    probmed,
    vlmevalkit,
    vqa_med,
)

BENCHMARKS = (
    vqa_med.FORMAT,
    omnimedvqa.FORMAT,
    medxpertqa.FORMAT,
    probmed.FORMAT,
    mmmu.FORMAT,
    vlmevalkit.FORMAT,
)
