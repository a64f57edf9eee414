"""The pyramid against the definition: sizes, layouts, ties, special values, and its contract."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_cases import KINDS, LAYOUTS, assert_matches_definition, lay_out, make_map

from biod2c_core.errors import InputError
from biod2c_core.ops.multi_scale_pool import cpu, dispatch, multi_scale_pool, resolve_scales


def pyramid(features: torch.Tensor, scales: int) -> torch.Tensor:
    return multi_scale_pool(features, scales, backend="cpu")


@pytest.mark.parametrize("cells", range(1, 41))
def test_every_size_up_to_forty(cells: int) -> None:
    torch.manual_seed(cells)
    features = make_map((1, cells, cells, 3), "normal")
    assert_matches_definition(pyramid, features, resolve_scales("auto", cells, cells))


@st.composite
def maps(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    if draw(st.booleans()):
        height, width = width, height
    shape = (draw(st.integers(0, 3)), height, width, draw(st.integers(1, 5)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
    values = make_map(shape, draw(st.sampled_from(KINDS)), dtype)
    scales = draw(st.integers(1, resolve_scales("auto", height, width)))
    return lay_out(values, draw(st.sampled_from(LAYOUTS))), scales


@settings(max_examples=120)
@given(maps())
def test_any_map(case: tuple[torch.Tensor, int]) -> None:
    assert_matches_definition(pyramid, *case)


@pytest.mark.parametrize("kind", KINDS)
def test_the_paper_setting(kind: str) -> None:
    torch.manual_seed(0)
    assert_matches_definition(pyramid, make_map((2, 32, 32, 5), kind), 6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_of_images(layout: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CHUNK_BYTES", 8 * 16 * 11 * 4 * 2 // torch.get_num_threads())
    sizes: list[int] = []
    features = lay_out(make_map((5, 8, 16, 11), "relu", dtype), layout)
    cpu._in_chunks(lambda chunk: sizes.append(len(chunk)), features)
    assert sizes == [2, 2, 1]
    assert_matches_definition(pyramid, features, 4)


def test_gradcheck() -> None:
    values = torch.randperm(2 * 6 * 7 * 2).double().view(2, 6, 7, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pyramid(x, 3), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_out_is_filled_and_returned(layout: str, dtype: torch.dtype) -> None:
    features = lay_out(make_map((2, 7, 9, 4), "normal", dtype), layout)
    room = torch.full((2, 23, 6), float("nan"), dtype=dtype)
    out = room[:, 1:-1, 1:-1]  # no place of its own: strides of the buffer around it
    for backend in ("cpu", "reference", "auto"):
        out.fill_(float("nan"))
        assert multi_scale_pool(features, 3, backend=backend, out=out) is out
        assert torch.equal(out, multi_scale_pool(features, 3, backend=backend))
    assert room[:, 0].isnan().all()
    assert room[:, :, -1].isnan().all()


def test_the_gradient_keeps_the_strides_of_the_map() -> None:
    features = lay_out(make_map((2, 8, 8, 6), "normal"), "planes").requires_grad_()
    (gradient,) = torch.autograd.grad(pyramid(features, 3).sum(), features)
    assert gradient.stride() == features.stride()


def test_the_map_is_left_as_it_was() -> None:
    features = make_map((2, 8, 8, 4), "normal")
    before = features.clone()
    pyramid(features, 4)
    pyramid(features.requires_grad_(), 4).sum().backward()
    assert torch.equal(features, before)


def test_a_second_derivative_is_refused_not_wrong() -> None:
    features = make_map((1, 4, 4, 1), "normal").requires_grad_()
    (gradient,) = torch.autograd.grad(
        pyramid(features, 2).pow(2).sum(), features, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("features", "scales", "options", "words"),
    [
        (torch.zeros(7, 9, 3), 1, {}, ["4 dimensions", "3: (7, 9, 3)"]),
        (torch.zeros(1, 7, 9, 3), 4, {}, ["scales=4", "8 x 8", "7 x 9"]),
        (torch.zeros(1, 7, 9, 3, dtype=torch.int64), 1, {}, ["int64"]),
        (torch.zeros(1, 7, 9, 3, dtype=torch.complex64), 1, {}, ["complex64"]),
        (torch.zeros(1, 0, 9, 3), 1, {}, ["0 x 9"]),
        (torch.zeros(1, 7, 9, 3), 1, {"backend": "gpu"}, ["'gpu'", "triton"]),
        (torch.zeros(1, 7, 9, 3), 2, {"out": torch.zeros(1, 4, 3)}, ["(1, 5, 3)", "(1, 4, 3)"]),
        (torch.zeros(1, 7, 9, 3), 1, {"out": torch.zeros(1, 1, 3).half()}, ["float32", "float16"]),
        (torch.zeros(1, 7, 9, 3), 1, {"out": torch.zeros(1, 1, 3, device="meta")}, ["cpu", "meta"]),
        (
            torch.zeros(1, 7, 9, 3, requires_grad=True),
            1,
            {"out": torch.zeros(1, 1, 3)},
            ["gradient"],
        ),
    ],
)
def test_bad_input_is_named(
    features: torch.Tensor, scales: int, options: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        multi_scale_pool(features, scales, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    for word in words:
        assert word in str(caught.value)


def test_auto_is_the_pyramid_on_the_cpu() -> None:
    features = make_map((2, 9, 9, 3), "normal")
    assert torch.equal(multi_scale_pool(features, "auto"), pyramid(features, 4))


def test_explicit_triton_on_the_cpu_raises_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = "needs a GPU" if dispatch.TRITON_INSTALLED else "not installed"
    with pytest.raises(InputError, match=reason):
        multi_scale_pool(torch.zeros(1, 4, 4, 2), 2, backend="triton")


def test_auto_logs_once_why_triton_does_not_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    dispatch._log_once.cache_clear()
    for _ in range(3):
        pooled = multi_scale_pool(torch.zeros(1, 4, 4, 2, device="meta"), 2)
    assert pooled.shape == (1, 5, 2)
    assert [record.message for record in caplog.records] == [
        "multi_scale_pool runs on torch ops, not on Triton: the package triton is not installed"
    ]


def test_importing_the_operator_does_not_import_triton() -> None:
    code = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "import biod2c_core.ops, biod2c_core.ops.multi_scale_pool\n"
        "assert before or 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
