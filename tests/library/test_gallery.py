"""The gallery: its pictures are those of its commands, small, and made anew by one script."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "website"))

import make_gallery  # noqa: E402
from chromium import find_browser  # noqa: E402

PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")


def test_every_picture_of_the_documentation_is_in_the_gallery_and_small() -> None:
    pages = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
    shown = {
        (page.parent / name).resolve()
        for page in pages
        for name in PICTURE.findall(page.read_text("utf-8"))
    }
    gallery = make_gallery.PAGE
    found = make_gallery.BLOCK_OR_PICTURE.findall(gallery.read_text("utf-8"))
    made = {gallery.parent / picture for _, picture in found if picture}
    assert shown == made == set((REPOSITORY / "docs" / "images").iterdir())
    make_gallery.check_sizes(sorted(made))


def test_a_picture_is_what_the_command_above_it_makes(tmp_path: Path, checkpoint: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        f"```bash\nbiod2c attn-map examples/head_ct.jpg 'What is it?' -m {checkpoint} -o map.webp\n```\n\n"
        "![a map](images/map.webp)\n"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    make_gallery.prepare(folder)
    made = make_gallery.make(page, folder)
    assert made == {page.parent / "images" / "map.webp": folder / "map.webp"}
    assert Image.open(folder / "map.webp").width > 300


def test_what_no_command_makes_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\n# nothing\n```\n\n![a map](images/map.webp)\n")
    with pytest.raises(FileNotFoundError, match=r"do not make it"):
        make_gallery.make(page, tmp_path)


def test_too_large_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(b"0" * (make_gallery.MOST_BYTES + 1))
    with pytest.raises(ValueError, match=r"too large .*a\.webp"):
        make_gallery.check_sizes([tmp_path / "a.webp"])


@pytest.mark.browser
def test_a_report_is_photographed(tmp_path: Path) -> None:
    if find_browser() is None:
        pytest.skip("no Chromium on this machine")
    report = tmp_path / "report.html"
    report.write_text("<style>body { background: #f00 }</style>")
    picture = make_gallery.find([report], "report.webp", tmp_path)
    red, green, blue = Image.open(picture).convert("RGB").getpixel((500, 500))
    assert red > 240
    assert max(green, blue) < 15
