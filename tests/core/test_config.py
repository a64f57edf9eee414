"""Presets, flags and their mistakes: every error names the path of the key and the nearest one."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, ConfigDict, Field, StrictBool
from pydantic.dataclasses import dataclass

from biod2c_core.config import (
    LoraSettings,
    ModelSettings,
    StageSettings,
    TrainingConfig,
    VisionConfig,
    build,
    dump_config,
    load_config,
    override,
    settings_of,
)
from biod2c_core.errors import ConfigError
from biod2c_core.model.configuration import BioD2CConfig

Text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
Ratio = st.floats(0, 0.99)
Positive = st.floats(0, 1e6)


def configs() -> st.SearchStrategy[TrainingConfig]:
    """Any configuration that is within the limits."""
    vision = st.builds(
        VisionConfig,
        library=st.sampled_from(["timm", "open_clip"]),
        name=Text,
        levels=st.lists(st.integers(0, 9), max_size=3).map(tuple),
        image_size=st.integers(1, 2048),
        normalize=st.booleans(),
        mean=st.tuples(Ratio, Ratio, Ratio),
        weights=Text,
    )
    lora = st.builds(
        LoraSettings,
        r=st.integers(1, 64),
        dropout=Ratio,
        targets=st.lists(Text, max_size=3).map(tuple),
    )
    model = st.builds(
        ModelSettings,
        vision=vision,
        lora=lora,
        language_model=Text,
        prompt=Text,
        scales=st.one_of(st.integers(1, 6), st.just("auto")),
        fusion=st.sampled_from(["on", "off"]),
        semantic_loss=st.sampled_from(["paper", "off"]),
        beta_init=st.floats(-1, 1),
    )
    stage = st.builds(
        StageSettings,
        learning_rate=Positive,
        epochs=Positive,
        batch_size=st.integers(1, 999),
        warmup_ratio=Ratio,
        schedule=st.sampled_from(["cosine", "linear", "constant"]),
        bf16=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )
    return st.builds(TrainingConfig, model=model, stage1=stage, stage2=stage)


@settings(max_examples=25)
@given(configs())
def test_what_is_dumped_is_loaded(config: TrainingConfig) -> None:
    assert build(TrainingConfig, yaml.safe_load(dump_config(config)), "") == config


def test_a_dump_names_every_key(tmp_path: Path) -> None:
    path = tmp_path / "dump.yaml"
    path.write_text(dump_config(TrainingConfig()))
    assert load_config(str(path)) == TrainingConfig()
    tree = yaml.safe_load(path.read_text())
    assert set(tree["stage1"]) == {field.name for field in fields(StageSettings)}
    assert set(tree["model"]["vision"]) == {field.name for field in fields(VisionConfig)}


@settings(max_examples=25)
@given(configs(), configs())
def test_every_value_can_be_set_from_the_command_line(
    start: TrainingConfig, goal: TrainingConfig
) -> None:
    assignments = []

    def collect(value: Any, path: str) -> None:
        for field in fields(value):
            each = getattr(value, field.name)
            name = f"{path}.{field.name}".lstrip(".")
            if hasattr(each, "__dataclass_fields__"):
                collect(each, name)
            elif isinstance(each, str):
                assignments.append(f"{name}={each}")
            else:
                each = list(each) if isinstance(each, tuple) else each
                text = yaml.safe_dump(each, default_flow_style=True, width=10**6)
                assignments.append(f"{name}={text.removesuffix('...' + chr(10)).strip()}")

    collect(goal, "")
    assert override(start, assignments) == goal


def test_the_paper_preset_is_the_papers_setting() -> None:
    """Section 4.1 and what is decided beside it."""
    paper = load_config("paper")
    assert paper.model == ModelSettings(scales=6)
    assert (paper.model.vision.library, paper.model.vision.name) == ("open_clip", "RN50")
    assert (paper.model.vision.levels, paper.model.vision.image_size) == ((3,), 512)
    assert paper.model.lora == LoraSettings(8, 32, 0.1, ("q_proj", "v_proj"))
    assert (paper.stage1.learning_rate, paper.stage2.learning_rate) == (5e-5, 2e-5)
    assert (paper.stage1.epochs, paper.stage2.epochs) == (1, 5)
    assert (paper.stage1.semantic_weight, paper.stage2.semantic_weight) == (0.0, 1.0)
    for stage in (paper.stage1, paper.stage2):
        assert (stage.batch_size, stage.gradient_accumulation, stage.queue_size) == (8, 4, 30)
        assert (stage.weight_decay, stage.warmup_ratio, stage.schedule) == (1e-3, 0.03, "cosine")
        assert stage.bf16
        assert stage.gradient_checkpointing
    assert paper.stage(1) is paper.stage1
    assert paper.stage(2) is paper.stage2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("stage2.lerning_rate=1", "unknown key 'stage2.lerning_rate'. Did you mean 'stage2.learning_rate'?"),
        ("stage2.lr=1", "unknown key 'stage2.lr'. Did you mean 'stage2.learning_rate'?"),
        ("model.vison.name=x", "unknown key 'model.vison'. Did you mean 'model.vision'?"),
        ("model.vision.nam=x", "unknown key 'model.vision.nam'. Did you mean 'model.vision.name'?"),
        ("zzz=1", "unknown key 'zzz'. Known: model, stage1, stage2, zero."),
        ("stage1.batch_size", "'stage1.batch_size' is not an assignment. Write key=value."),
        ("stage1.batch_size.x=1", "stage1.batch_size has no keys below it"),
        ("stage1.batch_size=big", "stage1.batch_size is 'big', expected int"),
        ("stage1.batch_size=2.5", "stage1.batch_size is 2.5, expected int"),
        ("stage1.batch_size=true", "stage1.batch_size is True, expected int"),
        ("stage1.bf16=1", "stage1.bf16 is 1, expected bool"),
        ("stage1.learning_rate=fast", "stage1.learning_rate is 'fast', expected float"),
        ("stage1.schedule=step", "stage1.schedule is 'step'. Use one of: cosine, linear, constant."),
        ("model.vision.levels=3", "model.vision.levels is 3, expected a list"),
        ("model.vision.levels=[a]", "model.vision.levels[0] is 'a', expected int"),
        ("model.vision.levels=[1", "model.vision.levels is '[1'. Write the value as YAML or JSON."),
        ("model.vision={nam: x}", "unknown key 'model.vision.nam'"),
        ("model.vision=RN50", "model.vision must be a mapping, got 'RN50'"),
        ("model.scales=many", "model.scales is 'many', expected"),
        ("stage1.batch_size=0", "stage1.batch_size is 0, expected at least 1"),
        ("stage1.learning_rate=-1", "stage1.learning_rate is -1.0, expected at least 0"),
        ("stage1.learning_rate=.nan", "stage1.learning_rate is nan, expected at least 0"),
        ("model.lora.dropout=1", "model.lora.dropout is 1.0, expected at least 0 and at most 0.99"),
        ("model.fusion_layers=1000000", "expected at least 1 and at most 512"),
        ("model.num_visual_tokens=1000000000", "expected at least 1 and at most 4096"),
        ("model.lora.r=1000000000", "expected at least 1 and at most 16384"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_path(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(TrainingConfig(), [assignment])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "is not YAML"),
        ("- a", "the configuration must be a mapping, got ['a']"),
        ("model: {prompt: 3}", "model.prompt is 3, expected str"),
        ("stage1: {epochs: }", "stage1.epochs is None, expected float"),
        ("stage3: {}", "unknown key 'stage3'. Did you mean 'stage"),
        ("1: {}", "unknown key '1'"),
    ],
)
def test_a_broken_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match=r"cannot read .*nothing\.yml: No such file"):
        load_config(str(tmp_path / "nothing.yml"))


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'papr'\. Did you mean 'paper'\?"):
        load_config("papr")
    with pytest.raises(ConfigError, match="Known: biomedclip-llama, paper"):
        load_config("../secrets")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(str(tmp_path / "empty.yaml")) == TrainingConfig()


def test_yaml_habits_are_understood() -> None:
    """5e-5 is text to YAML, on and off are booleans, a whole number is a float too."""
    config = override(
        TrainingConfig(),
        [
            "stage1.learning_rate=5e-5",
            "model.fusion=off",
            "model.semantic_loss=off",
            "stage1.epochs=3",
        ],
    )
    assert (config.stage1.learning_rate, config.stage1.epochs) == (5e-5, 3.0)
    assert (config.model.fusion, config.model.semantic_loss) == ("off", "off")
    assert override(config, ["model.fusion=on"]).model.fusion == "on"


def test_texts_are_taken_as_they_are_written() -> None:
    prompt = "Question: {question} Answer:"
    config = override(
        TrainingConfig(),
        [f"model.prompt={prompt}", "model.language_model=007", "model.vision.name="],
    )
    assert config.model.prompt == prompt
    assert config.model.language_model == "007"
    assert config.model.vision.name == ""


def test_later_assignments_win_and_nothing_else_changes() -> None:
    config = override(TrainingConfig(), ["stage1.seed=1", "stage1.seed=2"])
    assert config == replace(TrainingConfig(), stage1=StageSettings(seed=2))


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Renamed(ModelSettings):
    """A switch that went by another name once."""

    qk_norm: StrictBool = Field(
        default=False, validation_alias=AliasChoices("qk_norm", "compare_directions")
    )


def test_a_former_name_is_still_understood_and_no_longer_written() -> None:
    renamed = Renamed(qk_norm=True)
    assert build(Renamed, {"compare_directions": True}, "") == renamed
    assert override(Renamed(), ["compare_directions=true"]) == renamed
    assert replace(renamed, fusion_layers=2).qk_norm
    tree = yaml.safe_load(dump_config(renamed))
    assert tree["qk_norm"]
    assert "compare_directions" not in tree
    with pytest.raises(ConfigError, match=r"'qk_nrm'. Did you mean 'qk_norm'\?"):
        override(Renamed(), ["qk_nrm=true"])
    with pytest.raises(ConfigError, match="compare_directions and qk_norm are one setting"):
        build(Renamed, {"compare_directions": True, "qk_norm": True}, "")
    with pytest.raises(ConfigError, match="qk_norm is 3, expected bool"):
        build(Renamed, {"compare_directions": 3}, "")


def test_a_checkpoint_may_use_a_former_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biod2c_core.config.settings.ModelSettings", Renamed)
    monkeypatch.setattr("biod2c_core.model.configuration.ModelSettings", Renamed)
    config = BioD2CConfig(compare_directions=True, mix_neighbours=True)
    assert config.qk_norm
    assert config.mix_neighbours
    assert not BioD2CConfig().qk_norm
    written = config.to_dict()
    assert written["qk_norm"]
    assert "compare_directions" not in written
    assert BioD2CConfig.from_dict(written).qk_norm


def test_settings_cannot_be_changed_or_made_wrongly() -> None:
    with pytest.raises(FrozenInstanceError):
        StageSettings().seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="batch_size"):
        replace(StageSettings(), batch_size=0)
    with pytest.raises(ConfigError, match="fusion_layers is 0, expected at least 1"):
        BioD2CConfig(fusion_layers=0)
    assert BioD2CConfig(fusion_dropout=0).fusion_dropout == 0.0


def test_every_setting_says_what_it_is() -> None:
    for kind in (VisionConfig, LoraSettings, ModelSettings, StageSettings, TrainingConfig):
        assert all(field.description for field in settings_of(kind).values())
