"""Predicting in batches with shared images gives what one question at a time gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import QUESTIONS, make_image

from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predict import predict
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.model.generation import Answerer


def test_32_questions_about_4_images(checkpoint: Path, tmp_path: Path) -> None:
    for index in range(4):
        make_image(index, (90, 70)).save(tmp_path / f"{index}.png")
    words = [*QUESTIONS, "why?", "is there a fracture with effusion in the left lung of the brain?"]
    records = [
        Record(f"{i}", f"{i % 4}.png", words[i % len(words)] + " x" * (i // 12), "yes")
        for i in range(32)
    ]
    answerer = Answerer.load(str(checkpoint), "cpu")
    predict(answerer, records, tmp_path, tmp_path / "p.jsonl")
    together = read_predictions(tmp_path / "p.jsonl")
    for record in records:
        image = make_image(int(record.image[0]), (90, 70))
        alone = answerer.answer([image], [record.question])[0]
        assert together[record.id].answer == alone.text
        assert together[record.id].confidence == pytest.approx(alone.confidence, rel=1e-3)
    assert len({row.answer for row in together.values()}) > 1
