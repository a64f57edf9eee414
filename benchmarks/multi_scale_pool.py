"""Multi-scale pooling (MFE) against the other ways to write it: time, memory, bytes.

    python benchmarks/multi_scale_pool.py [--device cpu|cuda] [--json FILE]

Every way is first held to the float64 definition, values and gradients; if one is off, nothing of
its setting is timed and the exit status is 1. The candidates then take turns, round by round.

CPU: process time of one thread, buffers at hand (``mallopt`` keeps freed memory in the process: page
faults of a fresh 43 MiB result otherwise dominate every candidate but the slowest).
CUDA: events around each run, the L2 cache flushed before it. Bytes are counted against a device copy
of the map, timed in the same rounds: the floor is the time that copy's bandwidth needs for reading
the map once and writing the result once (forward), or for reading the map and the gradient of the
result and writing the gradient of the map (backward).
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from biod2c_core.atomic import write_json
from biod2c_core.ops.multi_scale_pool import count_blocks, multi_scale_pool

Pool = Callable[[Tensor], Tensor]
Run = Callable[[], tuple[float, float]]
BASELINE = "cascaded pool2d"
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


# The ways to write it; (B, N, N, D) -> (B, M, D), N a power of two ---------------------------------


def cascaded(features: Tensor, scales: int) -> Tensor:
    """Pooling layers of 2 x 2 on the NCHW view, each coarser scale from the finer one."""
    maximum = mean = features.permute(0, 3, 1, 2)
    pooled = [maximum + mean]
    for _ in range(scales - 1):
        maximum, mean = F.max_pool2d(maximum, 2), F.avg_pool2d(mean, 2)
        pooled.append(maximum + mean)
    return torch.cat([part.permute(0, 2, 3, 1).flatten(1, 2) for part in pooled[::-1]], dim=1)


def naive_loop(features: Tensor, scales: int) -> Tensor:
    """Each block is cut out and pooled on its own."""
    cells = features.shape[1]
    pooled = []
    for scale in range(scales):
        side = cells // 2**scale
        for top in range(0, cells, side):
            for left in range(0, cells, side):
                block = features[:, top : top + side, left : left + side]
                pooled.append(block.amax(dim=(1, 2)) + block.mean(dim=(1, 2)))
    return torch.stack(pooled, dim=1)


def adaptive_pools(features: Tensor, scales: int) -> Tensor:
    """Two adaptive pooling calls a scale, on the NCHW view of the map."""
    planes = features.permute(0, 3, 1, 2)
    sides = [2**scale for scale in range(scales)]
    pooled = [F.adaptive_max_pool2d(planes, k) + F.adaptive_avg_pool2d(planes, k) for k in sides]
    return torch.cat([part.flatten(2) for part in pooled], dim=2).transpose(1, 2)


def reshaped(features: Tensor, scales: int) -> Tensor:
    """One reduction over a reshaped map for the maximum and one for the mean, for each scale."""
    images, cells, _, channels = features.shape
    pooled = []
    for scale in range(scales):
        k = 2**scale
        blocks = features.reshape(images, k, cells // k, k, cells // k, channels)
        pooled.append((blocks.amax(dim=(2, 4)) + blocks.mean(dim=(2, 4))).flatten(1, 2))
    return torch.cat(pooled, dim=1)


@dataclass(frozen=True)
class Setting:
    """What is pooled."""

    batch: int
    cells: int
    channels: int
    scales: int
    dtype: torch.dtype
    layout: str
    device: str

    def features(self) -> Tensor:
        """A unit-normal (B, N, N, D) map, channels (NHWC) or columns (NCHW) contiguous."""
        torch.manual_seed(0)
        shape = (self.batch, self.cells, self.cells, self.channels)
        values = torch.randn(shape).to(self.device, self.dtype)
        if self.layout == "NCHW":
            values = values.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        return values

    def grad(self) -> Tensor:
        """A gradient of the result."""
        return torch.randn_like(self.result())

    def result(self) -> Tensor:
        """An uninitialized result."""
        shape = (self.batch, count_blocks(self.scales), self.channels)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


def forward_candidates(setting: Setting) -> dict[str, Pool]:
    """All ways to run the forward pass, without a gradient."""
    scales, out = setting.scales, setting.result()
    by_layers, by_reshape = (torch.compile(way, dynamic=False) for way in (cascaded, reshaped))
    if setting.device == "cpu":
        best, ours = "biod2c compiled", torch.compile(multi_scale_pool, dynamic=False)
    else:
        best, ours = "biod2c triton", partial(multi_scale_pool, backend="triton")
    return {
        BASELINE: lambda x: cascaded(x, scales),
        f"{BASELINE}, compiled": lambda x: by_layers(x, scales),
        "naive loop": lambda x: naive_loop(x, scales),
        "12 adaptive pools": lambda x: adaptive_pools(x, scales),
        "reshape": lambda x: reshaped(x, scales),
        "reshape, compiled": lambda x: by_reshape(x, scales),
        "biod2c pyramid": lambda x: multi_scale_pool(x, scales, backend="cpu"),
        "biod2c pyramid, out=": lambda x: multi_scale_pool(x, scales, backend="cpu", out=out),
        best: lambda x: ours(x, scales),
        f"{best}, out=": lambda x: ours(x, scales, out=out),
    }


def training_candidates(setting: Setting) -> dict[str, Pool]:
    """All ways that have a gradient."""
    return {n: pool for n, pool in forward_candidates(setting).items() if not n.endswith("out=")}


# The gate ------------------------------------------------------------------------------------------


def sample(tensor: Tensor) -> Tensor:
    """The first and the last image, every eighth channel: blocks of others do not enter theirs."""
    return tensor[:: max(1, len(tensor) - 1), ..., ::8]


def mistakes(setting: Setting) -> list[str]:
    """Hold every candidate to the float64 definition, values and gradients, on a `sample`.

    The loop runs on the sample alone: the gradient of all would take it minutes. A half-precision
    map has ties, whose gradient only this project's operator shares evenly; the gradients of the
    others are checked in float32.
    """
    features, grad = setting.features(), setting.grad()
    exact = sample(features).double().requires_grad_()
    expected = multi_scale_pool(exact, setting.scales, backend="reference")
    (wanted,) = torch.autograd.grad(expected, exact, sample(grad).double())
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, pool in forward_candidates(setting).items():
        with torch.no_grad():
            pooled = sample(pool(features)).clone()
        found[name] = (pooled, expected.detach())
    for name, pool in training_candidates(setting).items():
        if name.startswith("biod2c") or setting.dtype == torch.float32:
            small = "loop" in name
            leaf = (sample(features) if small else features).detach().requires_grad_()
            pooled = pool(leaf)
            (gradient,) = torch.autograd.grad(pooled, leaf, sample(grad) if small else grad)
            found[f"{name}, gradient"] = (gradient if small else sample(gradient), wanted)
    tolerance = TOLERANCE[setting.dtype]
    return [
        f"{name}: off by up to {float((value - right).abs().max()):.2g}"
        for name, (value, right) in found.items()
        if not torch.allclose(value.double(), right, atol=tolerance, rtol=tolerance)
    ]


# Time and memory -----------------------------------------------------------------------------------


class CpuMeter:
    """Process time, and the peak of resident memory that the kernel keeps."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL("libc.so.6")
        self._libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        self._libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD

    def seconds(self, run: Callable[[], object]) -> float:
        """Process time of one run."""
        start = time.process_time()
        run()
        return time.process_time() - start

    def extra_bytes(self, run: Callable[[], object]) -> int:
        """How far one run raises resident memory at its peak, its result included."""
        self._libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = self._status("VmRSS")
        result = run()
        peak = self._status("VmHWM")
        del result
        return peak - before

    @staticmethod
    def _status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


class CudaMeter:
    """Events on the stream after a flush of the L2 cache, and the allocator's peak."""

    def __init__(self) -> None:
        self._flush = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")

    def seconds(self, run: Callable[[], object]) -> float:
        """Device time of one run with a cold cache."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000

    def extra_bytes(self, run: Callable[[], object]) -> int:
        """How far one run raises allocated memory at its peak, its result included."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
        del result
        return peak - before


@dataclass(frozen=True)
class Timing:
    """What one candidate took; floors are the times a copy's bandwidth needs, of the same run."""

    name: str
    per_floor: float  # forward and backward together
    forward_ms: float
    forward_per_floor: float
    backward_ms: float
    backward_per_floor: float
    speedup: float  # over the baseline, forward and backward together
    extra_per_result: float


def make_run(
    meter: CpuMeter | CudaMeter, pool: Pool, features: Tensor, grad: Tensor | None = None
) -> Run:
    """Times one forward pass, and one backward pass if there is a gradient to start from."""

    def run() -> tuple[float, float]:
        kept: list[Tensor] = []
        with torch.set_grad_enabled(grad is not None):
            forward = meter.seconds(lambda: kept.append(pool(features)))
            if grad is None:
                return forward, 0.0
            return forward, meter.seconds(lambda: torch.autograd.grad(kept[0], features, grad))

    return run


def alternate(runs: dict[str, Run], rounds: int, budget: float) -> dict[str, tuple[float, ...]]:
    """Median seconds, forward and backward, of candidates that take turns.

    A candidate that has used up its budget of seconds sits out the rounds that remain.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for name, run in runs.items():
        if "loop" not in name:
            run()  # warm: caches filled, kernels compiled, memory at hand
    for _ in range(rounds):
        for name, run in runs.items():
            if sum(map(sum, taken[name])) < budget:
                taken[name].append(run())
    return {
        name: tuple(map(statistics.median, zip(*times, strict=True)))
        for name, times in taken.items()
    }


def measure(
    setting: Setting, meter: CpuMeter | CudaMeter, training: bool, rounds: int, budget: float
) -> list[Timing]:
    """One table: all candidates in one setting, with or without the backward pass."""
    features, grad = setting.features().requires_grad_(training), setting.grad()
    candidates = training_candidates(setting) if training else forward_candidates(setting)
    target, kept = torch.empty_like(features), grad if training else None
    runs = {name: make_run(meter, pool, features, kept) for name, pool in candidates.items()}
    runs["copy"] = make_run(meter, target.copy_, features.detach())
    seconds = alternate(runs, rounds, budget)
    map_bytes, result_bytes = (t.numel() * t.element_size() for t in (features, grad))
    per_byte = seconds.pop("copy")[0] / (2 * map_bytes)
    floors = [per_byte * (maps * map_bytes + result_bytes) for maps in (1, 2)]
    return [
        Timing(
            name=name,
            per_floor=(forward + backward) / (floors[0] + training * floors[1]),
            forward_ms=forward * 1e3,
            forward_per_floor=forward / floors[0],
            backward_ms=backward * 1e3,
            backward_per_floor=backward / floors[1],
            speedup=sum(seconds[BASELINE]) / (forward + backward),
            extra_per_result=meter.extra_bytes(runs[name]) / result_bytes,
        )
        for name, (forward, backward) in seconds.items()
    ]


# The report ----------------------------------------------------------------------------------------


def machine(device: str) -> dict[str, object]:
    """What the numbers were taken on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else model,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def table(rows: list[Timing], training: bool) -> str:
    """Markdown; "x floor" is the time over what a copy's bandwidth needs."""
    heads = ["candidate", "x floor", *(["forward / backward"] if training else []), "ms"]
    heads += [f"against {BASELINE}", "extra peak memory / result"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" + " ---: |" * (len(heads) - 1)]
    for row in rows:
        each = f"{row.forward_per_floor:.1f} / {row.backward_per_floor:.1f}"
        cells = [row.name, f"{row.per_floor:.2f}", *([each] if training else [])]
        cells += [f"{row.forward_ms + row.backward_ms:.1f}", f"{row.speedup:.2f}x"]
        lines.append("| " + " | ".join([*cells, f"{row.extra_per_result:.2f}"]) + " |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, modes = parser.add_argument, ("forward", "training")
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch", type=int, help="B; 8 on a CPU, 32 on a GPU")
    add("--cells", type=int, default=32, help="N, a power of two")
    add("--channels", type=int, default=1024, help="D")
    add("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    add("--layouts", nargs="+", choices=("NHWC", "NCHW"), default=["NHWC", "NCHW"])
    add("--modes", nargs="+", choices=modes, default=modes)
    add("--rounds", type=int, default=15)
    add("--budget", type=float, default=60, help="seconds for one candidate in one table")
    add("--json", type=Path, help="write all figures here")
    return parser.parse_args()


def main() -> int:
    """Gate, measure, report."""
    options = parse_arguments()
    if options.device == "cpu":
        torch.set_num_threads(1)
    meter = CpuMeter() if options.device == "cpu" else CudaMeter()
    batch = options.batch or (8 if options.device == "cpu" else 32)
    sizes = {"batch": batch, "cells": options.cells, "channels": options.channels}
    kinds = {"scales": options.cells.bit_length(), "device": options.device}
    report: list[dict[str, object]] = []
    for dtype, layout in itertools.product(options.dtypes, options.layouts):
        torch.compiler.reset()
        setting = Setting(**sizes, **kinds, dtype=getattr(torch, dtype), layout=layout)
        if wrong := mistakes(setting):
            print(f"red gate, nothing timed: {dtype} {layout}", *wrong, sep="\n", file=sys.stderr)
            return 1
        for mode in options.modes:
            training = mode == "training"
            rows = measure(setting, meter, training, options.rounds, options.budget)
            print(f"\n{mode}, {dtype}, {layout}, {sizes}\n\n{table(rows, training)}", flush=True)
            report += [{"mode": mode, "dtype": dtype, "layout": layout, **asdict(r)} for r in rows]
    if options.json:
        write_json(options.json, {"machine": machine(options.device), **sizes, "figures": report})
    print("\n" + json.dumps(machine(options.device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
