"""Moves of polluted images lose nothing, whatever is in the way, and can be taken back."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from biod2c_core.curation.filter_images import moving
from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.filter import filter_images, write_clean_list
from biod2c_core.curation.filter_images.moving import MOVES, move_polluted, undo_moves
from biod2c_core.curation.filter_images.sources import list_images
from biod2c_core.errors import InputError


def batch(root: Path, **files: str) -> Path:
    """A folder of "pictures" (only names and bytes count here) and its complete output, all polluted."""
    rows = []
    for name, content in files.items():
        path = root / f"{name.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        rows.append(
            {"image": path.relative_to(root).as_posix(), "polluted": 1, "label": "polluted"}
        )
    output = root.with_suffix(".jsonl")
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return output


def move(root: Path, target: Path) -> moving.MoveReport:
    return move_polluted(list_images(root), root.with_suffix(".jsonl"), root, target)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MOVES
    }


def without_links(*_: object, **__: object) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.fixture(params=["links", "another file system"])
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "links":
        monkeypatch.setattr(moving.os, "link", without_links)


@pytest.mark.usefixtures("any_disk")
def test_a_second_batch_with_equal_names_overwrites_nothing(tmp_path: Path) -> None:
    target = tmp_path / "polluted"
    for number in (1, 2, 3):
        batch(tmp_path / str(number), a=f"a{number}", sub__b=f"b{number}")
    assert move(tmp_path / "1", target).renamed == {}
    assert move(tmp_path / "2", target).renamed == {"a.png": "a~2.png", "sub/b.png": "sub/b~2.png"}
    move(tmp_path / "3", target)
    assert contents(target) == {
        **{"a.png": "a1", "a~2.png": "a2", "a~3.png": "a3"},
        **{"sub/b.png": "b1", "sub/b~2.png": "b2", "sub/b~3.png": "b3"},
    }
    assert undo_moves(target).restored == 6
    for number in (1, 2, 3):
        assert contents(tmp_path / str(number)) == {
            "a.png": f"a{number}",
            "sub/b.png": f"b{number}",
        }
    assert list(target.iterdir()) == []


def test_a_folder_may_be_named_from_inside_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``filter-images run . --move ../polluted``: beside the images, not in them."""
    root = tmp_path / "images"
    output = batch(root, a="a1", sub__b="b1")
    monkeypatch.chdir(root)
    items = list_images(Path())
    with pytest.raises(InputError, match="lies inside"):
        move_polluted(items, output, Path(), Path("../images/polluted"))
    moved = move_polluted(items, output, Path(), Path("../polluted"))
    assert moved.moved == 2
    assert contents(tmp_path / "polluted") == {"a.png": "a1", "sub/b.png": "b1"}
    monkeypatch.chdir(tmp_path)  # undone from anywhere
    assert undo_moves(Path("polluted")).restored == 2
    assert contents(root) == {"a.png": "a1", "sub/b.png": "b1"}


def test_a_folder_of_the_name_is_not_moved_into(tmp_path: Path) -> None:
    batch(tmp_path / "1", a="a1")
    (tmp_path / "polluted" / "a.png").mkdir(parents=True)
    move(tmp_path / "1", tmp_path / "polluted")
    assert contents(tmp_path / "polluted") == {"a~2.png": "a1"}


@pytest.mark.usefixtures("any_disk")
def test_undo_keeps_what_would_overwrite_and_tries_again(tmp_path: Path) -> None:
    root, target = tmp_path / "1", tmp_path / "polluted"
    batch(root, a="old", b="b")
    move(root, target)
    (root / "a.png").write_text("new")
    undone = undo_moves(target)
    assert (undone.restored, list(undone.kept)) == (1, ["a.png"])
    assert contents(target) == {"a.png": "old"}
    assert contents(root) == {"a.png": "new", "b.png": "b"}
    (root / "a.png").unlink()
    assert undo_moves(target).restored == 1
    assert contents(root) == {"a.png": "old", "b.png": "b"}


@pytest.mark.parametrize("again", ["move", "undo"])
@pytest.mark.parametrize("step", ["before", "between", "torn"])
def test_a_move_cut_off_by_a_kill_is_finished_or_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, again: str
) -> None:
    root, target = tmp_path / "1", tmp_path / "polluted"
    batch(root, a="a", b="b")
    killed = KeyboardInterrupt

    def kill(*_: object, **__: object) -> None:
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr(moving.os, "link", kill) if step != "between" else patch.setattr(
            moving.Path, "unlink", kill
        )
        with pytest.raises(killed):
            move(root, target)
    if step == "torn":
        os.truncate(target / MOVES, (target / MOVES).stat().st_size - 3)
    if again == "undo":
        undo_moves(target)
        assert contents(root) == {"a.png": "a", "b.png": "b"}
        assert contents(target) == {}
    else:
        move(root, target)
        assert contents(root) == {}
        assert contents(target) == {"a.png": "a", "b.png": "b"}
        assert undo_moves(target).restored == 2
        assert contents(root) == {"a.png": "a", "b.png": "b"}


def test_names_that_are_not_utf8_are_moved_and_come_back(tmp_path: Path) -> None:
    root, name = tmp_path / "1", os.fsdecode(b"\xff.png")
    root.mkdir()
    (root / name).write_text("x")
    row = {"image": name, "polluted": 1, "label": "polluted"}
    root.with_suffix(".jsonl").write_text(json.dumps(row) + "\n")
    assert move(root, tmp_path / "p").moved == 1
    assert contents(tmp_path / "p") == {name: "x"}
    undo_moves(tmp_path / "p")
    assert contents(root) == {name: "x"}


def test_half_a_character_in_a_row_is_listed_and_one_in_a_name_is_an_unreadable_image(
    tmp_path: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    rows = [
        {"image": "a.png", "caption": "x \ud800"},
        {"image": "b\ud800.png"},
        {"image": "c\0.png"},
    ]
    source, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = list_images(source)
    assert [bool(item.problem) for item in items] == [False, True, True]
    for _ in range(2):  # scored, and read again
        assert filter_images(items, output, encoder, image_filter).failed == 3
    output.write_text('{"image": "a.png", "polluted": 0, "label": "clean"}\n')
    assert write_clean_list(output, source, tmp_path / "list.jsonl") == 1
    assert json.loads((tmp_path / "list.jsonl").read_text()) == rows[0]


def test_two_runs_and_strange_journals_are_refused(tmp_path: Path) -> None:
    root, target = tmp_path / "1", tmp_path / "polluted"
    batch(root, a="a")
    move(root, target)
    with moving._journal(target), pytest.raises(InputError, match="in use by another run"):
        undo_moves(target)
    with pytest.raises(InputError, match=r"holds no moves\.jsonl"):
        undo_moves(tmp_path)
    for line in (
        "[" * 100_000,
        "{}",
        '{"from": 1}',
        '{"from":"a","to":"b","bytes":"x","mtime_ns":1}',
    ):
        (target / MOVES).write_text(line + "\n")
        with pytest.raises(InputError, match=r"not a move|not JSON"):
            undo_moves(target)
    assert contents(target) == {"a.png": "a"}


def test_undo_takes_nothing_from_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "polluted").mkdir()
    (tmp_path / "mine").write_text("x")
    status = (tmp_path / "mine").stat()
    row = {"from": str(tmp_path / "stolen"), "to": "../mine", "bytes": 1}
    line = json.dumps(row | {"mtime_ns": status.st_mtime_ns})
    (tmp_path / "polluted" / MOVES).write_text(line + "\n")
    with pytest.raises(InputError, match="outside"):
        undo_moves(tmp_path / "polluted")
    assert (tmp_path / "mine").exists()


def test_a_list_never_replaces_what_it_is_made_from(tmp_path: Path) -> None:
    output = batch(tmp_path / "1", a="a")
    source = tmp_path / "rows.jsonl"
    source.write_text('{"image": "a.png"}\n')
    for target in (source, output):
        with pytest.raises(InputError, match="would overwrite"):
            write_clean_list(output, source, target)
