"""The Triton kernels: compiled ahead of time for a Hopper GPU, interpreted, and on a GPU at hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from pool_cases import KINDS, LAYOUTS, assert_matches_definition, lay_out, make_map

from biod2c_core.ops.multi_scale_pool import multi_scale_pool

pytest.importorskip("triton", reason="triton is not installed (extra gpu-dev)")

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from biod2c_core.ops.multi_scale_pool import triton_op

HOPPER = GPUTarget("cuda", 90, 32)
INTERPRETED = Path(__file__).with_name("test_pool_triton_interpreted.py")
interpreting = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="kernels are interpreted, not compiled"
)


class HopperDriver:
    """A driver that can be asked what to compile for, and cannot run anything."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return HOPPER


class Compiling:
    """Stands for a kernel: a launch compiles it for exactly those arguments and goes no further."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.compiled: list[Any] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            self.compiled.append(self.kernel.warmup(*args, grid=grid, **options))

        return launch


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> tuple[Compiling, Compiling]:
    """The two kernels, compiled for Hopper where the operator launches them."""
    forward = Compiling(triton_op.pool_kernel)
    backward = Compiling(triton_op.pool_backward_kernel)
    monkeypatch.setattr(triton_op, "pool_kernel", forward)
    monkeypatch.setattr(triton_op, "pool_backward_kernel", backward)
    monkeypatch.setattr(driver, "_active", HopperDriver())  # its reset wants a GPU
    return forward, backward


def resources(compiled: Any) -> dict[str, int]:
    """Registers and bytes of stack and local memory a thread of a compiled kernel uses."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tools / "cuobjdump"), "-res-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}


@interpreting
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("layout", "cells"), [("channels last", 32), ("planes", 32), ("planes", 14)]
)
def test_kernels_compile_for_hopper_without_spills(
    kernels: tuple[Compiling, Compiling], layout: str, cells: int, dtype: torch.dtype
) -> None:
    features = lay_out(torch.empty(32, cells, cells, 1024, dtype=dtype, device="meta"), layout)
    scales = cells.bit_length()
    shape = (32, (4**scales - 1) // 3, 1024)
    pooled = torch.empty(shape, dtype=dtype, device="meta")
    roots = triton_op._launch_pool(features, scales, pooled, keep=True)
    triton_op._launch_backward(pooled, features, roots, scales)
    passes = len(triton_op.launch_plans(features, scales))
    for kernel in kernels:
        assert len(kernel.compiled) == passes
        for compiled in kernel.compiled:
            used = resources(compiled)
            assert used["STACK"] == used["LOCAL"] == 0, used
            assert 0 < used["REG"] <= 255


@interpreting
def test_no_thread_hands_cells_to_another(kernels: tuple[Compiling, Compiling]) -> None:
    """Channels contiguous: the tree is worked through in each thread's own registers."""
    features = torch.empty(8, 8, 8, 1024, dtype=torch.bfloat16, device="meta")
    pooled = torch.empty(8, 85, 1024, dtype=torch.bfloat16, device="meta")
    triton_op._launch_pool(features, 4, pooled, keep=False)
    (compiled,) = kernels[0].compiled
    assert "ld.global" in compiled.asm["ptx"]
    assert "shfl" not in compiled.asm["ptx"]
    assert "shared" not in compiled.asm["ptx"].split("{", 1)[1]


@interpreting
def test_kernels_are_right_in_the_interpreter() -> None:
    """Interpretation is chosen when triton is imported, hence another process."""
    options = [
        "-x",
        "--noconftest",
        "-o",
        "addopts=",
    ]  # with a summary line, whatever the project's
    command = [sys.executable, "-m", "pytest", *options, str(INTERPRETED)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d\d passed", done.stdout), done.stdout
    assert "skipped" not in done.stdout, done.stdout


def on_gpu(features: torch.Tensor, scales: int) -> torch.Tensor:
    return multi_scale_pool(features, scales, backend="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 9), (24, 24), (32, 32), (40, 64)])
def test_kernels_are_right_on_a_gpu(size: tuple[int, int], layout: str, dtype: torch.dtype) -> None:
    for kind in KINDS:
        features = make_map((3, *size, 200), kind, dtype).cuda()
        scales = min(size).bit_length()
        assert_matches_definition(on_gpu, lay_out(features, layout), scales)


@pytest.mark.gpu
def test_auto_is_triton_on_a_gpu_and_compiles_into_one_graph() -> None:
    features = make_map((4, 32, 32, 256), "relu").cuda()
    compiled = torch.compile(multi_scale_pool, fullgraph=True)
    assert torch.equal(multi_scale_pool(features, 6), on_gpu(features, 6))
    assert torch.equal(compiled(features, 6), on_gpu(features, 6))
    out = torch.empty_like(on_gpu(features, 6))
    assert torch.equal(multi_scale_pool(features, 6, out=out), on_gpu(features, 6))
