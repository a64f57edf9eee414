"""A run exports its best checkpoint, by the scores of its own answers, wherever it was stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file
from test_resume import assert_same, config_of, stop_at

from biod2c_core.config import TrainingConfig
from biod2c_core.data.records import iter_records, write_records
from biod2c_core.errors import CheckpointError, ConfigError, InputError, TerminatedError
from biod2c_core.evaluation.choosing import CheckpointMetric, find_metric
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score import profiles
from biod2c_core.evaluation.score.profiles import base
from biod2c_core.model.generation import Answerer
from biod2c_core.training.checkpointing import numbered_checkpoints
from biod2c_core.training.choosing.average import decay_at
from biod2c_core.training.choosing.criterion import check_choice
from biod2c_core.training.dry_run import estimate, measure
from biod2c_core.training.hardware.engines import Engine
from biod2c_core.training.logs.run_log import read_log
from biod2c_core.training.run_folder import note_chosen
from biod2c_core.training.start import describe_model
from biod2c_core.training.train import TrainingResult, train

STEPS = 9  # of three an epoch
# A convention whose numbers change with the answers, also where these are noise, as of a random model.
VARIETY = base.Profile(
    name="variety",
    version="1",
    summary="how many kinds of characters an answer has",
    metrics=(base.Metric("kinds", "kinds", "Of characters, of a hundred."),),
    prepare=base.rule_for_each(lambda _record, answer: {"kinds": len(set(answer)) / 100}),
)
SCORED = CheckpointMetric("variety:kinds", "kinds", VARIETY)


class ByStep:
    """Compares by numbers that a test gives, one a validation; answers nothing."""

    name, column, needs_answers, more_is_better = "given", "given", True, True

    def __init__(self, values: Sequence[float], every: int = 1) -> None:
        self._values, self._every = values, every

    def check(self, records: Any) -> None:
        """Nothing."""

    def begin(self, model: Any, file: Path) -> None:
        """Remember the step."""
        self._step = int(file.stem.removeprefix("step-"))

    def answer(self, *_: Any) -> None:
        """Nothing."""

    def score(self, records: Any, file: Path) -> dict[str, float]:
        """That of the step."""
        return {"given": self._values[self._step // self._every - 1]}


def other_questions(data: Path) -> Path:
    """Records to validate on, about the same pictures."""
    path = data.with_name("validation.jsonl")
    records = [replace(each, question="is there one?") for each in iter_records(data)]
    write_records(path, records[:4])
    return path


def config(llama: Path, **changes: Any) -> TrainingConfig:
    values = {"max_steps": STEPS, "save_every": 1, "validate_every": 2, "learning_rate": 2e-2}
    return config_of(llama, **{**values, **changes})


def go(
    settings: TrainingConfig,
    data: Path,
    output: Path,
    criterion: Any,
    resume: bool = False,
    reporter: tiny_models.Silent | None = None,
) -> tuple[TrainingResult, tiny_models.Silent]:
    reporter = reporter or tiny_models.Silent()
    result = train(
        *(settings, 2, [data], output, reporter),
        validation=other_questions(data),
        select=criterion,
        resume=resume,
        device="cpu",
    )
    return result, reporter


def validations(run: Path, key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in read_log(run / "log.jsonl") if key in row]


def weights_at(run: Path, step: int, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"checkpoint-{step}" / file)


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture(scope="module")
def scored(llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that chooses by its answers, with an average, and was never stopped."""
    output = tmp_path_factory.mktemp("scored") / "run"
    go(config(llama, ema_decay=0.6), data, output, SCORED)
    return output


def test_the_best_is_exported_with_the_score_that_evaluate_gives_it(
    scored: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = validations(scored, "eval_kinds")
    assert [step for step, _ in found] == [2, 4, 6, 8, 9]
    assert len({value for _, value in found}) > 1
    best, value = max(found, key=lambda each: each[1])
    said = json.loads((scored / "run.json").read_text())
    assert (said["select"], said["chosen_step"], said["steps"]) == (SCORED.name, best, STEPS)
    monkeypatch.setitem(profiles._ADDED, VARIETY.name, VARIETY)
    place = other_questions(data)
    request = Request(place, None, scored / "again.jsonl", model="it", profile=VARIETY.name)
    answerer = Answerer.load(scored / "model", "cpu")
    result = evaluate(request, lambda *_: answerer).evaluation
    assert result.mean("kinds").value == pytest.approx(value)
    answers = [row["answer"] for row in map(json.loads, lines(scored / "again.jsonl"))]
    told = [
        row["answer"] for row in map(json.loads, lines(scored / f"validation/step-{best}.jsonl"))
    ]
    assert answers == told


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_the_scores_are_drawn_below_the_rest(scored: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    assert Image.open(scored / "curves.png").size == (900, 900)


def test_the_average_is_that_of_all_steps(scored: Path) -> None:
    mean = weights_at(scored, 1, "average.safetensors")
    for step in range(2, STEPS + 1):
        decay, now = decay_at(step, 0.6), weights_at(scored, step)
        mean = {name: decay * value + (1 - decay) * now[name] for name, value in mean.items()}
        held = weights_at(scored, step, "average.safetensors")
        assert all(torch.allclose(held[name], value, atol=1e-6) for name, value in mean.items())
        assert not same(held, now)
    best = json.loads((scored / "run.json").read_text())["chosen_step"]
    assert same(weights_at(scored, best, "average.safetensors"), exported(scored))


def test_the_average_is_exported_without_a_validation_too(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    settings = config(llama, max_steps=2, ema_decay=0.6)
    result = train(settings, 2, [data], tmp_path, tiny_models.Silent(), device="cpu")
    assert (result.steps, result.chosen_step) == (2, 2)
    average = weights_at(tmp_path, 2, "average.safetensors")
    assert same(average, exported(tmp_path))
    assert not same(average, weights_at(tmp_path, 2))


def test_a_run_that_was_stopped_chooses_the_same(
    scored: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    stopped = stop_at(scored, 3, tmp_path / "run")
    shutil.rmtree(stopped / "validation")
    result, _ = go(config(llama, ema_decay=0.6), data, stopped, SCORED, resume=True)
    assert_same(scored, stopped)
    state = json.loads((stopped / "checkpoints/checkpoint-9/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] is None  # else transformers tells that it is not there
    for key in ("eval_loss", "eval_kinds"):
        assert validations(stopped, key) == validations(scored, key)
    assert result.chosen_step == json.loads((scored / "run.json").read_text())["chosen_step"]


def test_choosing_changes_no_step_of_the_training(
    scored: Path, llama: Path, data: Path, tmp_path: Path
) -> None:
    train(*(config(llama), 2, [data], tmp_path / "run", tiny_models.Silent()), device="cpu")
    plain, chosen = (
        [row["loss"] for row in read_log(run / "log.jsonl") if "loss" in row]
        for run in (tmp_path / "run", scored)
    )
    assert plain == chosen
    assert same(weights_at(tmp_path / "run", STEPS), weights_at(scored, STEPS))


def test_answers_that_a_kill_has_left_are_kept_and_those_of_other_weights_are_not(
    scored: Path, llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = stop_at(scored, 6, tmp_path / "run")
    left = stopped / "validation" / "step-8.jsonl"
    left.write_text("".join(f"{line}\n" for line in lines(left)[:3]))
    manifest = Path(f"{stopped / 'validation' / 'step-9.jsonl'}.manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"identity": "other"}))
    asked: list[int] = []
    answer = Answerer.answer_images

    def counted(self: Answerer, images: Any, questions: Any, **options: Any) -> Any:
        asked.append(len(questions))
        return answer(self, images, questions, **options)

    monkeypatch.setattr(Answerer, "answer_images", counted)
    go(config(llama, ema_decay=0.6), data, stopped, SCORED, resume=True)
    assert asked == [1, 4]
    assert_same(scored, stopped)


def test_a_run_without_patience_ends_early_and_stays_ended(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    settings = config(llama, validate_every=1, save_every=3, keep=1, select_patience=2)
    criterion = ByStep([0.1, 0.5, 0.3, 0.5, 0.9])
    result, reporter = go(settings, data, tmp_path / "run", criterion)
    assert (result.steps, result.chosen_step, reporter.done) == (4, 2, [1, 2, 3, 4])
    assert reporter.notes[-3:] == [
        "step 3: given 0.3000, the best is 0.5000 of step 2",
        "step 4: given 0.5000, the best is 0.5000 of step 2",
        "2 validations brought nothing better",
    ]
    kept = [step for step, _ in numbered_checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == [2, 4]  # keep is 1, and the best
    assert same(weights_at(tmp_path / "run", 2), exported(tmp_path / "run"))

    again = shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(again / "model")
    result, reporter = go(settings, data, again, criterion, resume=True)
    assert (result.steps, result.chosen_step, reporter.done) == (4, 2, [])
    assert_same(tmp_path / "run", again)
    shutil.rmtree(again / "model")
    on = replace(settings, stage2=replace(settings.stage2, select_patience=3, max_steps=5))
    result, _ = go(on, data, again, criterion, resume=True)
    assert (result.steps, result.chosen_step) == (5, 5)

    stopped = stop_at(tmp_path / "run", 2, tmp_path / "stopped")
    result, reporter = go(settings, data, stopped, criterion, resume=True)
    assert (result.steps, result.chosen_step, reporter.done) == (4, 2, [3, 4])
    assert_same(tmp_path / "run", stopped)


def test_each_epoch_is_validated_once_wherever_the_run_was_stopped(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    """Killed after the last step of an epoch, which its checkpoint follows; or asked to end within one."""
    settings = config(llama, validate_every=0, save_every=3, max_steps=0, epochs=3.0)
    criterion = ByStep([0.5, 0.9, 0.1], every=3)
    result, _ = go(settings, data, tmp_path / "run", criterion)
    found = validations(tmp_path / "run", "eval_loss")
    assert [step for step, _ in found] == [3, 6, 9]
    assert result.chosen_step == 6
    killed = stop_at(tmp_path / "run", 6, tmp_path / "killed")

    ended, reporter = tmp_path / "ended", tiny_models.Silent()
    reporter.step = lambda done, metrics: (  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None
    )
    with pytest.raises(TerminatedError, match="after step 4"):
        go(settings, data, ended, criterion, reporter=reporter)
    assert validations(ended, "eval_loss") == found[:1]

    for run in (killed, ended):
        assert go(settings, data, run, criterion, resume=True)[0].chosen_step == 6
        assert validations(run, "eval_loss") == found
        assert_same(tmp_path / "run", run)


def test_the_lowest_loss_is_the_best(llama: Path, data: Path, tmp_path: Path) -> None:
    settings = config(llama, max_steps=3, validate_every=1, learning_rate=0.3)
    result, _ = go(settings, data, tmp_path, find_metric("loss"))
    found = validations(tmp_path, "eval_loss")
    assert result.chosen_step == min(found, key=lambda each: each[1])[0]
    assert not (tmp_path / "validation").exists()


def test_a_best_checkpoint_that_is_gone_is_named(llama: Path, data: Path, tmp_path: Path) -> None:
    settings = config(llama, max_steps=2, validate_every=1, save_every=1)
    criterion = ByStep([0.5, 0.1, 0.2])
    go(settings, data, tmp_path / "run", criterion)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-1")
    on = replace(settings, stage2=replace(settings.stage2, max_steps=3))
    with pytest.raises(CheckpointError, match=r"checkpoint-1, the best checkpoint .* is missing"):
        go(on, data, tmp_path / "run", criterion, resume=True)


@pytest.mark.parametrize(
    ("change", "select", "said"),
    [
        ({}, "exact:exact_match", "select='loss', not 'exact:exact_match'"),
        ({"ema_decay": 0.5}, "loss", r"stage2\.ema_decay=0\.0, not 0\.5"),
    ],
)
def test_another_choice_is_another_run(
    change: dict[str, Any], select: str, said: str, llama: Path, data: Path, tmp_path: Path
) -> None:
    go(config(llama, max_steps=1), data, tmp_path / "run", find_metric("loss"))
    with pytest.raises(InputError, match=f"was started with {said}"):
        go(config(llama, max_steps=1, **change), data, tmp_path / "run", find_metric(select), True)


def test_what_cannot_be_chosen_is_refused(llama: Path, data: Path, tmp_path: Path) -> None:
    start: Any = (2, [data], tmp_path / "run", tiny_models.Silent())
    with pytest.raises(InputError, match=r"no validation records\. Add --validation FILE"):
        train(config(llama), *start, select=find_metric("loss"), device="cpu")
    with pytest.raises(ConfigError, match=r"select_patience is 2, .* Add --select METRIC"):
        train(config(llama, select_patience=2), *start, device="cpu")
    with pytest.raises(InputError, match=r"open_accuracy_by_type applies to none of the 4"):
        go(config(llama), data, tmp_path / "run", find_metric("multimedeval:open_accuracy_by_type"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("closed_acuracy", "Did you mean 'closed_accuracy'?"),
        ("exact_match", "Did you mean 'exact:exact_match'?"),
        ("pmc-vqa:open_acuracy", "Did you mean 'pmc-vqa:open_accuracy'?"),
        ("xyz", "Known: loss, closed_accuracy"),
        ("medevalkit-judge:accuracy", "come from a judge"),
        ("mmmu:unparsed", "unknown metric 'mmmu:unparsed'"),  # less of it is better
    ],
)
def test_an_unknown_metric_names_what_is_near(name: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        find_metric(name)


def test_a_column_alone_is_the_default_profile(data: Path) -> None:
    assert find_metric("closed_accuracy").name == "multimedeval:closed_accuracy"
    assert not find_metric("loss").more_is_better


def test_a_plan_counts_the_average(llama: Path) -> None:
    settings = config(llama, ema_decay=0.9)
    sizes = measure(describe_model(settings, None), settings, 2)
    memory = estimate(sizes, settings.stage2, 64, 1, 0)
    assert memory["average"] == 4 * sizes.trainable


def test_engines_that_spread_the_weights_choose_by_the_loss_alone(
    llama: Path, data: Path, tmp_path: Path
) -> None:
    spread, settings = Engine("fsdp"), config(llama).stage2
    check_choice(settings, find_metric("loss"), data, spread)
    with pytest.raises(ConfigError, match=r"closed_accuracy needs answers, .* 'fsdp'"):
        check_choice(settings, find_metric("closed_accuracy"), data, spread)
    with pytest.raises(ConfigError, match=r"ema_decay is 0\.5, .* 'zero3'"):
        check_choice(replace(settings, ema_decay=0.5), None, None, Engine("zero3"))


def test_a_folder_that_is_gone_gets_no_half_of_a_description(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="was removed or replaced while the run went on"):
        note_chosen(tmp_path, 1, 2)
    assert not list(tmp_path.iterdir())
