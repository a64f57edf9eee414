"""``biod2c evaluate`` from the command line, with a model that needs no weights."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from biod2c_cli.app import app
from biod2c_cli.commands import evaluate
from biod2c_core.data import burnt_text
from biod2c_core.data.burnt_text import FoundText
from biod2c_core.data.records import ShareBox
from biod2c_core.testing.scripted_endpoint import FakeEndpoint


class YesModel:
    """Says yes to everything."""

    name, identity = "yes-model", "1"
    loaded = 0

    def answer_images(self, images: Sequence[Any], questions: Sequence[Any]) -> list[Any]:
        return [SimpleNamespace(text="yes", confidence=0.9) for _ in questions]


real_load_model = evaluate._load_model


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> YesModel:
    fake = YesModel()

    def load(*_: object, **options: object) -> YesModel:
        fake.loaded += 1
        return fake

    monkeypatch.setattr(evaluate, "_load_model", load)
    return fake


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = []
    for index, answer in enumerate(["yes", "no", "Left lung", "2"]):
        Image.new("RGB", (8, 8), (60 * index, 0, 0)).save(tmp_path / f"{index}.png")
        rows.append(
            {
                "id": str(index),
                "image": f"{index}.png",
                "question": "What?",
                "answer": answer,
                "answer_type": "CLOSED" if index < 2 else "OPEN",
                "split": "test",
                "source": "toy",
            }
        )
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, args)])


def answer_file(folder: Path, answers: dict[str, str]) -> Path:
    path = folder / "theirs.jsonl"
    rows = [{"id": name, "answer": text} for name, text in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_predict_then_score_then_score_again(data: Path, tmp_path: Path, model: YesModel) -> None:
    run = tmp_path / "run"
    first = invoke(data, "-o", run, "--json")
    assert first.exit_code == 0, first.output
    result = json.loads(first.stdout)
    closed = result["scores"]["closed_accuracy"]
    assert (closed["value"], closed["questions"]) == (0.5, 2)
    assert 0 <= closed["low"] <= 0.5 <= closed["high"] <= 1
    assert result["data"]["questions"] == 4
    assert (result["profile"]["name"], result["profile"]["version"]) == ("multimedeval", "2")
    assert json.loads((run / "result.json").read_text())["predictions"]["model"] == "yes-model"
    assert len((run / "questions.jsonl").read_text().splitlines()) == 4
    again = invoke(data, "-o", run, "--json")
    assert again.stdout == first.stdout
    assert model.loaded == 1


def test_the_predictions_of_another_system(data: Path, tmp_path: Path, model: YesModel) -> None:
    theirs = answer_file(tmp_path, {"0": "Yes.", "1": "not", "2": "the left lung", "3": "two"})
    result = invoke(data, "--predictions", theirs)
    assert result.exit_code == 0, result.output
    assert "closed ACC" in result.stdout
    assert "1.000" in result.stdout
    assert model.loaded == 0


def test_scoring_needs_no_model_and_no_torch(data: Path, tmp_path: Path) -> None:
    theirs = answer_file(tmp_path, dict.fromkeys("0123", "yes"))
    script = (
        "import sys\nfrom biod2c_cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'openai'} & set(sys.modules)\n"
        "sys.exit(code or (1 if heavy else 0))"
    )
    args = ["evaluate", str(data), "--predictions", str(theirs), "-o", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_file_is_resumed(data: Path, tmp_path: Path, model: YesModel) -> None:
    path = tmp_path / "p.jsonl"
    whole = invoke(data, "--predictions", path, "--model", "mine", "--json")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]) + '{"id": "2', "utf-8")
    resumed = invoke(data, "--predictions", path, "--json")
    assert resumed.stdout == whole.stdout
    assert model.loaded == 2
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"0": "a", "1": "a", "2": "a"}, "theirs.jsonl:3: the file ends without"),
        (dict.fromkeys("01239", "a"), "theirs.jsonl:5: id '9' is not a question"),
    ],
)
def test_predictions_that_do_not_fit(
    data: Path, tmp_path: Path, answers: dict[str, str], said: str
) -> None:
    result = invoke(data, "--predictions", answer_file(tmp_path, answers))
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--profile", "mine"], "unknown profile 'mine'"),
        (["--split", "train"], "no record of split 'train'"),
        ([], "no place for the predictions"),
    ],
)
def test_bad_options(data: Path, tmp_path: Path, args: list[str], said: str) -> None:
    result = invoke(data, *args, *(["-o", tmp_path / "run"] if args else []))
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_control_with_shuffled_images(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    args = ("--predictions", path, "--model", "mine", "--shuffle-images")
    assert invoke(data, *args, 3).exit_code == 0
    manifest = json.loads((tmp_path / "p.jsonl.manifest.json").read_text())
    assert manifest["shuffle_seed"] == 3
    mixed = invoke(data, *args, 4)
    assert mixed.exit_code == 2
    assert "shuffle_seed" in mixed.stderr


def test_two_systems_against_each_other(data: Path, tmp_path: Path) -> None:
    a = answer_file(tmp_path, {"0": "yes", "1": "no", "2": "left lung", "3": "2"})
    b = a.rename(tmp_path / "a.jsonl").with_name("b.jsonl")
    answer_file(tmp_path, {"0": "yes", "1": "yes", "2": "lung", "3": "2"}).rename(b)
    args = ("compare", data, tmp_path / "a.jsonl", b)
    result = json.loads(invoke(*args, "--json").stdout)
    assert result["closed_accuracy"]["difference"] == 0.5
    assert result["open_accuracy"]["second"] == 0.5
    assert "p (Holm)" in invoke(*args).stdout


def test_training_records_give_baselines_and_a_contamination_check(
    data: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    train = [row | {"split": "train", "id": f"t{row['id']}"} for row in rows[:2]]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows + train), "utf-8")
    result = invoke(data, "-o", tmp_path / "run", "--json")
    found = json.loads(result.stdout)
    assert found["contamination"]["seen_images"] == 2
    assert found["contamination"]["repeated_questions"] == 2
    assert found["unseen_images_only"]["open_accuracy"]["questions"] == 2
    assert set(found["baselines"]) == {"majority", "question_only"}
    shown = invoke(data, "-o", tmp_path / "run")
    assert "2 of 4 test images are also in the training records" in shown.stderr
    assert "majority" in shown.stdout


def test_results_side_by_side(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text().replace('"toy"', '"vqa-rad"'), "utf-8")
    assert invoke(data, "-o", tmp_path / "run").exit_code == 0
    shown = invoke("table", f"ours={tmp_path / 'run'}", "--format", "markdown")
    assert shown.exit_code == 0, shown.output
    assert "| BioD2C (published) | ours |" in shown.stdout
    assert "| RAD-VQA | closed ACC |" in shown.stdout
    assert "BioD2C" in invoke("table", tmp_path / "run").stdout
    assert json.loads(invoke("table", tmp_path / "run", "--format", "json").stdout)["rows"]
    assert r"\toprule" in invoke("table", tmp_path / "run", "--format", "latex").stdout
    bad = invoke("table", tmp_path / "run", "--format", "pdf")
    assert (bad.exit_code, bad.stdout) == (2, "")


def judge_reply(request: dict[str, Any]) -> str:
    said = json.loads(request["messages"][1]["content"])["model's answer"]
    value = 9 if said == "yes" else 2
    return json.dumps(dict.fromkeys(["reasonableness", "accuracy", "similarity", "score"], value))


def test_a_judge_and_people(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    run, human = tmp_path / "run", tmp_path / "human.csv"
    theirs = answer_file(tmp_path, {"0": "yes", "1": "yes", "2": "right", "3": "7"})
    args = (data, "--predictions", theirs, "-o", run, "--judge", "gpt")
    with FakeEndpoint(reply=judge_reply, script=["refusal"]) as endpoint:
        partial = invoke(*args, "--base-url", endpoint.base_url)
    assert partial.exit_code == 3
    assert "left 1 answer unscored (refusal 1)" in partial.stderr
    assert "judge: score / 10" in partial.stdout
    judge = json.loads((run / "result.json").read_text())["judge"]
    assert (judge["scored"], judge["unscored"]) == (3, 1)
    human.write_text("id,mark\n0,10\n1,8\n2,1\n3,2\n", "utf-8")
    agreed = invoke("agree", run / "judge.jsonl", human, "--second-column", "mark", "--json")
    assert json.loads(agreed.stdout)["answers"] == 3
    assert "ICC(2,1)" in invoke("agree", run / "judge.jsonl", run / "judge.jsonl").stdout
    homeless = invoke(data, "--predictions", theirs, "--judge", "gpt")
    assert homeless.exit_code == 2
    assert "a judge needs a folder" in homeless.stderr


def test_a_model_behind_an_endpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr(evaluate, "_load_model", real_load_model)
    asked = []

    def answer(request: dict[str, Any]) -> str:
        picture, text = request["messages"][1]["content"]
        assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
        asked.append(text["text"])
        return " Yes. "

    with FakeEndpoint(reply=answer, script=["refusal", "400"]) as endpoint:
        args = (data, "-o", tmp_path / "run", "--model", "openai:eye", "--json")
        args = (*args, "--base-url", endpoint.base_url)
        partial = invoke(*args)
        assert partial.exit_code == 3
        assert "1 of 4 questions have no answer, the first because of bad_request" in partial.stderr
        whole = invoke(*args)
    assert whole.exit_code == 0, whole.output
    assert len(asked) == 3  # the refusal is an answer, and an empty one
    predictions = (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()
    assert sorted(json.loads(row)["answer"] for row in predictions) == ["", "Yes.", "Yes.", "Yes."]
    assert json.loads(whole.stdout)["predictions"]["model"] == "eye"


def test_what_no_reply_of_a_convention_s_judge_came_to_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as wrong, as in the tool, but not in silence."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    theirs = answer_file(tmp_path, {"0": "yes", "1": "yes", "2": "right", "3": "7"})
    args = (data, "--predictions", theirs, "-o", tmp_path / "run", "--judge", "gpt")
    with FakeEndpoint(script=["400"]) as endpoint:
        judge = ("--profile", "medevalkit-judge", "--base-url", endpoint.base_url, "--json")
        first, again = (invoke(*args, *judge) for _ in range(2))
    assert first.exit_code == 3
    assert "the judge sent no reply about 1 answer, counted as wrong" in first.stderr
    assert json.loads(first.stdout)["profile"]["judge"]["failed"] == 1
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["profile"]["judge"]["failed"] == 0


def test_what_a_judge_costs_is_said_before_during_and_after(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an open model, whose price is the user's to say."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    theirs = answer_file(tmp_path, dict.fromkeys("0123", "yes"))
    args = (data, "--predictions", theirs, "-o", tmp_path / "run", "--judge", "open-judge")
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {open-judge: {input: 1000, output: 1000}}\n")
    with FakeEndpoint() as endpoint:
        asked = (*args, "--base-url", endpoint.base_url)
        poor = invoke(*asked, "--prices", prices, "--budget", 0.01)
        assert poor.exit_code == 4
        shown = invoke(*asked, "--prices", prices)
        again = invoke(*asked, "--json")
    assert shown.exit_code == 0, shown.output
    before = re.search(
        r"4 requests to send, about ([\d.]+) USD, at most ([\d.]+) USD", shown.stderr
    )
    after = re.search(r"judge open-judge: ([\d.]+) USD spent", shown.stderr)
    assert before
    assert after
    assert 0.5 < float(after[1]) / float(before[1]) < 1.5
    assert float(after[1]) < float(before[2])
    assert "judge: 1 of 4 answers, 0." in shown.stderr
    assert "requests to send" not in again.stderr
    assert json.loads(again.stdout)["judge"]["usd"] is None  # without the table nobody knows
    assert json.loads(again.stdout)["judge"]["scored"] == 4


def test_a_model_behind_an_endpoint_about_other_pictures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One journal and one budget for all pictures; a run that was stopped pays nothing twice."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr(evaluate, "_load_model", real_load_model)
    asked: list[int] = []

    def answer(request: dict[str, Any]) -> str:
        asked.append(len(request["messages"][1]["content"]))
        return "yes"

    args = (data, "-o", tmp_path / "run", "--model", "openai:gpt-4o", "--controls", "--json")
    with FakeEndpoint(reply=answer) as endpoint:
        args = (*args, "--base-url", endpoint.base_url)
        poor = invoke(*args, "--budget", 0.02)
        assert poor.exit_code == 4, poor.output
        stopped = len(asked)
        whole = invoke(*args, "--budget", 10)
    assert whole.exit_code == 0, whole.output
    assert 0 < stopped < len(asked)
    groups = json.loads(whole.stdout)["controls"]["groups"]
    assert list(groups[0]["accuracy"]) == ["own", "other", "blank", "noise", "none"]
    assert groups[0]["reliance"]["difference"] == groups[0]["sensitivity"]["value"] == 0
    # all ask "What?": four own pictures, other ones are the same requests, a blank one, four of noise
    assert sorted(asked) == [1] + [2] * (4 + 1 + 4)


def test_a_model_behind_an_endpoint_runs_on_no_gpu(data: Path, tmp_path: Path) -> None:
    result = invoke(data, "-o", tmp_path / "run", "--model", "openai:eye", "--gpus", 2)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "openai:eye runs on no device here" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--repeat", 3), "without a temperature every repetition gives the same answers"),
        (("--temperature", "nan"), "the temperature is nan"),
        (("--temperature", -1), "the temperature is -1"),
        (("--temperature", 0.7), "the answers of yes-model cannot be drawn"),
        (("--prompt", "exact"), "no prompt of 'exact' is known"),
        (("--profile", "all", "--controls"), "--controls does not go with it"),
        (("--profile", "all", "--mask-text"), "--mask-text does not go with it"),
        (
            ("--profile", "vlmevalkit-judge", "--judge", "j", "--controls"),
            "would ask its judge about",
        ),
        (("--consistency",), "no question fits a rule for other words"),
    ],
)
def test_what_cannot_be_asked(
    data: Path, tmp_path: Path, options: Sequence[Any], said: str
) -> None:
    result = invoke(data, "-o", tmp_path / "run", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_controls_are_shown(data: Path, tmp_path: Path) -> None:
    shown = invoke(data, "-o", tmp_path / "run", "--controls", "--limit", 3)
    assert shown.exit_code == 0, shown.output
    assert "another question's image" in shown.stdout
    assert "Reliance +0.000" in shown.stderr
    assert "Not asked, no image: yes-model takes no question without a picture" in shown.stderr
    assert "only the first 3 of 4 questions" in shown.stderr


def test_help_is_about_scoring() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert "--predictions" in result.stdout


def test_every_convention_side_by_side(data: Path, tmp_path: Path) -> None:
    theirs = answer_file(tmp_path, {"0": "Yes.", "1": "yes", "2": "the left lung", "3": "two"})
    run = tmp_path / "run"
    args = (data, "--predictions", theirs, "--profile", "all")
    shown = invoke(*args, "-o", run)
    assert shown.exit_code == 0, shown.output
    for name in ("multimedeval 2", "medevalkit 1", "llava-med-2023 1", "lmms-slake 1"):
        assert name in shown.stdout
    result = json.loads(invoke(*args, "--json").stdout)
    assert result == json.loads((run / "profiles.json").read_text())
    by_name = {profile["name"]: profile for profile in result["profiles"]}
    assert by_name["medevalkit"]["scores"]["open_exact"]["value"] == 0
    assert by_name["multimedeval"]["scores"]["open_accuracy"]["value"] == 1
    assert "mmmu" not in by_name  # there are no choices
    assert result["need_a_judge"] == ["medevalkit-judge", "vlmevalkit-judge"]
    refused = invoke(*args, "-o", run, "--judge", "gpt")
    assert refused.exit_code == 2
    assert "asks no judge" in refused.stderr


def test_a_convention_with_a_judge(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    theirs = answer_file(tmp_path, {"0": "Yes.", "1": "yes", "2": "Left lung", "3": "two"})
    args = (data, "--predictions", theirs, "--profile", "medevalkit-judge")
    without = invoke(*args)
    assert without.exit_code == 2
    assert "come from a judge" in without.stderr
    with FakeEndpoint() as endpoint:
        run = (*args, "-o", tmp_path / "run", "--judge", "gpt", "--base-url", endpoint.base_url)
        shown = invoke(*run)
        again = invoke(*run, "--json")
    assert shown.exit_code == 0, shown.output
    assert "depend on the judge gpt" in shown.stderr
    scores = json.loads(again.stdout)["scores"]
    assert [scores[key]["value"] for key in ("closed_accuracy", "open_accuracy", "accuracy")] == [
        0.5
    ] * 3


def test_a_leaderboard(data: Path, tmp_path: Path) -> None:
    for name, said in (("a", "yes"), ("b", "no")):
        theirs = answer_file(tmp_path, dict.fromkeys("0123", said))
        assert invoke(data, "--predictions", theirs, "-o", tmp_path / name).exit_code == 0
    page = tmp_path / "board.html"
    runs = (f"first={tmp_path / 'a'}", f"second={tmp_path / 'b'}")
    shown = invoke("table", *runs, "--leaderboard", page)
    assert shown.exit_code == 0, shown.output
    assert "first" in page.read_text("utf-8")
    boards = json.loads(invoke("table", *runs, "--leaderboard", page, "--format", "json").stdout)
    assert [entry["name"] for entry in boards[0]["entries"]] == ["first", "second"]
    assert invoke("table", *runs, "--published", page).exit_code == 2


def test_confidences_are_assessed(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shown = invoke(data, "-o", run)
    assert "accuracy of the surest 80%" in shown.stdout
    found = json.loads((run / "result.json").read_text())["confidence"]
    assert (found["questions"], found["area"]["value"]) == (4, 0.75)
    assert "Risk against coverage" in (run / "report.html").read_text("utf-8")
    assert "accuracy of the surest 60%" in (run / "report.md").read_text("utf-8")


def test_a_mistyped_predictions_file_is_not_made(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "theris.jsonl"
    result = invoke(data, "--predictions", path)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: no predictions at {path}. Check the name; or name a model to write them (the "
        "embedded one: -m biod2c-tiny).\n"
    )
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".jsonl", *[".png"] * 4]


class Reader:
    """Finds a name in the two pictures with the most red, and where it has been masked no more."""

    identity = "reader 1"

    def read(self, picture: Image.Image) -> list[FoundText]:
        red = picture.getpixel((0, 0))[0]
        return [FoundText("L", ShareBox((0.0, 0.0, 0.5, 0.5)), 0.9)] if red > 100 else []


class SeesRed(YesModel):
    """Says "left lung" to what is red, else "no"; counts what it is asked."""

    asked = 0

    def answer_images(self, images: Sequence[Any], questions: Sequence[Any]) -> list[Any]:
        self.asked += len(questions)
        red = [images[index].getpixel((0, 0))[0] > 100 for index, _ in questions]
        return [SimpleNamespace(text="left lung" if r else "no", confidence=None) for r in red]


@pytest.fixture
def sees_red(monkeypatch: pytest.MonkeyPatch) -> SeesRed:
    model = SeesRed()
    monkeypatch.setattr(evaluate, "_load_model", lambda *_, **__: model)
    monkeypatch.setattr(burnt_text, "TextReader", Reader)
    return model


def test_the_control_with_masked_text(data: Path, tmp_path: Path, sees_red: SeesRed) -> None:
    run = tmp_path / "run"
    result = invoke(data, "-o", run, "--mask-text")
    assert result.exit_code == 0, result.output
    masked = json.loads((run / "result.json").read_text())["masked_text"]
    assert (masked["images"], masked["images_with_text"], masked["questions"]) == (4, 2, 2)
    everything, about_text = masked["all_questions"], masked["about_text"]
    assert everything["closed_accuracy"]["difference"] == 0
    # of "Left lung" and "2", asked about red pictures, the first was right and is "no" when masked
    open_accuracy = everything["open_accuracy"]
    assert (open_accuracy["first"], open_accuracy["second"]) == (0.5, 0.0)
    assert open_accuracy["low"] <= 0.5 <= open_accuracy["high"]
    assert about_text["open_accuracy"] == {**open_accuracy, "p_adjusted": 1.0}
    assert "closed_accuracy" not in about_text
    assert sees_red.asked == 4 + 2  # pictures without text are not asked about again
    said = "Text masked in 2 of 4 images (2 questions)"
    assert said in result.stderr
    assert said in (run / "report.md").read_text()
    assert not any("pictures" in path.name for path in run.iterdir())
    again = invoke(data, "-o", run, "--mask-text", "--json")
    assert json.loads(again.stdout)["masked_text"] == masked
    assert sees_red.asked == 6


@pytest.mark.usefixtures("sees_red")
def test_masked_text_needs_the_model_that_answered(data: Path, tmp_path: Path) -> None:
    theirs = answer_file(tmp_path, dict.fromkeys("0123", "yes"))
    result = invoke(data, "--predictions", theirs, "--mask-text")
    assert result.exit_code == 2
    assert "answers of another system" in result.stderr
    shuffled = invoke(data, "-o", tmp_path / "run", "--mask-text", "--shuffle-images", 1)
    assert shuffled.exit_code == 2
    assert "about other questions' images" in shuffled.stderr


def test_other_weights_under_the_same_name_are_not_compared(
    data: Path, tmp_path: Path, sees_red: SeesRed
) -> None:
    assert invoke(data, "-o", tmp_path / "run").exit_code == 0
    sees_red.identity = "2"
    result = invoke(data, "-o", tmp_path / "run", "--mask-text")
    assert result.exit_code == 2
    assert "those with text masked are of" in result.stderr


@pytest.mark.parametrize("profile", ["probmed", "all"])
def test_totals_of_a_profile_are_shown(profile: str, tmp_path: Path) -> None:
    rows = [("modality_gt", "yes"), ("modality_hallu", "no"), ("entity_gt_0", "yes")]
    rows += [("entity_hallu_0", "no")]
    lines, said = [], []
    for number, (kind, gold) in enumerate(rows):
        tags = {"qa_type": kind, "image_type": "ct"}
        row = {"id": str(number), "image": "0.png", "question": "?", "answer": gold, "tags": tags}
        lines.append(json.dumps(row) + "\n")
        said.append(json.dumps({"id": str(number), "answer": "yes" if number < 3 else "no"}) + "\n")
    (tmp_path / "records.jsonl").write_text("".join(lines))
    (tmp_path / "said.jsonl").write_text("".join(said))
    options = ("--split", "all", "--predictions", tmp_path / "said.jsonl", "--profile", profile)
    result = invoke(tmp_path / "records.jsonl", *options)
    assert result.exit_code == 0, result.stderr
    shown = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    found = {row[-5 if profile == "all" else 1]: row for row in shown if len(row) > 4}
    # the pair of modality is half right, that of entity wholly
    assert "0.500" in found["ProbMed ACC"]
    assert "1.000" in found["ProbMed ACC w/o adversary"]


def test_multiple_choice_has_a_table_of_its_letters(data: Path, tmp_path: Path) -> None:
    tags = {"choice_a": "lung", "choice_b": "liver", "choice_c": "brain", "answer_label": "B"}
    rows = [
        {**json.loads(line), "answer": "liver", "tags": tags}
        for line in data.read_text("utf-8").splitlines()
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    theirs = answer_file(tmp_path, {"0": "A", "1": "B", "2": "a liver", "3": "A"})
    run = tmp_path / "run"
    options = ("--predictions", theirs, "--profile", "medevalkit-mcq", "-o", run)
    result = invoke(data, *options)
    assert result.exit_code == 0, result.output
    assert "Letters" in result.stdout
    found = json.loads((run / "result.json").read_text())["position_bias"]
    assert [each["chosen"] for each in found["positions"]] == [2, 1, 0]
    assert found["unread"] == 1
    assert "choice ACC" in (run / "report.md").read_text()
    assert "<h2>Letters</h2>" in (run / "report.html").read_text()
