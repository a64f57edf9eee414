"""``biod2c gen-qa`` as a user runs it, against the scripted endpoint."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from biod2c_cli import app
from biod2c_core.data.records import iter_records
from biod2c_core.testing.scripted_endpoint import FakeEndpoint, default_reply

KEY = "sk-a-very-secret-key"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr("biod2c_core.llm_api.client._FIRST_BACKOFF", 0.001)
    monkeypatch.setattr("biod2c_core.llm_api.client._LONGEST_BACKOFF", 0.01)
    return


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write_records(folder: Path, count: int, **fields: Any) -> Path:
    Image.new("RGB", (600, 400), (90, 20, 30)).save(folder / "i.jpg")
    path = folder / "records.jsonl"
    with path.open("w") as file:
        for number in range(count):
            row = {
                "id": f"r{number}",
                "image": "i.jpg",
                "question": "Describe the image.",
                "caption": f"Chest CT number {number} showing a mass in the lung.",
            }
            file.write(json.dumps(row | fields) + "\n")
    return path


def run(folder: Path, endpoint: FakeEndpoint | None, *arguments: str) -> Any:
    base = ["--base-url", endpoint.base_url] if endpoint is not None else []
    files = [str(folder / "records.jsonl"), "-o", str(folder / "out.jsonl")]
    return CliRunner().invoke(app.app, ["gen-qa", *files, *base, "--timeout", "5", *arguments])


def rejected(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.rejected.jsonl").open(encoding="utf-8")]


def spilled(folder: Path) -> list[str]:
    """Files that hold the key."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.name for path in files if KEY.encode() in path.read_bytes()]


def test_pairs_become_records_and_a_second_run_pays_nothing(folder: Path) -> None:
    write_records(folder, 5, split="train", tags={"organ": "chest"})
    with FakeEndpoint(api_key=KEY) as endpoint:
        first = run(folder, endpoint, "--json")
        before = (folder / "out.jsonl").read_bytes()
        second = run(folder, endpoint, "--json")
    assert (first.exit_code, second.exit_code) == (0, 0), first.stderr
    assert len(endpoint.received()) == 5
    summary = json.loads(first.stdout)
    assert (summary["records"], summary["done"], summary["pairs"]) == (5, 5, 10)
    assert summary["usd"] > 0
    assert json.loads(second.stdout) == summary
    assert (folder / "out.jsonl").read_bytes() == before
    records = list(iter_records(folder / "out.jsonl"))
    assert [record.id for record in records[:3]] == ["r0-q1", "r0-q2", "r1-q1"]
    record = records[0]
    assert (record.image, record.answer_type, record.split) == ("i.jpg", "OPEN", "train")
    assert record.tags == {"organ": "chest", "generator": "gpt-4o"}
    assert spilled(folder) == []


def test_what_is_sent_is_the_paper_s_prompt_with_the_shrunken_image(folder: Path) -> None:
    write_records(folder, 1)
    sent: list[dict[str, Any]] = []

    def reply(request: dict[str, Any]) -> str:
        sent.append(request)
        return default_reply(request)

    with FakeEndpoint(reply=reply) as endpoint:
        assert run(folder, endpoint, "--model", "m", "--image-side", "60").exit_code == 0
    (request,) = sent
    text, image = request["messages"][0]["content"]
    assert text["text"].startswith("You are an AI assistant specialized in biomedical topics.")
    assert text["text"].endswith(
        "caption: Chest CT number 0 showing a mass in the lung., image-url: the attached image"
    )
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert len(image["image_url"]["url"]) < 3000
    assert request["response_format"]["json_schema"]["strict"] is True


def test_text_only_sends_no_image_and_needs_none(folder: Path) -> None:
    write_records(folder, 1, image="absent.png")
    with FakeEndpoint() as endpoint:
        assert run(folder, endpoint, "--text-only").exit_code == 0


def test_bad_pairs_and_records_are_kept_apart_with_the_reason(folder: Path) -> None:
    write_records(folder, 4)
    replies = [
        '["question": "What is shown?", "answer": "A rounded opacity.", "question": "What does '
        'the caption say?", "answer": "A mass."]',
        '{"pairs": [{"question": "Is it bad?", "answer": "Yes"}]}',
        "nothing of use",
        '{"pairs": [{"question": "What is shown?", "answer": "An opacity."}, {"question": '
        '"Where is it?", "answer": "In the apex."}]}',
    ]

    def reply(request: dict[str, Any]) -> str:
        number = re.search(r"CT number (\d)", json.dumps(request))
        return replies[int(number[1])]

    with FakeEndpoint(reply=reply) as endpoint:
        result = run(folder, endpoint, "--json")
    assert result.exit_code == 3, result.stderr
    reasons = Counter((row["id"], row["reason"]) for row in rejected(folder))
    assert reasons == {
        ("r0", "caption"): 1,
        ("r1", "closed"): 1,
        ("r1", "no pair"): 1,
        ("r2", "unreadable"): 1,
        ("r3", "duplicate"): 1,  # the same image was asked that by r0
    }
    kept = [record.question for record in iter_records(folder / "out.jsonl")]
    assert kept == ["What is shown?", "Where is it?"]
    assert "2 of 4 records gave no pair" in result.stderr
    assert len(endpoint.received()) == 5  # what could not be read was asked once more


def test_one_request_for_each_image_and_caption(folder: Path) -> None:
    write_records(folder, 6, caption="A mass.")
    with FakeEndpoint() as endpoint:
        assert run(folder, endpoint).exit_code == 0
    assert len(endpoint.received()) == 1


def test_missing_images_and_captions_are_reasons_not_crashes(folder: Path) -> None:
    path = write_records(folder, 2)
    lines = path.read_text().splitlines()
    broken = json.loads(lines[0]) | {"id": "broken", "image": "absent.png"}
    bare = json.loads(lines[0]) | {"id": "bare", "caption": ""}
    outside = json.loads(lines[0]) | {"id": "outside", "image": "../../etc/passwd"}
    path.write_text("\n".join([*lines, *map(json.dumps, (broken, bare, outside))]) + "\n")
    with FakeEndpoint() as endpoint:
        result = run(folder, endpoint)
    assert result.exit_code == 3
    reasons = {row["id"]: f"{row['reason']}: {row['detail']}" for row in rejected(folder)}
    assert set(reasons) == {"broken", "bare", "outside"}
    assert reasons["broken"].startswith("failed: image: image not found")
    assert reasons["bare"].startswith("no caption")
    assert reasons["outside"].startswith("failed: image:")
    assert len(endpoint.received()) == 2


def test_a_fifth_of_faults_leaves_every_record_done_or_rejected(folder: Path) -> None:
    write_records(folder, 120)
    faults = ("429", "500", "503", "cut", "garbage", "nonsense", "refusal", "empty")
    with FakeEndpoint(fault_rate=0.2, faults=faults, retry_after=0.01, seed=1) as endpoint:
        result = run(folder, endpoint, "--in-flight", "32", "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 3, result.stderr
    assert summary["done"] + summary["rejected"] == 120
    assert (summary["failed"], summary["pending"]) == (0, 0)
    assert summary["done"] > 105
    done = {record.id.rsplit("-", 1)[0] for record in iter_records(folder / "out.jsonl")}
    assert done | {row["id"] for row in rejected(folder)} == {f"r{n}" for n in range(120)}
    assert all(row["reason"] and row["detail"] for row in rejected(folder))


def test_a_missing_key_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_records(folder, 1)
    monkeypatch.delenv("OPENAI_API_KEY")
    result = run(folder, None)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "OPENAI_API_KEY is not set" in result.stderr
    assert not (folder / "out.journal.jsonl").exists()


def test_a_budget_stops_in_time_and_a_larger_one_goes_on(folder: Path) -> None:
    write_records(folder, 20)
    with FakeEndpoint() as endpoint:
        result = run(folder, endpoint, "--budget", "0.02", "--json")
        summary = json.loads(result.stdout)
        assert result.exit_code == 4
        assert 0 < summary["usd"] <= 0.02
        assert summary["done"] == len(endpoint.received()) < 20
        assert summary["done"] + summary["pending"] == 20
        assert "larger --budget" in result.stderr
        assert run(folder, endpoint, "--budget", "1").exit_code == 0
    assert len(endpoint.received()) == 20


def test_a_cent_is_not_overdrawn(folder: Path) -> None:
    write_records(folder, 20)
    with FakeEndpoint() as endpoint:
        result = run(folder, endpoint, "--budget", "0.01", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["usd"] <= 0.01


def test_a_dry_run_sends_nothing_and_needs_no_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(folder, 12)
    monkeypatch.delenv("OPENAI_API_KEY")
    with FakeEndpoint() as endpoint:
        result = run(folder, endpoint, "--dry-run", "--json", "--max-tokens", "300")
    estimate = json.loads(result.stdout)
    assert result.exit_code == 0
    assert estimate["requests"] == 12
    # 600 x 400 pixels are two tiles: 85 + 2 * 170 tokens, and the prompt
    assert 12 * (425 + 150) < estimate["prompt_tokens"] < 12 * (425 + 300)
    assert estimate["most_usd"] == pytest.approx(
        estimate["prompt_tokens"] * 2.5e-6 + 12 * 300 * 10e-6
    )
    assert endpoint.events == []
    assert sorted(path.name for path in folder.iterdir()) == ["i.jpg", "records.jsonl"]


@pytest.mark.parametrize(
    ("plays", "code"),
    [(["401"] * 99, 5), (["quota"] * 99, 5), (["400"] * 99, 3), (["500"] * 99, 3)],
)
def test_the_key_is_in_no_output_and_no_file(folder: Path, plays: list[str], code: int) -> None:
    write_records(folder, 3)
    with FakeEndpoint(script=plays) as endpoint:
        result = run(folder, endpoint, "--debug")
    assert result.exit_code == code, result.stderr
    assert KEY not in result.stdout + result.stderr
    assert "you sent" in result.stderr + (folder / "out.rejected.jsonl").read_text()
    assert spilled(folder) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--template", "absent.txt"], "cannot read the template"),
        (["--prices", "absent.yaml"], "cannot read the price table"),
        (["--model", "unknown", "--budget", "1"], "the price of 'unknown'"),
        (["--rpm", "0"], "requests per minute is 0"),
        (["--base-url", "localhost"], "not an http"),
        (["--budget", "-1"], "the budget is -1"),
    ],
)
def test_wrong_options_are_one_line(folder: Path, arguments: list[str], message: str) -> None:
    write_records(folder, 1)
    result = run(folder, None, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_batch_api_from_submission_to_pairs(folder: Path) -> None:
    write_records(folder, 6)
    with FakeEndpoint(api_key=None) as endpoint:
        submitted = run(folder, endpoint, "--batch", "submit")
        assert submitted.exit_code == 0, submitted.stderr
        assert "6 requests submitted" in submitted.stderr
        assert "0 requests submitted" in run(folder, endpoint, "--batch", "submit").stderr
        assert "in_progress" in run(folder, endpoint, "--batch", "status").stderr
        endpoint.batches.finish_all()
        collected = run(folder, endpoint, "--batch", "collect", "--json")
    assert collected.exit_code == 0, collected.stderr
    assert json.loads(collected.stdout)["done"] == 6
    assert len(list(iter_records(folder / "out.jsonl"))) == 12
    assert endpoint.events == []
    assert spilled(folder) == []


class LoggedEndpoint:
    """The fake endpoint as a process of its own; what it received stands in its log."""

    def __init__(self, folder: Path, latency: float) -> None:
        self.log = folder / "endpoint.log"
        command = [sys.executable, "-m", "biod2c_core.testing", "--port", "0"]
        command += ["--latency", str(latency), "--log", str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().strip()

    def count(self) -> int:
        return self.log.read_bytes().count(b'"event": "received"')

    def received(self) -> list[str]:
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [event["request"] for event in events if event["event"] == "received"]


@pytest.fixture
def logged(folder: Path) -> Iterator[LoggedEndpoint]:
    endpoint = LoggedEndpoint(folder, 0.05)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def start(folder: Path, endpoint: LoggedEndpoint, in_flight: int) -> int:
    """Start a run in a process of its own; a fork spares it the imports."""
    for name in ("openai.resources.chat", "biod2c_core.curation.qa_results"):
        import_module(name)
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        files = [str(folder / "records.jsonl"), "-o", str(folder / "out.jsonl")]
        rest = ["--base-url", endpoint.base_url, "--in-flight", str(in_flight)]
        app.app(["gen-qa", *files, *rest])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    finally:
        os._exit(code)


def running(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def wait_for_requests(endpoint: LoggedEndpoint, count: int, process: int) -> None:
    while endpoint.count() < count and running(process):
        time.sleep(0.005)


def test_sigkill_at_twenty_random_moments_repeats_only_what_was_in_flight(
    folder: Path, logged: LoggedEndpoint
) -> None:
    total, in_flight, kills = 300, 8, 20
    write_records(folder, total)
    chance = random.Random(7)
    journal = folder / "out.journal.jsonl"
    survived, killed = 0, 0
    for number in range(kills):
        before = logged.count()
        process = start(folder, logged, in_flight)
        left = total - survived
        moment = min(chance.randint(0, 2 * left // (kills - number)), left - 3 * in_flight)
        wait_for_requests(logged, before + moment, process)
        time.sleep(chance.random() * 0.05)
        os.kill(process, signal.SIGKILL)
        killed += exit_code(process) == -signal.SIGKILL
        answered = journal.read_bytes().count(b"\n") if journal.exists() else 0
        assert logged.count() - before <= answered - survived + in_flight
        survived = answered
    assert killed == kills
    assert exit_code(start(folder, logged, in_flight)) == 0
    repeats = Counter(logged.received())
    assert len(repeats) == total
    assert sum(repeats.values()) - total <= kills * in_flight
    ids = Counter(r.id.rsplit("-", 1)[0] for r in iter_records(folder / "out.jsonl"))
    assert ids == {f"r{number}": 2 for number in range(total)}
    keys = Counter(json.loads(line)["key"] for line in journal.open(encoding="utf-8"))
    assert len(keys) == total
    assert set(keys.values()) == {1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_soft_stop_keeps_what_is_in_flight(
    folder: Path, logged: LoggedEndpoint, number: int, code: int
) -> None:
    write_records(folder, 200)
    process = start(folder, logged, 4)
    wait_for_requests(logged, 6, process)
    os.kill(process, number)
    assert exit_code(process) == code
    summary = json.loads((folder / "out.summary.json").read_text())
    assert 6 <= summary["done"] == len(logged.received()) < 200


def test_records_that_wait_for_a_batch_are_not_asked_again_live(folder: Path) -> None:
    write_records(folder, 2)
    with FakeEndpoint() as endpoint:
        assert run(folder, endpoint, "--batch", "submit", "--limit", "1").exit_code == 0
        refused = run(folder, endpoint)
        assert refused.exit_code == 2
        assert "1 of these records are in a batch that is not collected yet" in refused.stderr
        assert endpoint.received() == []
        endpoint.batches.finish_all()
        first = run(folder, endpoint, "--batch", "collect", "--json")
        again = run(folder, endpoint, "--batch", "collect", "--json")
        assert json.loads(first.stdout) == json.loads(again.stdout)
        last = run(folder, endpoint, "--json")
    assert (last.exit_code, json.loads(last.stdout)["done"]) == (0, 2)
    assert len(endpoint.received()) == 1


@pytest.mark.parametrize("step", ["status", "collect"])
def test_where_no_batch_was_submitted_nothing_is_collected(folder: Path, step: str) -> None:
    write_records(folder, 1)
    with FakeEndpoint() as endpoint:
        refused = run(folder, endpoint, "--batch", step)
    assert refused.exit_code == 2
    assert "no batch was submitted for" in refused.stderr
    assert not list(folder.glob("out*"))


def test_half_a_character_in_an_answer_leaves_the_run_finishable(folder: Path) -> None:
    write_records(folder, 1)
    reply = default_reply({}).replace("rounded", "rounded \\ud800")
    with FakeEndpoint(reply=reply) as endpoint:
        for _ in range(2):
            assert run(folder, endpoint, "--json").exit_code == 0
    assert "rounded \ufffd" in next(iter_records(folder / "out.jsonl")).answer
    assert len(endpoint.received()) == 1
