"""The wheel alone: built, installed where nothing else of this project is, and asked offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("biod2c", "biod2c_cli", "biod2c_core")
MOST_BYTES = 60 * 2**20
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(Version(version("setuptools")) < Version("77"), reason="old setuptools"),
]


def run(*command: object, folder: Path) -> str:
    """What a command prints, without what this process and the source tree lend to Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**kept, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools writes into the tree that it builds."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in PACKAGES:
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, source)
    return built / run(sys.executable, "-c", BUILD, built, folder=source).splitlines()[-1]


def test_it_holds_what_is_needed_and_no_more(wheel: Path) -> None:
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == set(PACKAGES)
    for wanted in ("assets/biod2c-tiny/model.safetensors", "presets/tiny.yaml", "py.typed"):
        assert f"biod2c_core/{wanted}" in names
    assert sum(name.endswith(("licenses/LICENSE", "licenses/NOTICE")) for name in names) == 2


def test_it_answers_offline_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are those of this environment, whose own copy of the project is not seen."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = environment / scripts / "python"
    own = Path(
        run(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path
        ).strip()
    )
    # a folder named in a .pth file is searched, but the .pth files inside it are not read: no
    # editable install gets in
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    run(*pip, wheel, folder=tmp_path)
    picture = shutil.copy(REPOSITORY / "examples" / "chest_xray.jpg", tmp_path)
    command = environment / scripts / "biod2c"
    assert (
        run(command, "ask", picture, "What imaging modality is this?", folder=tmp_path) == "x-ray\n"
    )
    found = run(python, "-c", "import biod2c_core; print(biod2c_core.__file__)", folder=tmp_path)
    assert Path(found.strip()).is_relative_to(own)
