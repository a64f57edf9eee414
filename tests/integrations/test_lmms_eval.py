"""The tasks for lmms-eval, run by the installed package with a model that answers as written here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from biod2c_core.data.formats import ReadOptions, read_records
from biod2c_core.data.records import Record
from biod2c_core.evaluation.predict.predictions_file import Prediction, read_predictions
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import score

FOLDER = Path(__file__).parents[2] / "integrations" / "lmms_eval"
GOLDS = ("yes", "no", "left lung", "pneumothorax", "2", "Yes", "chest x-ray", "no", "brain")
SAID = ("yes", "Yes.", "the left lung", "effusion", "2", "yes it is", "x-ray", "no", "Brain")


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VQA-RAD and SLAKE as published, in the folder that BIOD2C_DATA names."""
    root = tmp_path_factory.mktemp("data")
    rad, slake = [], []
    for number, gold in enumerate(GOLDS):
        closed = gold.lower() in ("yes", "no")
        kind = "CLOSED" if closed else "OPEN"
        asked = {"question": f"What is seen in {number}?", "answer": gold, "answer_type": kind}
        rad.append({**asked, "qid": number, "image_name": f"{number}.png"})
        slake.append({**asked, "qid": number, "img_name": f"{number}/source.png", "q_lang": "en"})
        picture(root / f"rad/images/{number}.png", number)
        picture(root / f"slake/imgs/{number}/source.png", number)
    slake.append({**slake[0], "qid": 99, "q_lang": "zh", "answer": "\u662f", "question": "\u5417?"})
    write(root / "rad/testset.json", rad)
    write(root / "slake/test.json", slake)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run tasks through lmms-eval; returns its results and what the model was shown."""
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    class Scripted(lmms):
        """Answers by the number of a question; remembers prompts and images."""

        def __init__(self) -> None:
            super().__init__()
            self.shown: dict[str, list[tuple[str, Image.Image]]] = {}

        def generate_until(self, requests: list[Any]) -> list[str]:
            said = []
            for context, _, doc_to_visual, number, task, split in (r.args for r in requests):
                (image,) = doc_to_visual(self.task_dict[task][split][number])
                self.shown.setdefault(task, []).append((context, image))
                said.append(SAID[number % len(SAID)])
            return said

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError

    with pytest.MonkeyPatch.context() as patched:
        predictions = tmp_path_factory.mktemp("predictions")
        patched.setenv("BIOD2C_DATA", str(data))
        patched.setenv("BIOD2C_PREDICTIONS", str(predictions))
        patched.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        manager = TaskManager("ERROR", include_path=str(FOLDER), include_defaults=False)
        model = Scripted()
        tasks = ["vqa_rad", "vqa_rad_blank", "vqa_rad_shuffled", "slake_en", "slake_zh"]
        found = simple_evaluate(
            model,
            tasks=[f"biod2c_{task}" for task in tasks],
            task_manager=manager,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
    return found["results"], model.shown, predictions


def expected(records: list[Record], profiles: list[str]) -> dict[str, float]:
    """What biod2c says of the same answers."""
    said = {r.id: Prediction(r.id, SAID[i % len(SAID)]) for i, r in enumerate(records)}
    means = {}
    for name in profiles:
        evaluation = score(records, said, get_profile(name))
        for metric in evaluation.profile.metrics:
            mean = evaluation.mean(metric.key)
            if mean.value is not None:
                means[f"{name} {metric.label}"] = mean.value
    return means


def shown_by(results: dict[str, Any], task: str) -> dict[str, float]:
    return {
        key.removesuffix(",none"): value
        for key, value in results[task].items()
        if key.endswith(",none") and "_stderr" not in key and not key.startswith("predictions")
    }


def listed(template: str) -> list[str]:
    """The columns that a template lists."""
    text = (FOLDER / template).read_text("utf-8").replace("!function ", "")
    names = [metric["metric"] for metric in yaml.safe_load(text)["metric_list"]]
    return [name for name in names if name != "predictions"]


@pytest.mark.parametrize(
    ("task", "folder", "profiles", "template", "language"),
    [
        (
            "biod2c_vqa_rad",
            "rad",
            ["multimedeval", "medevalkit", "llava-med"],
            "_free_template_yaml",
            "en",
        ),
        (
            "biod2c_slake_en",
            "slake",
            ["multimedeval", "medevalkit-slake", "lmms-slake", "llava-med"],
            "_slake_template_yaml",
            "en",
        ),
        (
            "biod2c_slake_zh",
            "slake",
            ["multimedeval", "medevalkit-slake", "lmms-slake", "llava-med"],
            "_slake_template_yaml",
            "zh",
        ),
    ],
)
def test_its_numbers_are_ours(
    run: Any, data: Path, task: str, folder: str, profiles: list[str], template: str, language: str
) -> None:
    records = read_records(data / folder, split="test", options=ReadOptions(language=language))
    ours = expected(records, profiles)
    theirs = shown_by(run[0], task)
    assert set(theirs) == {name for name in listed(template) if name in ours}
    assert len(theirs) > 3
    for name, value in theirs.items():
        assert value == pytest.approx(ours[name], abs=1e-12), name


def test_the_model_sees_question_and_image(run: Any) -> None:
    _, shown, _ = run
    prompt, image = shown["biod2c_vqa_rad"][3]
    assert prompt == "What is seen in 3?\nAnswer the question using a single word or phrase."
    assert (image.size, image.getpixel((0, 0))) == ((8, 6), (3, 0, 0))
    assert len(shown["biod2c_vqa_rad"]) == len(GOLDS)


def test_controls_show_another_image_or_none(run: Any) -> None:
    _, shown, _ = run
    assert {image.getpixel((0, 0)) for _, image in shown["biod2c_vqa_rad_blank"]} == {(128,) * 3}
    reds = [image.getpixel((0, 0))[0] for _, image in shown["biod2c_vqa_rad_shuffled"]]
    assert sorted(reds) == list(range(len(GOLDS)))
    assert all(red != number for number, red in enumerate(reds))


def test_answers_are_written_for_every_other_convention(run: Any, data: Path) -> None:
    _, _, folder = run
    assert {file.name for file in folder.iterdir()} == {
        "vqa-rad.jsonl",
        "vqa-rad-blank.jsonl",
        "vqa-rad-shuffled.jsonl",
        "slake.jsonl",
        "slake-zh.jsonl",
    }
    records = read_records(data / "rad")
    said = read_predictions(folder / "vqa-rad.jsonl")
    assert [said[record.id].answer for record in records] == list(SAID)


def test_a_task_lists_the_columns_that_it_scores() -> None:
    pytest.importorskip("datasets", reason="the extra 'data' is not installed")
    spec = importlib.util.spec_from_file_location("biod2c_lmms_tasks", FOLDER / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    tasks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tasks)
    for template, columns in (
        ("_free_template_yaml", tasks.FREE),
        ("_slake_template_yaml", tasks.SLAKE),
        ("biod2c_records.yaml", tasks.RECORDS),
    ):
        names = [tasks.metric_name(name, key) for name, keys in columns.items() for key in keys]
        assert listed(template) == names


def test_the_chat_models_find_the_tasks_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    from lmms_eval.tasks import TaskManager

    monkeypatch.setenv("BIOD2C_RECORDS", str(data / "rad"))
    manager = TaskManager("ERROR", include_path=str(FOLDER), include_defaults=False)
    task = manager.load_task_or_group(["biod2c_records"], task_type="chat")["biod2c_records"]
    (message,) = task.doc_to_messages(task.test_docs()[0])
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["image", "text"]
    assert message["content"][1]["text"] == "What is seen in 0?"
