"""Files and folders appear whole or not at all, whatever stops the writer."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from biod2c_core import atomic
from biod2c_core.append_log import AppendLog
from biod2c_core.atomic import atomic_folder, atomic_open, put_in_place
from biod2c_core.errors import InputError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def tree(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def write(folder: Path, text: str) -> None:
    """Two files that must belong together, one of them private as safetensors makes them."""
    (folder / "inner").mkdir(parents=True, exist_ok=True)
    (folder / "inner" / "a").write_text(text)
    (folder / "inner" / "a").chmod(0o600)
    (folder / "b").write_text(text)


WHOLE = {text: {"inner/a": text, "b": text} for text in ("old", "new")}


def _stopped(error: BaseException, place: Path, **options: bool) -> None:
    with atomic_folder(place, **options) as partial:
        write(partial, "new")
        raise error


def killed(block: Callable[[], None]) -> int:
    """How a process ends that runs the block: its exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            block()
        except SystemExit as error:
            os._exit(int(str(error.code)))
        except BaseException:
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "some" / "where"
    with atomic_folder(place) as partial:
        write(partial, "new")
        assert not place.exists()
        assert partial.parent == place.parent
    assert tree(place) == WHOLE["new"]
    assert [path.name for path in place.parent.iterdir()] == ["where"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:  # as on macOS and Windows
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    place = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_folder(place, replace=True) as partial:
            write(partial, text)
        assert tree(place) == WHOLE[text]
        assert list(tmp_path.iterdir()) == [place]


def test_files_get_the_permissions_of_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour").write_text("")
    with atomic_folder(tmp_path / "model") as partial:
        write(partial, "new")
    with atomic_open(tmp_path / "file") as file:
        file.write("x")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {stat.S_IMODE((tmp_path / "neighbour").stat().st_mode)}


@pytest.mark.parametrize("replace", [True, False])
def test_an_exception_leaves_what_was_there(tmp_path: Path, replace: bool) -> None:
    place = tmp_path / "model"
    if replace:
        write(place, "old")
    with pytest.raises(KeyboardInterrupt):
        _stopped(KeyboardInterrupt(), place, replace=replace)
    assert list(tmp_path.iterdir()) == ([place] if replace else [])
    assert not replace or tree(place) == WHOLE["old"]


def test_a_folder_or_file_that_is_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model", "old")
    (tmp_path / "file").write_text("mine")
    for name, replace in (("model", False), ("file", False), ("file", True)):
        with (
            pytest.raises(InputError, match=f"{name} exists already"),
            atomic_folder(tmp_path / name, replace=replace),
        ):
            raise AssertionError
    with pytest.raises(InputError, match="cannot make"), atomic_folder(tmp_path / "file" / "x"):
        raise AssertionError
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as partial:
        write(partial, "new")
    assert tree(tmp_path / "empty") == WHOLE["new"]
    assert tree(tmp_path / "model") == WHOLE["old"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    write(tmp_path / "disk", "old")
    (tmp_path / "model").symlink_to(tmp_path / "disk", target_is_directory=True)
    with atomic_folder(tmp_path / "model", replace=True) as partial:
        write(partial, "new")
    assert (tmp_path / "model").is_symlink()
    assert tree(tmp_path / "disk") == WHOLE["new"]


def test_what_is_resumed_outlives_a_failure(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with pytest.raises(OSError, match="network"), atomic_folder(place, resume=True):
        raise OSError("network")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="network"):
        _stopped(OSError("network"), place, resume=True)
    with atomic_folder(place, resume=True) as written:
        assert tree(written) == WHOLE["new"]
    assert tree(place) == WHOLE["new"]


@needs_fork
@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_before_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """Every call that changes the disk is, in turn, the one that never comes."""
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    place = tmp_path / "model"
    steps = ((Path, "rename"), (Path, "chmod"), (os, "fsync"), (atomic.shutil, "rmtree"))

    def replace_killed_at(number: int) -> None:
        count = 0

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return step

        for owner, name in steps:
            setattr(owner, name, counted(getattr(owner, name)))
        with atomic_folder(place, replace=True) as partial:
            write(partial, "new")

    seen = []
    for number in range(1, 40):
        write(place, "old")
        code = killed(lambda number=number: replace_killed_at(number))
        seen.append(code)
        if exchange:  # at no moment is there neither
            assert tree(place) in WHOLE.values()
        with pytest.raises(ZeroDivisionError), atomic_folder(place, replace=True):
            raise ZeroDivisionError  # the next run, which fails
        assert tree(place) in WHOLE.values()
        assert list(tmp_path.iterdir()) == [place]
        if code == 0:
            break
    assert seen[-1] == 0
    assert len(seen) > 10
    assert tree(place) == WHOLE["new"]


@needs_fork
def test_sigterm_removes_what_was_begun(tmp_path: Path) -> None:
    def folder() -> None:
        with atomic_folder(tmp_path / "model") as partial:
            write(partial, "new")
            os.kill(os.getpid(), signal.SIGTERM)

    def file() -> None:
        with atomic_open(tmp_path / "a") as first, atomic_open(tmp_path / "b"):
            first.write("x")
            os.kill(os.getpid(), signal.SIGTERM)

    assert killed(folder) == killed(file) == 143
    assert not list(tmp_path.iterdir())


def test_sigterm_is_as_before_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with atomic_folder(tmp_path / "model") as partial:
        write(partial, "new")
    assert signal.getsignal(signal.SIGTERM) == before
    taken = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with atomic_open(tmp_path / "file"):
            assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, taken)


def test_a_folder_goes_nowhere_but_to_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "written", "new")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="irectory"):
        put_in_place(tmp_path / "written", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert tree(tmp_path / "written") == WHOLE["new"]


def test_a_disk_that_is_full_for_safetensors_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Its own error is no OSError, and would be taken for a bug."""
    import resource

    import torch
    from safetensors.torch import save_file

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match="os error"), atomic_folder(tmp_path / "out") as folder:
            save_file({"weight": torch.zeros(1 << 16)}, folder / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX locks")
def test_a_folder_that_another_run_writes_is_left_to_it(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as first:
        (first / "file").write_text("mine")
        with (
            pytest.raises(InputError, match="is being written by another run"),
            atomic_folder(tmp_path / "out"),
        ):
            pass
        assert (first / "file").read_text() == "mine"
    assert (tmp_path / "out" / "file").read_text() == "mine"


def test_what_is_in_the_way_is_bad_input(tmp_path: Path) -> None:
    """One line and code 2: an ``OSError`` of the disk would be code 1."""
    file = tmp_path / "file"
    file.write_text("mine")
    for below in (file / "a.json", file / "deeper" / "a.json"):
        with pytest.raises(InputError, match=r"cannot make the folder .*Choose another folder"):
            atomic.write_json(below, {})
        with pytest.raises(InputError, match="cannot make the folder"):
            AppendLog(below)
        with pytest.raises(InputError, match="cannot make the folder"), atomic_folder(below):
            pass
    with pytest.raises(InputError, match="is a folder, expected a file to write"):
        atomic.write_json(tmp_path, {})
    assert tree(tmp_path) == {"file": "mine"}
