"""Export, push and pull, with the hub's client replaced by one that keeps what it is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import tiny_models
import torch
import yaml
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from transformers import AutoModelForImageTextToText, AutoProcessor

from biod2c_core.config import LoraSettings, StageSettings
from biod2c_core.errors import CheckpointError, ConfigError, EndpointError, InputError
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.model.checkpoints.card import COLUMNS, CardFacts, model_card
from biod2c_core.model.checkpoints.export import export
from biod2c_core.model.checkpoints.folder import load_model, load_processor, save_checkpoint
from biod2c_core.model.checkpoints.hub import pull, push
from biod2c_core.training.stages import prepare_stage

RESULT = {
    "profile": {"name": "multimedeval", "version": "1", "summary": ""},
    "data": {"source": "vqa_rad", "split": "test", "questions": 451},
    "scores": {
        "closed_accuracy": {"value": 0.58249, "questions": 251, "low": 0.52, "high": 0.64},
        "open_accuracy": {"value": None, "questions": 0},
    },
}
FACTS = CardFacts("Apache-2.0", {"VQA-RAD": "CC0-1.0"})


@pytest.fixture(scope="module")
def adapted(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``RUN/model`` of a run of stage 2, with adapters that change what the model says."""
    model, processor = tiny_models.build(llama)
    prepare_stage(model, 2, StageSettings(), LoraSettings(r=2))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("run") / "model"
    save_checkpoint(folder, model.eval(), processor)
    run = {"stage": 2, "data": ["/home/me/private/questions.jsonl"], "records": 12, "images": 5}
    (folder.parent / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    return path


class TransportError(Exception):
    """What the HTTP library behind the hub's client raises is not an OSError."""


class Hub:
    """Keeps what is pushed; gives it back on a pull."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.failure: Exception | None = None

    def create_repo(self, name: str, **options: Any) -> None:
        if self.failure:
            raise self.failure
        self.created = {"name": name, **options}

    def create_commit(self, name: str, operations: list[Any], **_: Any) -> Any:
        for each in operations:
            with each.as_file() as file:
                self.files[each.path_in_repo] = file.read()
        return SimpleNamespace(commit_url=f"https://hub/{name}/commit/1")

    def snapshot_download(self, name: str, **options: Any) -> str:
        if self.failure:
            raise self.failure
        folder = Path(options["local_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".cache").mkdir(exist_ok=True)
        for path, content in self.files.items():
            (folder / path).write_bytes(content)
        return str(folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def logits(model: Any, processor: Any) -> torch.Tensor:
    inputs = processor([tiny_models.make_image(0)], [tiny_models.QUESTIONS[0]])
    with torch.no_grad():
        return model(**inputs).logits


def test_an_export_answers_as_the_adapted_model(adapted: Path, tmp_path: Path) -> None:
    folder = export(str(adapted), tmp_path / "merged", FACTS)
    merged, before = load_model(folder), load_model(adapted)
    assert merged.config.lora is None
    assert not any("lora" in name for name in merged.state_dict())
    processor = load_processor(folder)
    wanted = logits(before, processor)
    torch.testing.assert_close(logits(merged, processor), wanted, atol=1e-4, rtol=1e-4)
    before.language_model.get_submodule("model.layers.0.self_attn.q_proj").scaling["default"] = 0
    assert not torch.allclose(logits(before, processor), wanted, atol=1e-3)
    assert (folder / "README.md").read_text("utf-8").startswith("---\nlicense: apache-2.0\n")


def test_an_export_in_half_precision(adapted: Path, tmp_path: Path) -> None:
    folder = export(str(adapted), tmp_path / "half", FACTS, "float16")
    assert load_model(folder, torch.float16).fusion.queries.dtype == torch.float16
    assert "F16" in (folder / "README.md").read_text("utf-8")


def test_an_export_overwrites_nothing(adapted: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export(str(adapted), tmp_path / "kept", FACTS)
    with pytest.raises(ConfigError, match="Use one of: float32, float16, bfloat16"):
        export(str(adapted), tmp_path / "new", FACTS, "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\xff" * 8 + b"{}"),
        ("config.json", b'{"model_type": "biod2c", "text_config": [7], "vision": {}}'),
        ("config.json", b'{"model_type": "biod2c", "text_config": {}, "lora": 7}'),
    ],
)
def test_the_card_of_a_damaged_checkpoint_is_one_line(
    adapted: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    theirs = shutil.copytree(adapted, tmp_path / "theirs")
    (theirs / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read|does not describe") as caught:
        model_card(theirs, "owner/model", CardFacts())
    assert len(str(caught.value).splitlines()) == 1


def test_the_card_says_what_the_files_know(adapted: Path, result: Path) -> None:
    facts = CardFacts("Apache-2.0", {"VQA-RAD": "CC0-1.0"}, [result])
    card = model_card(adapted, "owner/model", facts)
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "apache-2.0"
    assert header["metrics"] == ["multimedeval"]
    assert "| data | split | questions | profile | closed ACC | open ACC |" in card
    assert "| vqa_rad | test | 451 | multimedeval 1 | 0.582 [0.520, 0.640] | - |" in card
    assert "- Stage 2 of the paper's training, on `questions.jsonl`: 12 questions about 5" in card
    assert "/home/me" not in card
    assert "LoRA of rank 2 on q_proj, v_proj" in card
    model = load_model(adapted)
    count = sum(value.numel() for value in model.state_dict().values())
    assert f"{count / 1e6:.1f} million parameters, F32" in card
    for heading in ("Intended use", "Data", "Metrics", "Licences", "Limits"):
        assert f"\n## {heading}\n" in card
    assert "VQA-RAD (CC0-1.0)" in card


def test_a_card_names_columns_as_the_profiles_do() -> None:
    profiles = [get_profile(name) for name in ("multimedeval", "exact")]
    labels = {metric.key: metric.label for profile in profiles for metric in profile.metrics}
    assert COLUMNS.items() <= labels.items()


def test_a_card_without_facts_says_so(checkpoint: Path, tmp_path: Path) -> None:
    card = model_card(checkpoint, "mine", CardFacts())
    assert card.count("Not stated by whoever made this checkpoint.") == 2
    assert "not stated: ask whoever made this checkpoint" in card
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(InputError, match="is not the result of an evaluation"):
        model_card(checkpoint, "mine", CardFacts(results=[tmp_path / "other.json"]))


def test_a_push_and_a_pull_give_the_same_model(adapted: Path, hub: Hub, tmp_path: Path) -> None:
    folder = shutil.copytree(adapted, tmp_path / "model")
    (folder / "notes.txt").write_text("private")
    (folder / "optimizer.pt").write_bytes(b"private")
    assert push(folder, "owner/model", FACTS) == "https://hub/owner/model/commit/1"
    assert hub.created == {"name": "owner/model", "private": True, "exist_ok": True}
    assert "notes.txt" not in hub.files
    assert "optimizer.pt" not in hub.files
    assert b"# owner/model" in hub.files["README.md"]
    pulled = pull("owner/model", tmp_path / "pulled")
    assert not (pulled / ".cache").exists()
    first, second = load_model(adapted).state_dict(), load_model(pulled).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with pytest.raises(InputError, match="exists already"):
        pull("owner/model", pulled)


def test_what_is_pulled_must_be_a_checkpoint(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}", "README.md": b"another model"}
    with pytest.raises(
        CheckpointError, match=r"checkpoint owner/other has no processor_config\.json"
    ):
        pull("owner/other", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (HFValidationError("bad"), InputError, "'owner/model' is not the name of a hub model"),
        (LocalTokenNotFoundError("no token"), InputError, "nobody is logged in"),
        (OfflineModeIsEnabled("offline"), EndpointError, "could not be used .*offline"),
        (ConnectionError("refused"), EndpointError, "could not be used .*refused"),
        (TransportError("slow"), EndpointError, "could not be used .*slow"),
    ],
)
def test_failures_of_the_hub_are_one_line(
    failure: Exception,
    kind: type[Exception],
    message: str,
    checkpoint: Path,
    hub: Hub,
    tmp_path: Path,
) -> None:
    hub.failure = failure
    with pytest.raises(kind, match=message) as caught:
        push(checkpoint, "owner/model", FACTS)
    assert "\n" not in str(caught.value)
    with pytest.raises(kind, match=message):
        pull("owner/model", tmp_path / "out")


def test_the_auto_classes_load_a_checkpoint(checkpoint: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    wanted = logits(load_model(checkpoint), load_processor(checkpoint))
    assert torch.equal(logits(model.eval(), processor), wanted)
