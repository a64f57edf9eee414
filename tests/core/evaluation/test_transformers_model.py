"""``hf:``: five families of transformers, in batches, resumed; nothing of a stranger's is run."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import QUESTIONS, make_image
from tiny_vlms import FAMILIES, save

from biod2c_core.data.records import Record
from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.evaluation.predict.asking import Asked, Asking, NeedsPictureError
from biod2c_core.evaluation.predict.models import Endpoint, load_model
from biod2c_core.evaluation.predict.predict import predict
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.evaluation.predict.transformers_model import TransformersModel

SHAPES = ((90, 70), (40, 60), (56, 56))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("vlms")
    return {family: save(family, place / family) for family in FAMILIES}


def load(folder: Path) -> Any:
    model = load_model(f"hf:{folder}", "cpu", Path("unused"), Endpoint())
    assert isinstance(model, TransformersModel)
    model.max_new_tokens = 4
    return model


def make_records(folder: Path, count: int) -> list[Record]:
    for index, shape in enumerate(SHAPES):
        make_image(index, shape).save(folder / f"{index}.png")
    return [
        Record(f"{i}", f"{i % 3}.png", f"{i} {QUESTIONS[i % 4]}" + " x" * (i // 12), "yes")
        for i in range(count)
    ]


class Dying:
    """Passes questions on, until it dies."""

    def __init__(self, model: TransformersModel, batches: int) -> None:
        self.name, self.identity = model.name, model.identity
        self.model, self.batches = model, batches
        self.asked: list[str] = []

    def answer_images(self, images: Sequence[Any], questions: Sequence[tuple[int, str]]) -> Any:
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        self.asked += [text for _, text in questions]
        return self.model.answer_images(images, questions)


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_killed_and_resumed_say_what_one_at_a_time_says(
    folders: dict[str, Path], family: str, tmp_path: Path
) -> None:
    records, path = make_records(tmp_path, 36), tmp_path / "p.jsonl"
    again = load(folders[family])
    first = Dying(again, 1)
    with pytest.raises(KeyboardInterrupt):
        predict(first, records, tmp_path, path)
    second = Dying(again, 9)
    predict(second, records, tmp_path, path)
    assert 0 < len(first.asked) < 36
    assert Counter(first.asked + second.asked) == Counter(record.question for record in records)
    found = read_predictions(path)
    for record in records[::7]:
        image = make_image(int(record.image[0]), SHAPES[int(record.image[0])])
        alone = again.answer_images([image], [(0, record.question)])[0]
        assert found[record.id].answer == alone.text
        assert found[record.id].confidence == pytest.approx(alone.confidence, rel=0.01)
    assert len({row.answer for row in found.values()}) > 5
    shown = [(0, record.question) for record in records[:8]]
    one, other = (again.answer_images([make_image(i, (50, 50))], shown) for i in (7, 8))
    assert [a.text for a in one] != [a.text for a in other]


def test_without_a_picture(folders: dict[str, Path]) -> None:
    model = load(folders["qwen2.5-vl"])
    together = [answer.text for answer in model.answer_blind(QUESTIONS)]
    assert together == [model.answer_blind([text])[0].text for text in QUESTIONS]
    with pytest.raises(NeedsPictureError, match="takes no question without a picture"):
        Asked(load(folders["paligemma"]), Asking("none"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}",
            "[<image>\nwhy?\nAnswer the",
        ),
        ("{% for m in messages %}{{ 'x' + m.content }}{% endfor %}", "x<image>\nwhy?\nAnswer the"),
        (None, "<image>Question: why? Answer the question"),
    ],
)
def test_templates_for_texts_alone_and_none(
    folders: dict[str, Path], template: str | None, expected: str
) -> None:
    model = load(folders["llava"])
    model.processor.chat_template = model._tokenizer.chat_template = template
    assert model._prompt("why?", True).startswith(expected)
    assert len(model.answer_images([make_image(0)], [(0, "why?")])) == 1


def test_a_template_that_leaves_out_the_question(folders: dict[str, Path]) -> None:
    model = load(folders["llava"])
    model.processor.chat_template = model._tokenizer.chat_template = "<image> what?"
    with pytest.raises(CheckpointError, match="leaves out the question or the image"):
        model.answer_images([make_image(0)], [(0, "why?")])


def test_drawn_answers_differ_between_repetitions_alone(folders: dict[str, Path]) -> None:
    model, images = load(folders["llava"]), [make_image(0)]
    asked = [(0, text) for text in QUESTIONS]
    said = [
        [a.text for a in model.draw_answers(images, asked, temperature=1.0, repetition=number)]
        for number in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]


def test_a_memory_that_is_too_small_takes_smaller_batches(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = load(folders["llava"]), [make_image(0)]
    asked = [(0, text) for text in QUESTIONS]
    expected = [answer.text for answer in model.answer_images(images, asked)]
    generate = model._generate

    def small(batch: Any, temperature: float) -> Any:
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return generate(batch, temperature)

    monkeypatch.setattr(model, "_generate", small)
    assert [answer.text for answer in model.answer_images(images, asked)] == expected
    assert model.batch == 2


def copy_of(folder: Path, place: Path) -> Path:
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_weights_in_a_pickle_of_tensors_are_read(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["llava"], tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    asked = [(0, text) for text in QUESTIONS]
    said = [load(each).answer_images([make_image(0)], asked) for each in (folder, folders["llava"])]
    assert [a.text for a in said[0]] == [a.text for a in said[1]]


def test_a_model_that_fails_on_a_question_is_one_line(folders: dict[str, Path]) -> None:
    model = load(folders["llava"])
    model.processor.num_additional_image_tokens = 7  # a processor of another model
    with pytest.raises(CheckpointError, match="failed on a question"):
        model.answer_images([make_image(0)], [(0, "why?")])


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_what_is_not_loaded(folders: dict[str, Path], llama: Path, tmp_path: Path) -> None:
    """A pickle that would run code, code beside the weights, weights that lack a part, other kinds."""
    llava = folders["llava"]
    harmful = copy_of(llava, tmp_path / "harmful")
    (harmful / "model.safetensors").unlink()
    (harmful / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="cannot load the model"):
        load(harmful)
    assert not (tmp_path / "ran").exists()

    code = copy_of(llava, tmp_path / "code")
    config = json.loads((code / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (code / "config.json").write_text(json.dumps(config))
    (code / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match="cannot load the model"):
        load(code)
    assert not (tmp_path / "ran").exists()

    partial = copy_of(llava, tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights[next(name for name in weights if "projector" in name)]
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lack 1 tensors of the model"):
        load(partial)

    with pytest.raises(InputError, match="'llama', which takes no image and text"):
        load(llama)
    with pytest.raises(CheckpointError, match="no model folder at nowhere"):
        load(Path("nowhere"))


def test_a_checkpoint_of_ours_is_named_without_hf(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"is a BioD2C checkpoint.*without hf:"):
        load(checkpoint)
