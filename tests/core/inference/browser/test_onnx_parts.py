"""The parts as ONNX: chained as the page chains them, they answer as torch does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from exported import Exported
from torch import Tensor, nn
from typer.testing import CliRunner

from biod2c_cli.app import app
from biod2c_core.errors import InputError, MissingDependencyError
from biod2c_core.inference.browser.export import export_onnx
from biod2c_core.inference.browser.onnx_files import write_part
from biod2c_core.inference.browser.parts import Part
from biod2c_core.model.generation import probability

for needed in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(needed, reason="ONNX needs the extra 'onnx'")


class Parts:
    """The files of a folder, run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = json.loads((folder / "settings.json").read_text("utf-8"))

    def run(self, name: str, **given: np.ndarray) -> dict[str, np.ndarray]:
        import onnxruntime

        session = onnxruntime.InferenceSession(self.folder / f"{name}.onnx")
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(names, given), strict=True))

    def answer(self, pixels: Tensor, prompt: list[int], question: list[int]) -> tuple[Any, ...]:
        """Ids, probability, and the picture's distance from those of training."""
        known = self.run("image", pixel_values=pixels[None].numpy())
        distance = known.pop("distance")
        seen = self.run("question", question_ids=np.array([question]), **known)
        ids: list[int] = []
        log_p = 0.0
        while len(ids) < self.settings["answer_tokens"] and ids[-1:] != self.settings["ends"]:
            said = np.array([ids], np.int64).reshape(1, -1)
            result = self.run("token", prompt_ids=np.array([prompt]), answer_ids=said, **seen)
            ids.append(int(result["log_p"].argmax()))
            log_p += float(result["log_p"][0, ids[-1]])
        return tuple(ids), probability(log_p), distance


def test_the_parts_answer_as_the_model(exported: Exported) -> None:
    parts, answerer = Parts(exported.folder), exported.model.answerer
    processor = answerer.processor
    assert answerer.reference is not None
    several = set()
    for index, question in enumerate(tiny_models.QUESTIONS):
        image = tiny_models.make_image(index)
        (wanted,) = answerer.answer([image], [question])
        ids, confidence, distance = parts.answer(
            processor.pixels(image),
            processor.prompt_ids(question),
            processor.question_ids(question),
        )
        assert ids == wanted.ids
        assert confidence == pytest.approx(wanted.confidence, rel=1e-3)
        encoding = answerer.encode([image])
        assert distance == pytest.approx(answerer.reference.distance(encoding.summary), abs=1e-4)
        several.add(ids)
    assert len(several) > 1
    assert max(parts.settings["differences"].values()) <= 1e-4


def test_weights_are_stored_as_small_as_they_are_exact(exported: Exported) -> None:
    import onnx

    weights = onnx.load(exported.folder / "token.onnx").graph.initializer
    large = {each.data_type for each in weights if np.prod(each.dims) > 2000}
    assert large == {onnx.TensorProto.FLOAT16}


class Doubled(nn.Module):
    """Gives other numbers where it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch.compiler.is_compiling() else x


class Sorting(nn.Module):
    """Does what no ONNX operator does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x).real


@pytest.mark.parametrize(
    ("module", "message"), [(Doubled(), "differs by"), (Sorting(), "cannot be written as ONNX")]
)
def test_a_part_that_is_not_the_model_is_refused(
    module: nn.Module, message: str, tmp_path: Path
) -> None:
    sample = torch.ones(3, 3) + torch.eye(3)
    part = Part("odd", module, ("x",), ("y",), frozenset(), [(sample,)])
    with pytest.raises(InputError, match=f"'odd' of the model {message}"):
        write_part(part, tmp_path / "odd.onnx")


def changed(exported: Exported, folder: Path, file: str, **values: Any) -> Path:
    shutil.copytree(exported.checkpoint, folder)
    content = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps({**content, **values}), "utf-8")
    return folder


def test_what_the_page_would_do_otherwise_is_refused(exported: Exported, tmp_path: Path) -> None:
    penalty = changed(
        exported, tmp_path / "penalty", "generation_config.json", repetition_penalty=1.5
    )
    with pytest.raises(InputError, match="asks for repetition_penalty"):
        export_onnx(str(penalty), tmp_path / "out")
    with pytest.raises(InputError, match="exists"):
        export_onnx(str(exported.checkpoint), exported.folder)
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_named(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"biod2c\[onnx\]"):
        export_onnx(str(exported.checkpoint), tmp_path / "out")


def test_options_of_a_checkpoint_do_not_go_with_it(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for extra in (["--dtype", "float16"], ["--license", "MIT"]):
        result = CliRunner().invoke(app, ["export", out, "--onnx", *extra])
        assert result.exit_code == 2
        assert "--onnx goes with --model alone" in result.stderr
    assert not (tmp_path / "out").exists()
