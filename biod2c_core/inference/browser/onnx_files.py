"""Parts as ONNX files: traced, stored as small as exactness allows, and compared with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biod2c_core.errors import InputError, MissingDependencyError
from biod2c_core.inference.browser.parts import Part

TOLERANCE = 1e-4
_OPSET = 20
_SMALL = 1024  # numbers of a weight that is not worth halving
_MOST_BYTES = 2**31 - 1  # of one ONNX file


def check_installed() -> None:
    """Whether what writes and reads ONNX is installed.

    Raises:
        MissingDependencyError: It is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(error.name or "onnx", "onnx") from error


def write_part(part: Part, path: Path) -> float:
    """Write a part, and run it where torch's result is known.

    Args:
        part: What to write.
        path: A new file.

    Returns:
        The largest difference from torch.

    Raises:
        InputError: The part holds what ONNX cannot express, is too large for a file, or gives other
            numbers there than in torch.
    """
    import onnx

    model = _trace(part)
    _halve(model)
    if model.ByteSize() > _MOST_BYTES:
        raise InputError(
            f"the part {part.name!r} of the model is over 2 GB, the most that an ONNX file holds",
            "Export a smaller model.",
        )
    onnx.save(model, path)
    return _compare(part, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's reports of its own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _trace(part: Part) -> Any:
    """The part as an ``onnx.ModelProto``."""
    free = {name: {1: torch.export.Dim.DYNAMIC} for name in part.growing}
    shapes = tuple(free.get(name) for name in part.inputs)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                part.module.eval(),
                part.samples[0],
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=part.inputs,
                output_names=part.outputs,
                opset_version=_OPSET,
                verbose=False,
            )
    except Exception as error:  # of any kind: the exporter walks through the whole model
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the part {part.name!r} of the model cannot be written as ONNX ({reason})",
            "Models with the paper's architecture and a Llama can.",
        ) from error
    assert program is not None
    return program.model_proto


def _halve(model: Any) -> None:
    """Store in float16 each weight that it holds exactly; what is computed stays in float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < _SMALL or not np.array_equal(half.astype(np.float32), values):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@torch.no_grad()
def _compare(part: Part, path: Path) -> float:
    """The largest difference from torch over the samples, of an output's largest value where that is over 1.

    Raises:
        InputError: It is over the tolerance, or the part does not run.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        largest = 0.0
        for sample in part.samples:
            feeds = {n: v.numpy() for n, v in zip(part.inputs, sample, strict=True)}
            wanted = part.module(*sample)
            wanted = wanted if isinstance(wanted, tuple) else (wanted,)
            for found, right in zip(session.run(part.outputs, feeds), wanted, strict=True):
                scale = max(1.0, float(right.abs().max()))  # float32 has seven digits of it
                largest = max(largest, float(np.abs(found - right.numpy()).max()) / scale)
    except Exception as error:  # the runtime's own kinds
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the part {part.name!r} of the model does not run as ONNX ({reason})",
            "Models with the paper's architecture and a Llama do.",
        ) from error
    if not largest <= TOLERANCE:
        raise InputError(
            f"the part {part.name!r} of the model differs by {largest:.2g} as ONNX, over {TOLERANCE:g}",
            "This model cannot be asked in a browser; use 'biod2c serve'.",
        )
    return largest
