"""The endpoint driven by the real ``openai`` client, by raw sockets, and by clients that go away."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_models
import torch
from live import Live, about, body, data_url, live_server, messages, png, wait_for

from biod2c_core.inference.serving.requests import Limits
from biod2c_core.model.generation import Answerer

QUESTIONS = tiny_models.QUESTIONS


@pytest.fixture(scope="module")
def live(checkpoint: Path) -> Iterator[Live]:
    with live_server(checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def answerer(checkpoint: Path) -> Answerer:
    return Answerer.load(str(checkpoint), "cpu")


def test_the_openai_client_gets_the_models_answer(
    client: openai.OpenAI, answerer: Answerer
) -> None:
    for question in QUESTIONS:
        reply = client.chat.completions.create(model="tiny", messages=messages(question))  # type: ignore[arg-type]
        (answer,) = answerer.answer([tiny_models.make_image(0)], [question])
        assert reply.choices[0].message.content == answer.text
        assert reply.usage is not None
        assert reply.usage.completion_tokens == len(answer.ids)
        extras = reply.model_extra["biod2c"]  # type: ignore[index]
        assert extras["confidence"] == pytest.approx(answer.confidence, rel=1e-3)
        assert extras["calibrated"] is False


def test_a_picture_unlike_those_of_training(checkpoint: Path, tmp_path: Path) -> None:
    with live_server(tiny_models.with_reference(checkpoint, tmp_path / "own")) as running:
        asked = urllib.request.Request(
            f"{running.url}/v1/chat/completions", body(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=120) as reply:
            extras = json.load(reply)["biod2c"]
    assert extras["familiarity"] == 0.0
    assert extras["warning"] == "this picture is unlike those that tiny was trained on"


def test_streaming_gives_the_same_text_in_pieces(client: openai.OpenAI, answerer: Answerer) -> None:
    for question in QUESTIONS:
        stream = client.chat.completions.create(
            model="tiny",
            messages=messages(question),  # type: ignore[arg-type]
            stream=True,
        )
        chunks = list(stream)
        (answer,) = answerer.answer([tiny_models.make_image(0)], [question])
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(pieces) == answer.text
        assert sum(map(bool, pieces)) > 1
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")
        extras = chunks[-1].model_extra["biod2c"]  # type: ignore[index]
        assert extras["confidence"] == pytest.approx(answer.confidence, rel=1e-3)


def test_the_longest_answer_and_its_reason(client: openai.OpenAI, answerer: Answerer) -> None:
    (answer,) = answerer.answer([tiny_models.make_image(0)], [QUESTIONS[0]], max_new_tokens=3)
    reply = client.chat.completions.create(
        model="tiny",
        messages=messages(QUESTIONS[0]),  # type: ignore[arg-type]
        max_tokens=3,
    )
    assert reply.choices[0].message.content == answer.text
    assert reply.choices[0].finish_reason == "length"


def test_the_attention_map_comes_if_asked_for(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="tiny", messages=messages(QUESTIONS[0]))  # type: ignore[arg-type]
    shown = client.chat.completions.create(
        model="tiny",
        messages=messages(QUESTIONS[0]),  # type: ignore[arg-type]
        extra_body={"attention": True},
    )
    assert shown.choices[0].message.content == plain.choices[0].message.content
    grid = torch.tensor(shown.model_extra["biod2c"]["attention"])  # type: ignore[index]
    assert grid.shape == (4, 4)
    assert grid.sum().item() == pytest.approx(1, abs=1e-5)
    assert "attention" not in plain.model_extra["biod2c"]  # type: ignore[index]


def test_models_health_and_metrics(live: Live, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    with urllib.request.urlopen(f"{live.url}/health") as reply:
        assert json.load(reply) == {"status": "ok", "model": "tiny"}
    with urllib.request.urlopen(f"{live.url}/metrics") as reply:
        text = reply.read().decode()
    assert 'biod2c_requests_total{status="200"}' in text
    assert "biod2c_queue_length 0" in text


def lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def post(live: Live, raw: bytes, **headers: str) -> tuple[int, dict[str, object], dict[str, str]]:
    request = urllib.request.Request(
        f"{live.url}/v1/chat/completions",
        raw,
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.load(reply), lower(reply.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), lower(error.headers)


def test_questions_of_one_image_share_its_encoding(live: Live) -> None:
    before = live.count("images_encoded_total")
    raw = [body(question, data_url(png(5))) for question in QUESTIONS * 3]
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda each: post(live, each), raw))
    assert {status for status, _, _ in replies} == {200}
    assert live.count("images_encoded_total") == before + 1
    assert live.count("questions_total") > live.count("batches_total")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense", 400),
        (body(url="http://127.0.0.1/x.png"), 400),
        (body(url="file:///etc/passwd"), 400),
        (body(url=data_url(b"no image")), 400),
        (body("is it there? " * 200), 400),
        (body(model="other"), 404),
    ],
)
def test_bad_requests_are_answered_with_a_reason(live: Live, raw: bytes, status: int) -> None:
    got, reply, _ = post(live, raw)
    assert got == status
    assert isinstance(reply["error"], dict)
    assert len(str(reply["error"]["message"])) > 10


def test_a_bad_question_does_not_spoil_its_batch(live: Live) -> None:
    raw = [body(QUESTIONS[index % 4]) for index in range(6)] + [body("is it there? " * 200)]
    with ThreadPoolExecutor(7) as pool:
        statuses = [status for status, _, _ in pool.map(lambda each: post(live, each), raw)]
    assert statuses == [200] * 6 + [400]


def test_another_content_type_or_host_is_refused(live: Live) -> None:
    """What a page of another site could send without asking first, or by renaming itself."""
    assert post(live, body(), **{"Content-Type": "text/plain"})[0] == 415
    request = urllib.request.Request(f"{live.url}/health", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request)


def raw_reply(live: Live, head: bytes, chunks: Iterator[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as sock:
        sock.sendall(head)
        try:
            for chunk in chunks:
                sock.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return sock.recv(65536)
        except ConnectionResetError:
            return b""


HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)


def test_a_body_of_two_gigabytes_is_refused_unread(live: Live) -> None:
    head = HEAD + b"Content-Length: 2147483648\r\n\r\n"
    assert raw_reply(live, head, iter(())).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_length_is_cut_off(live: Live) -> None:
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

    def endless() -> Iterator[bytes]:
        data = b" " * 65536
        for _ in range(16 * 16 + 2):
            yield b"%x\r\n%s\r\n" % (len(data), data)

    assert raw_reply(live, head, endless()).startswith(b"HTTP/1.1 413 ")


def test_a_key(checkpoint: Path) -> None:
    with live_server(checkpoint, key="secret") as live:
        wrong = openai.OpenAI(base_url=f"{live.url}/v1", api_key="guess", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        assert post(live, body())[0] == 401
        assert post(live, body(), Authorization="Bearer secret")[0] == 200


class SlowModel:
    """Holds the model's thread until let go."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.entered = threading.Event(), threading.Event()
        original = live.engine.answerer.answer_encoded

        def slow(*args: object, **kwargs: object) -> object:
            self.entered.set()
            self.go.wait(600)
            return original(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(live.engine.answerer, "answer_encoded", slow)


def send(live: Live, raw: bytes) -> socket.socket:
    """A request whose answer is not waited for."""
    sock = socket.create_connection(("127.0.0.1", live.port), timeout=60)
    sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    return sock


def test_a_full_queue_and_a_killed_client(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(checkpoint, Limits(queue=2, seconds=300)) as live:
        model = SlowModel(live, monkeypatch)
        first = send(live, body())
        wait_for(model.entered.is_set)
        two = json.dumps({"messages": about("is it?", [0, 1])}).encode()
        one = send(live, body())
        wait_for(lambda: live.engine.length == 1)
        assert post(live, two)[0] == 429  # room for one of its images only: none is taken
        assert live.engine.length == 1
        waiting = [one, send(live, body(stream=True))]
        wait_for(lambda: live.engine.length == 2)
        status, reply, headers = post(live, body())
        assert (status, headers["retry-after"]) == (429, "2")
        assert "try later" in str(reply)
        for sock in waiting:
            sock.close()
        wait_for(lambda: live.engine.length == 0)  # the killed clients' places are free
        assert live.count("cancelled_total") == 2
        gone = send(live, two)
        wait_for(lambda: live.engine.length == 2)
        gone.close()
        wait_for(lambda: live.engine.length == 0)  # with all its images
        assert live.count("cancelled_total") == 3  # of requests
        again = send(live, body())
        wait_for(lambda: live.engine.length == 1)
        model.go.set()
        for sock in (first, again):
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            sock.close()


def test_a_client_that_goes_while_it_is_answered_ends_its_row(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(checkpoint, Limits(seconds=5.0)) as live:
        model = SlowModel(live, monkeypatch)
        sock = send(live, body())
        wait_for(model.entered.is_set)
        sock.close()
        wait_for(lambda: live.count("cancelled_total") == 1)
        seen = []
        generate = live.engine.answerer.model.generate

        def counted(*args: object, **kwargs: object) -> object:
            result = generate(*args, **kwargs)  # type: ignore[arg-type]
            seen.append(result.sequences.shape[1])
            return result

        monkeypatch.setattr(live.engine.answerer.model, "generate", counted)
        model.go.set()
        wait_for(lambda: bool(seen))
        assert seen == [1]  # one token, then nobody was there


def test_time_is_up(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with live_server(checkpoint, Limits(seconds=5.0)) as live:
        model = SlowModel(live, monkeypatch)
        status, reply, headers = post(live, body())
        model.go.set()
        assert (status, headers["retry-after"]) == (503, "2")
        assert "no answer in time" in str(reply)


def test_a_small_load_with_malformed_requests(live: Live) -> None:
    """20 clients, every tenth request malformed: each is answered as it should be."""
    bad = [b"{", body(url="/etc/passwd"), body(url=data_url(b"x" * 99)), body("")]

    def work(index: int) -> tuple[bool, int]:
        is_bad = index % 10 == 9
        raw = (
            bad[index // 10 % 4] if is_bad else body(QUESTIONS[index % 4], data_url(png(index % 3)))
        )
        return is_bad, post(live, raw)[0]

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(work, range(80)))
    assert all(status == 400 if is_bad else status in (200, 429) for is_bad, status in outcomes)
    assert sum(status == 200 for _, status in outcomes) >= 40
    wait_for(lambda: live.engine.length == 0)
