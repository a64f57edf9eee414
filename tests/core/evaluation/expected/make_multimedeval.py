"""Make ``multimedeval.json``: the numbers that MultiMedEval 1.0.0 itself gives.

Run in an environment of its own, from the repository root::

    python -m venv /tmp/original && . /tmp/original/bin/activate
    pip install torch torchmetrics==1.9.0 nltk numpy
    pip download --no-deps multimedeval==1.0.0 && unzip multimedeval-*.whl -d /tmp/multimedeval
    PYTHONPATH=/tmp/multimedeval python tests/core/evaluation/expected/make_multimedeval.py VQA_RAD

``VQA_RAD`` is the folder of VQA-RAD's ``testset.json``. The package's heavy dependencies play no
part in its VQA score; each that is missing is replaced by an empty stand-in. The class
``VQA`` then runs as published: its ``evaluate`` gets the predictions, and nothing of it is patched
but the data set.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from varied_predictions import PLAIN_GOLDS, vary  # noqa: E402


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives an empty module for whatever is not installed."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec:
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = MagicMock(name=spec.name)
        module.__spec__ = spec
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def import_task_families() -> ModuleType:
    """Import ``multimedeval.task_families`` alone, without the package's other parts."""
    import torchmetrics.classification
    import torchmetrics.segmentation
    import torchmetrics.text  # noqa: F401

    package = ModuleType("multimedeval")
    package.__path__ = [str(Path(folder) / "multimedeval") for folder in sys.path]
    sys.modules["multimedeval"] = package
    sys.modules["multimedeval.report_comparison_utils"] = MagicMock()
    sys.meta_path.append(StandIns())
    return importlib.import_module("multimedeval.task_families")


def original_scores(
    task_families: ModuleType, golds: Sequence[str], predictions: Sequence[str]
) -> dict[str, object]:
    class Task(task_families.VQA):
        def __init__(self) -> None:
            self.bleu = task_families.BLEUScore(n_gram=1)  # as VQA.__init__, without WordNet
            self.task = "VQA"

        def get_correct_answer(self, sample: dict[str, str]) -> str:
            return sample["answer"].lower().strip()  # as VQARad, SLAKE and PathVQA do

        def __getitem__(self, index: int) -> dict[str, object]:
            return {"sample": {"answer": golds[index]}}

        def setup(self) -> None:
            """No download."""

        def format_question(self, sample: object, prompt: bool = False) -> None:
            """Nothing is asked."""

    rows = [
        {"idx": index, "answer": SimpleNamespace(text=text)}
        for index, text in enumerate(predictions)
    ]
    return dict(Task().evaluate(rows).metrics)


def main() -> None:
    questions = json.loads((Path(sys.argv[1]) / "testset.json").read_text("utf-8"))
    golds = [str(question["answer"]).strip() for question in questions]
    task_families = import_task_families()
    result = {
        "vqa_rad": original_scores(task_families, golds, vary(golds)),
        "plain": original_scores(task_families, PLAIN_GOLDS * 23, vary(PLAIN_GOLDS * 23)),
    }
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "multimedeval.json").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
