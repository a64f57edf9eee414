"""``import biod2c`` is cheap, and makes transformers' Auto classes know the model all the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import biod2c
import biod2c_core
from biod2c_core.model.checkpoints.card import CardFacts, model_card
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor

# One fresh interpreter for all that only one can show; forks of it have each an order of their own.
CHILD = r"""
import json, os, sys

HEAVY = {"torch", "transformers", "PIL", "numpy"}
folder = sys.argv[1]
found = {}


def forked(first):
    read, write = os.pipe()
    if os.fork() == 0:
        first()
        from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor
        loaded = [
            AutoConfig.from_pretrained(folder),
            AutoModel.from_pretrained(folder),
            AutoModelForImageTextToText.from_pretrained(folder),
            AutoProcessor.from_pretrained(folder),
        ]
        os.write(write, json.dumps([type(each).__name__ for each in loaded]).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.wait()
    return json.loads(text or "null")


def biod2c_first():
    import biod2c


def transformers_first():
    from transformers import AutoModelForImageTextToText, AutoProcessor
    import biod2c


before = set(sys.modules)
import biod2c
found["loaded"] = sorted({name.split(".")[0] for name in set(sys.modules) - before} & HEAVY)
found["dir"] = dir(biod2c)
biod2c.read_records, biod2c.Record, biod2c.__version__
found["loaded by read_records"] = sorted({"torch", "transformers"} & set(sys.modules))

import torch, torchvision  # once for all forks

for name in [each for each in sys.modules if each.split(".")[0] == "biod2c"]:
    del sys.modules[name]
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != "biod2c.auto_classes"]
found["orders"] = [forked(each) for each in (biod2c_first, transformers_first)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def fresh(checkpoint: Path) -> dict[str, Any]:
    """What a fresh interpreter sees of the package."""
    command = [sys.executable, "-c", CHILD, str(checkpoint)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_importing_the_package_loads_nothing_heavy(fresh: dict[str, Any]) -> None:
    assert fresh["loaded"] == []
    assert fresh["loaded by read_records"] == []


def test_the_names_are_listed_before_they_are_loaded(fresh: dict[str, Any]) -> None:
    assert fresh["dir"] == sorted(biod2c.__all__)


def test_the_auto_classes_know_the_model_whichever_is_imported_first(fresh: dict[str, Any]) -> None:
    model, config, processor = BioD2CForConditionalGeneration, "BioD2CConfig", BioD2CProcessor
    loaded = [config, model.__name__, model.__name__, processor.__name__]
    assert fresh["orders"] == [loaded] * 2


def test_every_name_is_there() -> None:
    for name in biod2c.__all__:
        assert getattr(biod2c, name) is not None
    assert biod2c.__version__ == biod2c_core.__version__
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        biod2c.lod  # noqa: B018


def test_the_code_on_a_model_card_runs(checkpoint: Path) -> None:
    card = model_card(checkpoint, str(checkpoint), CardFacts())
    ours, auto = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict[str, Any] = {}
    image = Path(__file__).resolve().parents[2] / "examples" / "chest_xray.jpg"
    exec(auto.replace("image.png", str(image)), names)
    assert isinstance(names["model"], BioD2CForConditionalGeneration)
    assert isinstance(names["processor"], BioD2CProcessor)
    exec(ours.replace("image.png", str(image)), names)
    assert isinstance(names["model"], biod2c.VQAModel)
