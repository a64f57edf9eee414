"""Make the pictures of ``docs/gallery.md`` anew, by the commands that the page shows.

Run it as ``python website/make_gallery.py``, whenever the embedded model has changed. Each command of the
page is typed in an empty folder; a picture is the file of its name that the block above it has made. A
picture of a name with no such file is the page (``.html``) of that name, photographed by Chromium. The
pictures of the documentation are replaced at the end, when all have been made.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from biod2c_core.atomic import atomic_open

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "gallery.md"
MOST_BYTES = 120_000  # of a picture
MOST_BYTES_IN_ALL = 600_000
_WINDOW = (1160, 1030)  # of the browser, in pixels
BLOCK_OR_PICTURE = re.compile(r"^```bash\n(.*?)^```$|^!\[[^\]]*\]\(([^)]+)\)$", re.M | re.S)

sys.path.append(str(REPOSITORY / "tests" / "core" / "evaluation"))

from chromium import find_browser  # noqa: E402


def prepare(folder: Path) -> None:
    """What the commands read: the examples, and a volume that comes with nibabel."""
    import nibabel

    (folder / "examples").symlink_to(REPOSITORY / "examples")
    volume = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    shutil.copy(volume, folder / "scan.nii.gz")


def make(page: Path, folder: Path) -> dict[Path, Path]:
    """Type the page's commands, and take its pictures.

    Args:
        page: With blocks of ``bash``, and pictures below them.
        folder: To type them in.

    Returns:
        For each picture of the page, the file that was made.

    Raises:
        FileNotFoundError: The block above a picture has made no file of its name.
        subprocess.CalledProcessError: A command failed.
    """
    made: dict[Path, Path] = {}
    new: list[Path] = []
    for block, picture in BLOCK_OR_PICTURE.findall(page.read_text("utf-8")):
        if picture:
            made[page.parent / picture] = find(new, Path(picture).name, folder)
            continue
        before = set(folder.rglob("*"))
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            if program == "biod2c":
                print(f"$ {line}", flush=True)
                command = [sys.executable, "-m", "biod2c_cli", *arguments]
                subprocess.run(command, cwd=folder, check=True)
        new = sorted(set(folder.rglob("*")) - before)
    return made


def find(files: list[Path], name: str, folder: Path) -> Path:
    """The one of that name, or a photograph of the page of that name.

    Raises:
        FileNotFoundError: There is neither.
    """
    for file in files:
        if file.name == name:
            return file
    for file in files:
        if file.name == f"{Path(name).stem}.html":
            return photograph(file, folder / name)
    raise FileNotFoundError(f"the commands above {name} do not make it")


def photograph(page: Path, picture: Path) -> Path:
    """Take the upper end of a page as headless Chromium shows it."""
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError(f"there is no Chromium here to show {page.name} with")
    shot = picture.with_suffix(".png")
    size = ",".join(map(str, _WINDOW))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    files = (f"--screenshot={shot}", f"--user-data-dir={picture.parent / 'profile'}")
    command = [browser, *flags, *files, f"--window-size={size}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    Image.open(shot).convert("RGB").save(picture, quality=85)
    return picture


def check_sizes(files: list[Path]) -> None:
    """Keep the repository small.

    Raises:
        ValueError: A picture, or all together, take more than they may.
    """
    sizes = {file.name: file.stat().st_size for file in files}
    large = [name for name, size in sizes.items() if size > MOST_BYTES]
    if large or sum(sizes.values()) > MOST_BYTES_IN_ALL:
        raise ValueError(f"too large ({MOST_BYTES}, in all {MOST_BYTES_IN_ALL} bytes): {sizes}")


def main() -> None:
    """Make all, then replace all."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        made = make(PAGE, folder)
        check_sizes(list(made.values()))
        for picture, file in made.items():
            with atomic_open(picture, "wb") as target:
                target.write(file.read_bytes())
            print(f"{picture.relative_to(REPOSITORY)}: {picture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
