"""A tiny model with all parts of the embedded one, written for a browser once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_models
import torch

from biod2c_core.atomic import write_json
from biod2c_core.inference.browser.export import export_onnx
from biod2c_core.inference.calibration import FILE, Calibration, Curve
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.checkpoints.folder import fingerprint, save_checkpoint
from biod2c_core.model.familiarity import Reference


@dataclass(frozen=True)
class Exported:
    """A checkpoint, the folder that is made of it, and the model it holds."""

    checkpoint: Path
    folder: Path
    model: VQAModel


@pytest.fixture(scope="session")
def exported(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    place = tmp_path_factory.mktemp("browser")
    model, processor = tiny_models.build(
        llama,
        answer_vote=0.7,
        mix_neighbours=True,
        encode_positions=True,
        attention_readout=True,
        qk_norm=True,
        qk_norm_queries=True,
    )
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():  # in half precision, and nothing zero
            weight.add_(0.02 * torch.randn(weight.shape, generator=draw)).copy_(weight.half())
    checkpoint = place / "model"
    save_checkpoint(checkpoint, model, processor)
    width = 2 * tiny_models.GRID[-1]
    known = torch.nn.functional.normalize(torch.randn(5, width, generator=draw))
    distances = torch.linspace(0.5, 1.5, 40)
    reference = Reference(torch.zeros(width), torch.ones(width), known, distances)
    reference.save(checkpoint, fingerprint(checkpoint))
    yes_no = Curve("temperature", temperature=2.0, familiarity_weight=0.3, familiar_from=0.2)
    points = ((0.0, 0.01), (0.001, 0.2), (0.3, 0.6), (1.0, 0.9))
    other = Curve("isotonic", points=points, familiarity_weight=0.5, familiar_from=0.2)
    calibration = {"weights": fingerprint(checkpoint), **Calibration(yes_no, other).to_dict()}
    write_json(checkpoint / FILE, calibration)
    export_onnx(str(checkpoint), place / "page")
    return Exported(checkpoint, place / "page", VQAModel.load(checkpoint, "cpu"))
