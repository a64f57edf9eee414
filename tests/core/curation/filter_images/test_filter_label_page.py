"""The labelling page serves this machine's owner alone, and every key is on disk at once."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from figures import write_images
from PIL import Image

from biod2c_core.curation.filter_images.label_server import LabelServer, LabelSession, choose
from biod2c_core.curation.filter_images.labels import LABELS, read_label_names
from biod2c_core.curation.filter_images.sources import Item, list_images
from biod2c_core.errors import InputError

sys.path.append(str(Path(__file__).resolve().parents[2] / "evaluation"))

from chromium import find_browser, open_browser

PROGRESS = "document.getElementById('progress').textContent"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabelServer]:
    folder = write_images(tmp_path / "images", 2)
    (folder / "broken.png").write_bytes(b"no image")
    session = LabelSession(list_images(folder), tmp_path / "labels.csv")
    with LabelServer(session) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def ask(
    server: LabelServer, path: str, body: Any = None, host: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if host is None else {"Host": host}
    method = "GET" if body is None else "POST"
    connection.request(method, f"/{server.secret}/{path}", sent, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_keys_label_image_after_image(server: LabelServer, tmp_path: Path) -> None:
    state = json.loads(ask(server, "state")[1])
    assert (state["index"], state["total"], state["done"]) == (0, 5, 0)
    assert state["name"] == "images/broken.png"
    for label in ("unsure", "clean", "clean"):
        state = json.loads(ask(server, "label", {"index": state["index"], "label": label})[1])
    assert state["done"] == 3
    path = tmp_path / "labels.csv"
    assert list(read_label_names(path).values()) == ["unsure", "clean", "clean"]
    ask(server, "label", {"index": 1, "label": "polluted"})  # a second thought
    assert read_label_names(path)["images/clean-00.png"] == "polluted"
    assert json.loads(ask(server, "state/1")[1])["label"] == "polluted"


def test_labels_are_kept_from_session_to_session(server: LabelServer, tmp_path: Path) -> None:
    ask(server, "label", {"index": 2, "label": "clean"})
    again = LabelSession(list_images(tmp_path / "images"), tmp_path / "labels.csv")
    assert again.done == 1
    assert again.state()["index"] == 0


def test_page_and_images_are_served(server: LabelServer) -> None:
    status, page = ask(server, "")
    assert status == 200
    assert b"polluted" in page
    status, data = ask(server, "image/1")
    assert status == 200
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    status, reason = ask(server, "image/0")
    assert status == 422
    assert b"not an image" in reason


def test_the_page_runs_its_own_script_alone(server: LabelServer) -> None:
    html, policy = server.page.html, server.page.policy
    assert "unsafe" not in policy
    for element, directive in (("style", "style-src"), ("script", "script-src")):
        text = html.split(f"<{element}>")[1].split(f"</{element}>")[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    for label in LABELS:
        assert f'data-label="{label}"><kbd>{label[0].upper()}</kbd>' in html


@pytest.mark.browser
def test_keys_in_a_browser(server: LabelServer, tmp_path: Path) -> None:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")

    def press(key: str) -> None:
        before = page.run(PROGRESS)
        page.run(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))")
        while page.run(f"busy || {PROGRESS} === '{before}'"):
            pass

    with open_browser(browser, tmp_path) as page:
        page._call("Page.navigate", url=server.url)
        while not page.run(f"!!document.getElementById('progress') && {PROGRESS} !== ''"):
            pass
        assert page.run(PROGRESS) == "0 of 5 labelled"
        for key in ("u", "P", "c"):
            press(key)
        assert page.run(PROGRESS) == "3 of 5 labelled"
        assert not [problem for problem in page.problems if "Policy" in problem]
    labels = read_label_names(tmp_path / "labels.csv")
    assert list(labels.values()) == ["unsure", "polluted", "clean"]


@pytest.mark.parametrize(
    "path",
    ["nothing", "image/5", "image/-1", "image/x", "image/²", "state/99999999999", "../state"],
)
def test_what_is_not_there_is_not_found(server: LabelServer, path: str) -> None:
    assert ask(server, quote(path))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[" * 4000,
        b"x" * 5000,
        b"",
        [],
        {"index": 9, "label": "clean"},
        {"index": -1, "label": "clean"},
        {"index": 0, "label": "dirty"},
        {"index": "0", "label": "clean"},
        {"index": 0},
    ],
    ids=lambda body: str(body)[:20],
)
def test_what_is_no_label_changes_nothing(server: LabelServer, tmp_path: Path, body: Any) -> None:
    assert ask(server, "label", body)[0] == 400
    assert not (tmp_path / "labels.csv").exists()


def test_strangers_see_nothing(server: LabelServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "state", host="elsewhere.example")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    for wrong in ("/", "/state", "/guess/state", f"/{server.secret}x/state"):
        connection.request("GET", wrong)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404


def test_a_sample_is_random_and_repeatable(tmp_path: Path) -> None:
    items = [Item(f"{n}.png", f"{n}.png") for n in range(50)]
    chosen = choose(items, 10, seed=3)
    assert len(set(chosen)) == 10
    assert chosen == choose(items, 10, seed=3) != choose(items, 10, seed=4)
    assert chosen != items[:10]
    with pytest.raises(InputError, match="tar shards"):
        choose([items[0]._replace(length=5)], None, 0)


def test_a_taken_port_is_one_line(server: LabelServer) -> None:
    with pytest.raises(InputError, match="cannot listen"):
        LabelServer(server.session, server.server_address[1])
