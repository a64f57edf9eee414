"""A run scores every image once, whatever happens to it, and refuses to mix runs."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from figures import trained_filter, write_images

from biod2c_core.curation.filter_images.classifier import ImageFilter
from biod2c_core.curation.filter_images.encoder import ImageEncoder
from biod2c_core.curation.filter_images.filter import (
    filter_images,
    parse_shard,
    write_clean_list,
)
from biod2c_core.curation.filter_images.moving import move_polluted
from biod2c_core.curation.filter_images.scoring import score_images
from biod2c_core.curation.filter_images.sources import Item, list_images
from biod2c_core.errors import ImageError, InputError


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def test_every_image_has_one_row_in_order(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    seen: list[int] = []
    report = filter_images(items, output, encoder, image_filter, advance=seen.append)
    rows = read(output)
    assert [row["image"] for row in rows] == [item.name for item in items]
    assert all(row["label"] == row["image"].split("-")[0] for row in rows)
    assert (report.images, report.clean, report.polluted, report.failed) == (24, 12, 12, 0)
    assert report.complete
    assert sum(seen) == report.scored_now == 24
    assert {path.name for path in output.parent.iterdir()} == {
        output.name,
        f"{output.name}.manifest.json",
    }


def test_worker_processes_give_the_same_rows(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    filter_images(items, output, encoder, image_filter)
    other = output.with_name("other.jsonl")
    filter_images(items, other, encoder, image_filter, engine=partial(score_images, workers=2))
    assert output.read_bytes() == other.read_bytes()


def test_unreadable_images_have_a_row_that_says_why(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = [
        *list_images(images)[:2],
        Item("absent.png", str(images / "absent.png")),
        Item("../x.png", "", problem="outside"),
    ]
    report = filter_images(items, output, encoder, image_filter)
    assert report.failed == 2
    rows = read(output)
    assert "image not found" in rows[2]["error"]
    assert rows[3] == {"image": "../x.png", "error": "outside"}


def test_names_that_are_not_utf8_are_kept_as_they_are(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    """Names are bytes on a disk, and what a JSONL spells need not be text."""
    folder = tmp_path / "named"
    folder.mkdir()
    odd = os.fsdecode(b"caf\xe9.png")
    (folder / odd).write_bytes(next(images.glob("*.png")).read_bytes())
    items = [*list_images(folder), Item("\ud83d.png", "\ud83d.png")]

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_images(items, output, encoder, image_filter, threshold=1.1, advance=stop)
    assert filter_images(items, output, encoder, image_filter, threshold=1.1).scored_now == 0
    assert [row["image"] for row in read(output)] == [odd, "\ud83d.png"]
    output.read_text("utf-8")
    assert write_clean_list(output, folder, tmp_path / "clean.txt") == 1
    assert (tmp_path / "clean.txt").read_bytes() == b"caf\xe9.png\n"


@pytest.mark.parametrize("cut", [0, 1, 40, 10_000])
def test_a_cut_off_run_goes_on(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, cut: int
) -> None:
    items = list_images(images)
    whole = output.with_name("whole.jsonl")
    filter_images(items, whole, encoder, image_filter)

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_images(items, output, encoder, image_filter, advance=stop)
    partial = output.with_name("out.jsonl.partial")
    assert len(read(partial)) == 16
    data = partial.read_bytes()
    partial.write_bytes(data[: max(0, len(data) - cut)])
    report = filter_images(items, output, encoder, image_filter)
    assert 8 <= report.scored_now <= 24
    assert read(output) == read(whole)


@pytest.mark.parametrize("packed", [False, True])
def test_another_picture_of_the_same_name_is_scored_again(
    output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path, packed: bool
) -> None:
    """A picture has the name, the size and the time of one that a run had scored before it was killed."""
    folder = write_images(tmp_path / "images")
    replaced = folder / "clean-00.png"
    replaced.write_bytes(
        replaced.read_bytes() + bytes(5000)
    )  # padding behind the picture is allowed
    source = tmp_path / "shard.tar" if packed else folder

    def pack() -> None:
        with tarfile.open(tmp_path / "shard.tar", "w") as shard:
            shard.add(folder, ".")

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    pack()
    with pytest.raises(KeyboardInterrupt):
        filter_images(list_images(source), output, encoder, image_filter, advance=stop)
    before = replaced.stat()
    other = (folder / "polluted-00.png").read_bytes()
    replaced.write_bytes(other + bytes(before.st_size - len(other)))
    os.utime(replaced, ns=(before.st_atime_ns, before.st_mtime_ns))
    pack()
    items = list_images(source)
    assert filter_images(items, output, encoder, image_filter).scored_now == 9
    filter_images(items, output.with_name("whole.jsonl"), encoder, image_filter)
    assert read(output) == read(output.with_name("whole.jsonl"))
    assert {row["image"][-12:]: row["label"] for row in read(output)}["clean-00.png"] == "polluted"


def test_a_complete_output_about_other_pictures_of_the_same_names_is_refused(
    output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    items = list_images(write_images(tmp_path / "images"))
    filter_images(items, output, encoder, image_filter)
    Path(items[1].path).unlink()  # one that is gone cannot be compared
    filter_images(items, output, encoder, image_filter)
    shutil.copy(items[-1].path, items[0].path)
    with pytest.raises(InputError, match=r"'clean-00\.png' has changed since .* was made"):
        filter_images(items, output, encoder, image_filter)


def test_shards_make_the_output_of_a_single_run(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    whole = output.with_name("whole.jsonl")
    filter_images(items, whole, encoder, image_filter)
    for index in (2, 0):
        report = filter_images(items, output, encoder, image_filter, shard=(index, 3))
        assert not report.complete
        assert report.images == 8
    assert not output.exists()
    assert filter_images(items, output, encoder, image_filter, shard=(1, 3)).complete
    assert output.read_bytes() == whole.read_bytes()
    assert not list(output.parent.glob("*.partial"))
    assert filter_images(items, output, encoder, image_filter, shard=(0, 3)).scored_now == 0


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0)])
def test_a_shard_that_is_not_there_is_refused(
    images: Path,
    output: Path,
    encoder: ImageEncoder,
    image_filter: ImageFilter,
    shard: tuple[int, int],
) -> None:
    with pytest.raises(InputError, match="shard"):
        filter_images(list_images(images), output, encoder, image_filter, shard=shard)


def test_a_shard_is_named_by_its_number_and_how_many_there_are() -> None:
    assert parse_shard("2/12") == (2, 12)
    for text in ("1/1", "-1/2", "0/0", "4", "1/", "/2", "a/2", "1/2/3"):
        with pytest.raises(InputError, match="Expected I/N"):
            parse_shard(text)


def test_a_complete_output_is_only_labelled_anew(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    filter_images(items, output, encoder, image_filter)
    report = filter_images(items, output, encoder, image_filter, threshold=0.0)
    assert (report.scored_now, report.clean, report.polluted) == (0, 0, 24)
    assert {row["label"] for row in read(output)} == {"polluted"}


def test_other_images_or_another_classifier_are_refused(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    other = trained_filter(images, encoder, seed=1)

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_images(items, output, encoder, image_filter, advance=stop)
    with pytest.raises(InputError, match="begun with other images"):
        filter_images(items[1:], output, encoder, image_filter)
    with pytest.raises(InputError, match="begun with another classifier"):
        filter_images(items, output, encoder, other)
    filter_images(items, output, encoder, image_filter)
    with pytest.raises(InputError, match="made by another classifier"):
        filter_images(items, output, encoder, other)
    with pytest.raises(InputError, match=r"lacks 'new\.png'"):
        filter_images([*items, Item("new.png", "new.png")], output, encoder, image_filter)


@pytest.mark.parametrize("content", ["", "[]\n", '{"id": 3}\n', "\xff"])
def test_files_of_others_are_not_overwritten(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, content: str
) -> None:
    output.write_text(content)
    with pytest.raises(InputError, match="exists already and is not an output of this command"):
        filter_images(list_images(images), output, encoder, image_filter)
    assert output.read_text() == content


def test_two_runs_into_one_output_are_refused(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter
) -> None:
    items = list_images(images)
    problems: list[str] = []

    def start_another(count: int) -> None:
        try:
            filter_images(items, output, encoder, image_filter)
        except InputError as error:
            problems.append(str(error))

    filter_images(items, output, encoder, image_filter, advance=start_another)
    assert problems
    assert all("in use by another run" in problem for problem in problems)


def test_the_clean_ones_are_listed(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    filter_images(list_images(images), output, encoder, image_filter)
    assert write_clean_list(output, images, tmp_path / "clean.txt") == 12
    assert (tmp_path / "clean.txt").read_text().split()[0] == "clean-00.png"


def test_rows_of_a_jsonl_are_listed_as_they_are(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    rows = [
        {"image": f"{kind}-0{n % 2}.png", "n": n}
        for kind in ("polluted", "clean")
        for n in range(3)
    ]
    source = tmp_path / "records.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    filter_images(list_images(source, images), output, encoder, image_filter)
    assert write_clean_list(output, source, tmp_path / "kept.jsonl") == 3
    assert read(tmp_path / "kept.jsonl") == rows[3:]


def test_polluted_files_are_moved_and_a_second_call_moves_the_rest(
    output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    root = write_images(tmp_path / "in" / "sub").parent
    items = list_images(root)
    filter_images(items, output, encoder, image_filter)
    target = tmp_path / "polluted"
    (target / "sub").mkdir(parents=True)
    shutil.move(root / "sub" / "polluted-00.png", target / "sub")  # by a call that was killed
    left = list_images(root)
    filter_images(left, output, encoder, image_filter)
    assert move_polluted(left, output, root, target).moved == 11
    assert len(list((target / "sub").iterdir())) == 12
    assert all(path.name.startswith("clean") for path in (root / "sub").iterdir())


def test_moves_that_would_lose_or_mix_images_are_refused(
    images: Path, output: Path, encoder: ImageEncoder, image_filter: ImageFilter, tmp_path: Path
) -> None:
    items = list_images(images)
    filter_images(items, output, encoder, image_filter)
    for target in (images, images / "polluted"):
        with pytest.raises(InputError, match="lies inside"):
            move_polluted(items, output, images, target)
    with pytest.raises(ImageError, match="outside the image root"):
        move_polluted(items, output, images / "deeper", tmp_path / "moved")
    packed = [item._replace(offset=512, length=9) for item in items]
    with pytest.raises(InputError, match="inside tar shards"):
        move_polluted(packed, output, images, tmp_path / "moved")
    assert len(list(images.iterdir())) == 24
