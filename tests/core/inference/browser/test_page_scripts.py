"""What the page computes in JavaScript against the Python that it stands for, in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biod2c_core.inference.calibration import Calibration, Curve
from biod2c_core.model.beyond.attributes import FILE, Condition, conclude, load_attributes
from biod2c_core.model.familiarity import Reference
from biod2c_core.model.generation import probability

SCRIPTS = files("biod2c_core") / "assets" / "browser"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node on this machine")


def run_script(imports: str, expression: str, given: Any) -> Any:
    """The value of a JavaScript expression of ``given``, with what a script of the page exports."""
    name = imports.rpartition(" ")[2]
    code = (
        f"import {{ {imports.rpartition(' from ')[0]} }} from {json.dumps(f'{SCRIPTS}/{name}')};"
        "import fs from 'node:fs'; const given = JSON.parse(fs.readFileSync(0));"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    result = subprocess.run(
        [str(NODE), "--input-type=module", "-e", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (5, 70), (64, 64), (64, 40), (63, 65), (90, 130), (90, 200), (300, 77), (40, 30)],
)
def test_a_picture_is_resized_as_pillow_does(width: int, height: int) -> None:
    draw = np.random.default_rng(width)
    colours = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    colours[::3] = np.where(colours[::3] > 127, 255, 0)  # steps that overshoot
    right = Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC)
    rgba = np.dstack([colours, np.full((height, width), 255, np.uint8)])
    given = {"width": width, "height": height, "rgba": rgba.ravel().tolist()}
    found = run_script("resize from picture.js", "[...resize(given, 64)]", given)
    assert found == np.asarray(right).ravel().tolist()


def test_pixels_are_normalized_to_the_bit() -> None:
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    square = np.arange(16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    scaled = square.astype(np.float32) / 255
    right = (scaled - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    found = run_script(
        "normalize from picture.js",
        "[...normalize(given.square, 16, given.mean, given.deviation)]",
        {"square": square.ravel().tolist(), "mean": mean, "deviation": deviation},
    )
    assert np.array_equal(np.array(found, np.float32), right.transpose(2, 0, 1).ravel())


CALIBRATIONS = (
    Calibration(
        Curve("temperature", 2.0, familiarity_weight=0.3, familiar_from=0.2, guess=0.5),
        Curve(
            "isotonic",
            points=((0.0, 0.01), (0.001, 0.2), (0.3, 0.6), (0.9, 0.95)),
            familiarity_weight=1.2,
            familiar_from=0.1,
        ),
    ),
    Calibration(Curve("isotonic", points=((0.0, 0.1), (1.0, 0.9))), Curve("temperature", 0.5)),
)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_confidence_is_calibrated_alike(calibration: Calibration) -> None:
    cases = [
        (answer, p, familiarity)
        for answer in ("yes", " No.", "chest x-ray", "no finding")
        for p in (0.0, 1e-7, 0.0005, 0.001, 0.3, 0.62, 0.95, 1.0)
        for familiarity in (None, 0.0, 0.0004, 0.07, 0.2, 0.5, 1.0)
    ]
    found = run_script(
        "judge from confidence.js",
        "given.cases.map((each) => judge(...each, given.calibration))",
        {"cases": cases, "calibration": calibration.to_dict()},
    )
    for (answer, p, familiarity), each in zip(cases, found, strict=True):
        curve = calibration.curve(answer)
        assert each["confidence"] == pytest.approx(curve(p, familiarity), abs=1.01e-4)
        assert each["calibrated"] == curve.holds(familiarity)


def test_without_calibration_confidence_is_the_probability() -> None:
    given = [-1e-9, -0.123456789, -3.3, -40.5]
    found = run_script(
        "judge, probability from confidence.js",
        "given.map((logP) => judge('yes', probability(logP), 0.5, null))",
        given,
    )
    assert found == [{"confidence": probability(each), "calibrated": False} for each in given]


def test_two_digits_are_printed_alike() -> None:
    values = [n / 1000 for n in range(1001)] + [n / 16 for n in range(17)]
    found = run_script(
        "twoDigits from ../asking/answers.js", "given.values.map(twoDigits)", {"values": values}
    )
    assert found == [f"{value:.2f}" for value in values]


def test_familiarity_counts_alike() -> None:
    import torch

    distances = torch.tensor([0.1, 0.2, 0.2, 0.7, 1.1])
    features = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.manual_seed(0)))
    reference = Reference(torch.zeros(4), torch.ones(4), features, distances)
    pictures = torch.randn(20, 4, generator=torch.manual_seed(1))
    found = run_script(
        "familiarityOf from confidence.js",
        "given.own.map((each) => familiarityOf(each, given.distances))",
        {"own": reference.distance(pictures).tolist(), "distances": distances.tolist()},
    )
    assert found == reference.familiarity(pictures)
    assert len(set(found)) > 2


QUESTIONS = (
    "Is this a CT?",
    "Is it an MR image of the head?",
    "is the image NOT a CT",
    "Is this a CT or an MRI?",
    "Was the picture taken with computed tomography?",
    "Does this show the thorax, please?",
    "Ist das ein CT?",
    "Is this a scan?",
    "Is this a CT? " + "Is " * 200,
    "",
)


def test_yes_or_no_rests_on_the_same_questions(tmp_path: Path) -> None:
    content = [
        {
            "question": "What modality is this?",
            "values": {
                "CT": ["a CT scan", "computed tomography"],
                "MRI": ["an MR image"],
                "a drawing": [],
            },
            "unless": {"a drawing": ["a scan"]},
        },
        {"question": "What organ is shown?", "values": {"chest": ["thorax"], "brain": ["head"]}},
    ]
    (tmp_path / FILE).write_text(json.dumps(content))
    attributes = load_attributes(tmp_path)
    assert attributes is not None
    found = run_script(
        "askedIn from attributes.js",
        "given.questions.map((each) => askedIn(each, given.attributes))",
        {"questions": QUESTIONS, "attributes": attributes.to_dict()},
    )
    right = [attributes.asked_in(each) for each in QUESTIONS]
    assert [[Condition(**one) for one in each] for each in found] == right
    assert sum(map(bool, right)) >= 3


def test_it_is_concluded_alike() -> None:
    wanted = [Condition("What modality?", "CT"), Condition("What organ?", "chest")]
    wanted.append(Condition("What modality?", "a drawing", holds=False))
    cases = [
        [("ct", 0.9), ("Chest.", 0.8), ("ct", 0.9)],
        [("mri", 0.7), ("chest", 0.99), ("mri", 0.7)],
        [("mri", 0.7), ("the head", 0.75), ("mri", 0.7)],
        [("ct", 0.9), ("chest", 0.8), ("A drawing", 0.6)],
    ]
    found = run_script(
        "conclude from attributes.js",
        "given.cases.map((each) => conclude(given.wanted,"
        " each.map(([text, probability]) => ({ text, probability }))))",
        {"wanted": [each._asdict() for each in wanted], "cases": cases},
    )
    for case, each in zip(cases, found, strict=True):
        says, sure = conclude(wanted, case)
        assert each == {"text": "yes" if says else "no", "sure": float(f"{sure:.4g}")}
