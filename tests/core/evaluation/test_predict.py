"""Predicting: resumed without loss or repetition, each image read once, the shuffled control."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_answerer import FakeModel, load_fake, make_data
from hypothesis import given
from hypothesis import strategies as st

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError, RecordError
from biod2c_core.evaluation.evaluate import _check_same_data
from biod2c_core.evaluation.predict import predict as predicting
from biod2c_core.evaluation.predict.asking import Asking
from biod2c_core.evaluation.predict.predict import batches_by_image, predict, shuffle_images
from biod2c_core.evaluation.predict.predictions_file import (
    Prediction,
    PredictionLog,
    check_complete,
    manifest_path,
    read_manifest,
    read_predictions,
    shard_path,
    split_checksum,
)
from biod2c_core.evaluation.predict.prompts import check_prompt
from biod2c_core.evaluation.predict.sharding import Job, absorb_shards, predict_on


def test_every_question_is_answered_about_its_image(tmp_path: Path) -> None:
    records, model = make_data(tmp_path), FakeModel()
    predict(model, records, tmp_path, tmp_path / "p.jsonl")
    result = read_predictions(tmp_path / "p.jsonl")
    assert set(result) == {record.id for record in records}
    for i, record in enumerate(records):
        assert result[record.id].answer == f"question {i}? {10 * (i * 7 % 6)}"
    check_complete(records, read_predictions(tmp_path / "p.jsonl"), "p")


def test_an_image_is_decoded_once_for_all_its_questions(tmp_path: Path) -> None:
    records, model = make_data(tmp_path, images=4, questions=32), FakeModel()
    predict(model, records, tmp_path, tmp_path / "p.jsonl")
    assert model.images_seen == 4


class Squares(FakeModel):
    """A model that says in which size it sees pictures."""

    picture_side, on_gpu = 4, True

    def answer_images(self, images: Any, questions: Any) -> Any:
        assert {image.size for image in images} == {(4, 4)}
        return super().answer_images(images, questions)


def test_pictures_may_be_read_ahead_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_data(tmp_path)
    answers = []
    for workers in (0, 1):
        path = tmp_path / f"{workers}.jsonl"
        predict(Squares(), records, tmp_path, path, workers=workers)
        answers.append(read_predictions(path))
    assert answers[0] == answers[1]
    asked: list[int] = []

    def here(read: Any, names: Any, workers: int) -> Any:
        asked.append(workers)
        return map(read, names)

    monkeypatch.setattr(predicting, "read_ahead", here)
    monkeypatch.setattr(predicting, "spare_cores", lambda busy, processes: 5 - busy)
    predict(Squares(), records, tmp_path, tmp_path / "gpu.jsonl")
    predict(FakeModel(), records, tmp_path, tmp_path / "plain.jsonl", workers=3)
    assert asked == [4, 0]  # whole pictures are not passed between processes


def test_a_model_is_shown_the_choices(tmp_path: Path) -> None:
    record, model = make_data(tmp_path, questions=1)[0], FakeModel()
    record = replace(record, tags={"choice_a": "liver", "choice_b": "lung", "organ": "chest"})
    predict(model, [record], tmp_path, tmp_path / "p.jsonl")
    assert model.asked == ["question 0? Choices: A: liver B: lung"]


CHOICES = {"choice_a": "liver", "choice_b": "lung"}


@pytest.mark.parametrize(
    ("prompt", "record", "asked"),
    [
        ("medevalkit", Record("1", "0.png", "Why?", "Yes"), "Why?\nPlease output 'yes' or 'no'("),
        ("medevalkit", Record("1", "0.png", "Why?", "so"), "Why?\nPlease answer the question con"),
        (
            "medevalkit-slake",
            Record("1", "0.png", "Why?", "yes", "CLOSED"),
            "Why?\nAnswer the question using a single word",
        ),
        ("lmms-slake", Record("1", "0.png", "Why?", "so"), "Why?\nAnswer the question using a si"),
        (
            "medevalkit-mcq",
            Record("1", "0.png", "Why?", "A", tags=CHOICES),
            "\nQuestion: Why?\nOptions: \nA. liver\nB. lung\nAnswer with the option's letter",
        ),
        (
            "vlmevalkit-mcq",
            Record("1", "0.png", "Why?", "A", tags=CHOICES),
            "Question: Why?\nOptions:\nA. liver\nB. lung\nPlease select the correct answer",
        ),
    ],
)
def test_a_question_in_the_words_of_a_convention(
    tmp_path: Path, prompt: str, record: Record, asked: str
) -> None:
    make_data(tmp_path, questions=1)
    model, path = FakeModel(), tmp_path / "p.jsonl"
    predict(model, [record], tmp_path, path, asking=Asking(prompt=prompt))
    assert model.asked[0].startswith(asked)
    with pytest.raises(InputError, match=f"was begun with prompt '{prompt}', this run has None"):
        predict(model, [record], tmp_path, path)


def test_a_prompt_that_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"no prompt of 'exact' is known.*medevalkit"):
        check_prompt("exact", [])
    with pytest.raises(InputError, match="for choices, and 'q' has none"):
        check_prompt("medevalkit-mcq", [Record("q", "x.png", "?", "a")])


@pytest.mark.parametrize("patience", [0, 1, 2])
@pytest.mark.parametrize("torn", [b"", b'{"id": "q', b'{"id": "q1", "answer": "\xff'])
def test_killed_and_resumed(tmp_path: Path, patience: int, torn: bytes) -> None:
    records, path = make_data(tmp_path, questions=80), tmp_path / "p.jsonl"
    first, second = FakeModel(patience), FakeModel()
    with pytest.raises(KeyboardInterrupt):
        predict(first, records, tmp_path, path)
    with path.open("ab") as file:
        file.write(torn)
    done = []
    predict(second, records, tmp_path, path, advance=done.append)
    result = read_predictions(path)
    assert Counter(first.asked + second.asked) == Counter(record.question for record in records)
    assert len(path.read_text("utf-8").splitlines()) == 80
    assert len(result) == sum(done) == 80
    predict(FakeModel(), records, tmp_path, tmp_path / "whole.jsonl")
    uninterrupted = read_predictions(tmp_path / "whole.jsonl")
    assert {key: row.answer for key, row in result.items()} == {
        key: row.answer for key, row in uninterrupted.items()
    }


SCRIPT = [sys.executable, str(Path(__file__).with_name("fake_answerer.py"))]


def test_killed_by_the_system_at_any_moment(tmp_path: Path) -> None:
    path, records = tmp_path / "p.jsonl", make_data(tmp_path, 40, 400)
    script = [*SCRIPT, str(tmp_path), "alone"]
    for wanted in (1, 150, 300):
        with subprocess.Popen(script) as process:
            while process.poll() is None:
                if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                    process.kill()
                time.sleep(0.001)
    assert process.returncode == -signal.SIGKILL
    before = path.read_bytes().count(b"\n")
    assert 300 <= before < 400
    model = FakeModel()
    predict(model, records, tmp_path, path)
    assert len(model.asked) <= 400 - before + 1  # a torn line is asked again
    ids = [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()]
    assert sorted(ids) == sorted(record.id for record in records)


def make_job(folder: Path, checkpoint: str = "a", shuffle_seed: int | None = None) -> Job:
    records = make_data(folder, images=30, questions=300)
    return Job(load_fake, checkpoint, records, folder, folder / "p.jsonl", shuffle_seed)


@pytest.mark.parametrize(
    ("shuffle_seed", "asking"), [(None, Asking()), (5, Asking("noise", prompt="lmms-slake"))]
)
def test_two_processes_give_what_one_gives(
    tmp_path: Path, shuffle_seed: int | None, asking: Asking
) -> None:
    job, done = replace(make_job(tmp_path, shuffle_seed=shuffle_seed), asking=asking), []
    predict_on(["cpu", "cpu"], job, done.append)
    alone = tmp_path / "alone.jsonl"
    model = load_fake("a", "cpu")
    predict(model, job.records, tmp_path, alone, shuffle_seed=shuffle_seed, asking=asking)
    found, expected = read_predictions(job.path), read_predictions(alone)
    assert {k: v.answer for k, v in found.items()} == {k: v.answer for k, v in expected.items()}
    assert sum(done) == 300
    assert sorted(path.name for path in tmp_path.glob("p.jsonl*")) == [
        "p.jsonl",
        "p.jsonl.manifest.json",
    ]


def test_a_run_on_several_devices_resumes(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    for index in range(3):  # three processes, killed after some batches
        model = load_fake("a", "cpu")
        model.patience = 2
        with pytest.raises(KeyboardInterrupt):
            predict(model, job.records, tmp_path, job.path, shard=(index, 3))
    with shard_path(job.path, 1).open("ab") as file:
        file.write(b'{"id": "q')
    absorb_shards(job.path)
    assert len(read_predictions(job.path)) == 3 * 2 * 30
    with job.path.open("ab") as file:
        file.write(b'{"id": "q')
    predict_on(["cpu", "cpu"], job)
    assert sorted(read_predictions(job.path)) == sorted(record.id for record in job.records)
    assert len(job.path.read_text("utf-8").splitlines()) == 300


def test_the_processes_of_a_killed_run_end_and_leave_their_answers(tmp_path: Path) -> None:
    path, shards = tmp_path / "p.jsonl", [shard_path(tmp_path / "p.jsonl", i) for i in range(2)]
    with subprocess.Popen([*SCRIPT, str(tmp_path), "sharded"]) as process:
        while not all(shard.exists() and shard.stat().st_size for shard in shards):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    for _ in range(3000):  # until the processes have let their files go
        try:
            absorb_shards(path)
            break
        except InputError:
            time.sleep(0.01)
    before = len(read_predictions(path))
    assert 60 <= before < 400  # a batch each, at least
    model = FakeModel()
    predict(model, make_data(tmp_path, 40, 400), tmp_path, path)
    assert len(model.asked) == 400 - before
    assert len(path.read_text("utf-8").splitlines()) == 400


def test_processes_with_another_model_are_refused(tmp_path: Path) -> None:
    predict_on(["cpu"] * 2, make_job(tmp_path, "a"))
    before = (tmp_path / "p.jsonl").read_bytes()
    with pytest.raises(InputError, match="was begun with identity 'weights of a'"):
        predict_on(["cpu"] * 2, make_job(tmp_path, "b"))
    assert (tmp_path / "p.jsonl").read_bytes() == before
    manifest = read_manifest(tmp_path / "p.jsonl")
    assert manifest is not None
    assert manifest["identity"] == "weights of a"


@pytest.mark.parametrize("change", ["model", "data", "shuffle"])
def test_another_run_is_refused(tmp_path: Path, change: str) -> None:
    records, path, model = make_data(tmp_path), tmp_path / "p.jsonl", FakeModel()
    predict(model, records, tmp_path, path)
    before = path.read_bytes()
    model.identity = "beef" if change == "model" else model.identity
    records = records[1:] if change == "data" else records
    with pytest.raises(InputError, match="was begun with"):
        predict(model, records, tmp_path, path, shuffle_seed=1 if change == "shuffle" else None)
    assert path.read_bytes() == before


def test_the_file_of_another_system_is_never_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "q0", "answer": "mine"}\n', "utf-8")
    with pytest.raises(InputError, match="not written by this command"):
        predict(FakeModel(), make_data(tmp_path), tmp_path, path)
    assert not manifest_path(path).exists()


def test_the_familiarity_of_a_picture_is_kept_beside_the_answer(tmp_path: Path) -> None:
    with PredictionLog(tmp_path / "p.jsonl", {"identity": "m"}) as log:
        log.append([Prediction("1", "lung", 0.5, familiarity=0.25), Prediction("2", "lung", 0.5)])
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row.get("familiarity") for row in rows] == [0.25, None]
    found = read_predictions(tmp_path / "p.jsonl")
    assert [found[name].familiarity for name in "12"] == [0.25, None]


def test_half_characters_of_an_answer_never_end_a_run(tmp_path: Path) -> None:
    """Neither of our own answers nor of another system's: no endpoint or tokenizer takes them."""
    with PredictionLog(tmp_path / "p.jsonl", {"identity": "m"}) as log:
        log.append([Prediction("1", "a \ud83d b", 0.5)])
    (tmp_path / "p.jsonl").read_text("utf-8")
    assert read_predictions(tmp_path / "p.jsonl")["1"].answer == "a \ufffd b"


def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    records, path = make_data(tmp_path), tmp_path / "p.jsonl"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="in use by another run"):
            predict(FakeModel(), records, tmp_path, path)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 9))
def test_shuffled_images_are_other_images(images: list[int], seed: int) -> None:
    records = [Record(str(i), f"{image}.png", "?", "a") for i, image in enumerate(images)]
    if records and 2 * max(Counter(images).values()) > len(images):
        with pytest.raises(InputError, match="share one image"):
            shuffle_images(records, seed)
        return
    shuffled = shuffle_images(records, seed)
    assert shuffled == shuffle_images(records, seed)
    assert Counter(r.image for r in shuffled) == Counter(r.image for r in records)
    assert all(a.image != b.image for a, b in zip(records, shuffled, strict=True))
    assert [r.id for r in shuffled] == [r.id for r in records]


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 8))
def test_batches_keep_every_question_once(images: list[int], size: int) -> None:
    records = [Record(str(i), f"{image}.png", "?") for i, image in enumerate(images)]
    batches = list(batches_by_image(records, size))
    assert sorted(int(r.id) for batch in batches for r in batch) == list(range(len(images)))
    assert all(0 < len(batch) <= size for batch in batches)


@pytest.mark.parametrize(
    ("lines", "place", "reason"),
    [
        (['{"id": "a", "answer": "x"}', '{"id": "b", "answer": "x"}'], 2, "'b' is not a question"),
        (['{"id": "a", "answer": "x"}'] * 2, 2, "already answered on line 1"),
        ([""], 0, "without a prediction for id 'a'"),
        (['{"answer": "x"}'], 1, "no field 'id'"),
        (['{"id": "a"}'], 1, "no field 'answer'"),
        (['{"id": "a", "answer": ["x"]}'], 1, "must be text"),
        (['{"id": true, "answer": "x"}'], 1, "the id must be"),
        (['{"id": "a", "answer": "x", "confidence": "high"}'], 1, "must be a number"),
        (['{"id": "a", "answer": "x", "confidence": NaN}'], 1, "not JSON, which has no NaN"),
        (['{"id": "a", "answer": "x", "confidence": -1e999}'], 1, "must be a number"),
        (["[]"], 1, "expected a JSON object"),
        (["{"], 1, "not JSON"),
    ],
)
def test_a_bad_predictions_file(tmp_path: Path, lines: list[str], place: int, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(RecordError, match=reason) as caught:
        check_complete([Record("a", "x.png", "?", "x")], read_predictions(path), path)
    assert str(caught.value).startswith(f"{path}:{place}: ")


def test_rows_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [
        {"question_id": 7, "text": "lung", "model_id": "llava"},
        {"id": "8", "answer": None},
        {"id": "9", "answer": 3},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = read_predictions(path)
    assert found["7"] == Prediction("7", "lung", None, 1)
    assert (found["8"].answer, found["9"].answer) == ("", "3")


def test_the_checksum_knows_content_but_not_order() -> None:
    a, b = Record("1", "x.png", "?", "yes"), Record("2", "y.png", "?", "no")
    assert split_checksum([a, b]) == split_checksum([b, a])
    assert split_checksum([a, b]) != split_checksum([a, Record("2", "y.png", "?", "yes")])


def swap_pixels(root: Path, image: str) -> None:
    """The same name and size, other content."""
    data = bytearray((root / image).read_bytes())
    data[-20] ^= 1
    (root / image).write_bytes(data)


def test_predictions_for_other_pictures_of_the_same_names_are_neither_resumed_nor_scored(
    tmp_path: Path,
) -> None:
    records, path = make_data(tmp_path), tmp_path / "p.jsonl"
    predict(FakeModel(), records, tmp_path, path)
    predict(FakeModel(), records, tmp_path, path)  # nothing has changed
    manifest = read_manifest(path)
    _check_same_data(path, manifest, records, tmp_path)
    swap_pixels(tmp_path, records[0].image)
    with pytest.raises(InputError, match="was begun with other pictures of these names"):
        predict(FakeModel(), records, tmp_path, path)
    with pytest.raises(InputError, match="predictions for other pictures"):
        _check_same_data(path, manifest, records, tmp_path)
    (tmp_path / records[0].image).unlink()  # scoring needs no picture
    _check_same_data(path, manifest, records, tmp_path)


def test_predictions_of_earlier_versions_know_no_pictures_and_go_on(tmp_path: Path) -> None:
    records, path = make_data(tmp_path), tmp_path / "p.jsonl"
    predict(FakeModel(), records, tmp_path, path)
    manifest = read_manifest(path) or {}
    del manifest["pictures"]
    manifest_path(path).write_text(json.dumps(manifest))
    swap_pixels(tmp_path, records[0].image)
    predict(FakeModel(), records, tmp_path, path)
    after = read_manifest(path) or {}
    assert after["pictures"] is None
    _check_same_data(path, after, records, tmp_path)


def test_a_confidence_that_is_no_number_is_left_out_of_the_file() -> None:
    for value in (float("nan"), float("inf"), None):
        assert Prediction("a", "x", value).to_row() == {"id": "a", "answer": "x"}


def test_half_a_character_in_an_answer_can_be_written_on(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "answer": "x \\ud800"}\n')
    assert read_predictions(tmp_path / "p.jsonl")["a"].answer == "x \ufffd"
