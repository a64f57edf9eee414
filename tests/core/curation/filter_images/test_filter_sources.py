"""Images are found in folders, JSONL files and tar shards, each once and nothing else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from biod2c_core.curation.filter_images.sources import list_images, read_image
from biod2c_core.errors import ImageError, InputError, RecordError


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                shard.addfile(info)
    return path


def test_a_folder_gives_its_images_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "x/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    assert [item.name for item in list_images(tmp_path)] == ["a.PNG", "b.png", "x/c.png"]


def test_tar_members_are_read_in_place_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    shard = write_tar(
        tmp_path / "s.tar", {"a.png": png("red"), "b.png": png("blue")}, {"l.png": "secret.png"}
    )
    items = list_images(shard)
    assert [item.name for item in items] == ["s.tar/a.png", "s.tar/b.png"]
    assert [read_image(item).getpixel((0, 0)) for item in items] == [(255, 0, 0), (0, 0, 255)]


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as shard:
        for colour in ("red", "blue"):
            info = tarfile.TarInfo("a.png")
            info.size = len(png(colour))
            shard.addfile(info, io.BytesIO(png(colour)))
    (item,) = list_images(path)
    assert read_image(item).getpixel((0, 0)) == (0, 0, 255)


def test_a_member_over_the_limit_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biod2c_core.curation.filter_images.sources.MAX_BYTES", 20)
    (item,) = list_images(write_tar(tmp_path / "s.tar", {"a.png": png()}))
    with pytest.raises(ImageError, match="over the limit of 20"):
        read_image(item)


def test_shards_below_a_folder_are_read_with_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    write_tar(tmp_path / "s.tar", {"b.png": png()})
    assert [item.name for item in list_images(tmp_path)] == ["a.png", "s.tar/b.png"]


def test_jsonl_names_each_image_once_and_cannot_leave_its_root(tmp_path: Path) -> None:
    names = ["a.png", "a.png", "../b.png", "/etc/passwd"]
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    (tmp_path / "a.png").write_bytes(png())
    items = list_images(path)
    assert [item.name for item in items] == ["a.png", "../b.png", "/etc/passwd"]
    assert read_image(items[0]).size == (9, 7)
    for item in items[1:]:
        with pytest.raises(ImageError, match="outside the image root"):
            read_image(item)


@pytest.mark.parametrize("row", ["[]", "{}", '{"image": 3}', '{"image": " "}'])
def test_jsonl_rows_without_an_image_are_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(RecordError, match=r"r\.jsonl:1"):
        list_images(path)


@pytest.mark.parametrize("data", [b"", b"not a tar" * 200, b"\x1f\x8b" + b"0" * 600])
def test_a_damaged_shard_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"s\.tar"):
        list_images(path)


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"no image"):
            list_images(place)
