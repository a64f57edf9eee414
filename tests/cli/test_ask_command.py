"""``biod2c ask``: the answer alone on stdout; bad input is one line with the remedy and code 2."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import tiny_models
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_core.model.answering import Answerer

QUESTION = "is there a lesion?"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ask", *map(str, arguments)])


def refused(result: Result) -> str:
    """The one line of a refusal."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny_models.make_image(0).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def test_the_answer_alone_goes_to_stdout(image: Path, checkpoint: Path) -> None:
    result = invoke(image, QUESTION, "--model", checkpoint, "--device", "cpu")
    (answer,) = Answerer.load(str(checkpoint), "cpu").answer(
        [tiny_models.make_image(0)], [QUESTION]
    )
    assert result.exit_code == 0
    assert result.stdout == f"{answer.text}\n"
    assert result.stderr == ""


def test_json_has_answer_confidence_model_and_seconds(image: Path, checkpoint: Path) -> None:
    result = invoke(image, QUESTION, "--json", "-m", checkpoint, "--device", "cpu")
    assert result.exit_code == 0
    reply = json.loads(result.stdout)
    assert set(reply) == {"answer", "confidence", "model", "seconds"}
    assert 0 < reply["confidence"] <= 1
    assert reply["model"] == str(checkpoint)
    assert result.stderr == ""


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def test_a_missing_image(tmp_path: Path) -> None:
    line = refused(invoke(tmp_path / "nothing.png", QUESTION))
    assert line.startswith(f"error: image not found: {tmp_path / 'nothing.png'}. Check the path")


def test_a_truncated_image(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:60])
    assert "is damaged or truncated" in refused(invoke(image, QUESTION))


def test_a_text_file_named_png(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture\n" * 40)
    line = refused(invoke(tmp_path / "text.png", QUESTION))
    assert "is not an image in a known format. Give one of: JPEG, PNG" in line


def test_a_header_of_100000_by_100000_pixels(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    line = refused(invoke(tmp_path / "bomb.png", QUESTION))
    assert "100,000" in line or "100000" in line


def test_a_folder_for_an_image(tmp_path: Path) -> None:
    assert "is a folder, expected an image file" in refused(invoke(tmp_path, QUESTION))


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question(question: str, image: Path) -> None:
    assert refused(invoke(image, question)) == (
        "error: the question is empty. Ask something about the image.\n"
    )


def test_a_missing_model(image: Path) -> None:
    line = refused(invoke(image, QUESTION, "--model", "no-such-model"))
    assert "no checkpoint folder at no-such-model. Give a folder written by 'biod2c train'" in line


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_of_the_model(
    name: str, image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    (folder / name).unlink()
    line = refused(invoke(image, QUESTION, "--model", folder))
    assert name.replace("model.safetensors", "*.safetensors") in line


def test_a_run_folder_for_the_model_in_it(image: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "run" / "model")
    line = refused(invoke(image, QUESTION, "--model", tmp_path / "run"))
    assert f"has no config.json. Did you mean {tmp_path / 'run' / 'model'}?" in line


def test_an_absent_device(image: Path, checkpoint: Path) -> None:
    line = refused(invoke(image, QUESTION, "-m", checkpoint, "--device", "cuda:99"))
    assert "device 'cuda:99' is not here" in line


def test_usage_errors_name_what_is_missing(image: Path) -> None:
    result = invoke(image)
    assert result.exit_code == 2
    assert "Missing argument 'QUESTION'" in result.stderr
