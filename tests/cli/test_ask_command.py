"""``biod2c ask``: the answer alone on stdout; bad input is one line with the remedy and code 2."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from typer.testing import CliRunner, Result

from biod2c_cli.app import app
from biod2c_cli.console import one_line
from biod2c_core.data.images import load_image
from biod2c_core.inference.questions import about_picture
from biod2c_core.model.generation import Answerer

QUESTION = "is there a lesion?"
NOTE = "note: research software, no medical device: do not use its answers for diagnosis.\n"
UNLIKE = "note: this picture is unlike those that {} was trained on.\n"


def no_reference(checkpoint: Path) -> str:
    (line,) = about_picture(str(checkpoint), None)
    assert "has no reference of its training pictures" in line
    return f"note: {line}.\n"


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
    assert result.stderr == NOTE + no_reference(checkpoint)


def test_json_rows(image: Path, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"question": "where is the arrow?", "id": "q2"}\n')
    model = ("-m", checkpoint, "--device", "cpu")
    result = invoke(image, QUESTION, "--questions", file, "--json", "--n-best", 2, *model)
    assert result.exit_code == 0
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    common = {"question", "answer", "confidence", "calibrated", "abstained", "model", "seconds"}
    assert set(first) == common | {"candidates"}
    assert set(second) == common | {"candidates", "id"}
    assert 0 < first["confidence"] <= 1
    assert first["model"] == str(checkpoint)
    assert [first["question"], second["id"]] == [QUESTION, "q2"]
    assert first["candidates"][0]["answer"] == first["answer"]
    assert result.stderr == NOTE + no_reference(checkpoint)


def test_a_picture_unlike_those_of_training_is_said_once(
    image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    own = tiny_models.with_reference(checkpoint, tmp_path / "own")
    options = ("-m", own, "--device", "cpu")
    result = invoke(image, QUESTION, "where is the arrow?", "--json", *options)
    assert result.stderr == NOTE + UNLIKE.format(own)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["familiarity"] for row in rows] == [0.0, 0.0]
    lines = f"{QUESTION}\n{QUESTION}\n"
    arguments = ["ask", str(image), "--chat", *map(str, options)]
    assert CliRunner().invoke(app, arguments, input=lines).stderr == NOTE + UNLIKE.format(own)
    drawn = ["attn-map", str(image), QUESTION, "-o", str(tmp_path / "map.png"), "--json"]
    shown = CliRunner().invoke(app, [*drawn, *map(str, options)])
    assert shown.stderr == UNLIKE.format(own)
    assert json.loads(shown.stdout)["familiarity"] == 0.0
    many = invoke(image, tmp_path / "other.png", QUESTION, "--csv", *options)
    assert many.exit_code == 3  # the second is missing
    assert f"note: 1 of 2 pictures are unlike those that {own} was trained on" in many.stderr
    assert next(csv.DictReader(many.stdout.splitlines()))["familiarity"] == "0.0"


def test_a_question_in_a_script_the_model_never_met(image: Path, checkpoint: Path) -> None:
    result = invoke(image, "有没有肿瘤?", "is there a lesion?", "-m", checkpoint, "--json")
    assert result.exit_code == 0
    strange, plain = map(json.loads, result.stdout.splitlines())
    assert strange["unknown_script"] is True
    assert "unknown_script" not in plain
    assert "'有没有肿瘤?' is in a script that" in result.stderr
    assert result.stderr.count("hardly trained on") == 1


def test_no_answer_below_the_confidence_asked_for(image: Path, checkpoint: Path) -> None:
    options = ("--min-confidence", 1, "-m", checkpoint, "--device", "cpu")
    result = invoke(image, QUESTION, *options)
    assert (result.exit_code, result.stdout) == (3, "\n")
    assert "1 of 1 questions not answered: confidence below 1.0" in result.stderr
    result = invoke(image, QUESTION, "--json", *options)
    reply = json.loads(result.stdout)
    assert (result.exit_code, reply["answer"], reply["abstained"]) == (3, None, True)


def test_the_image_from_stdin(image: Path, checkpoint: Path) -> None:
    options = ("-m", str(checkpoint), "--device", "cpu")
    plain = invoke(image, QUESTION, *options)
    arguments = ["ask", "-", QUESTION, *options]
    piped = CliRunner().invoke(app, arguments, input=image.read_bytes())
    assert (piped.exit_code, piped.stdout) == (0, plain.stdout)
    empty = CliRunner().invoke(app, arguments, input=b"")
    assert "the image data" in refused(empty) or "is empty" in refused(empty)


def test_a_slice_of_a_volume(checkpoint: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    path = tmp_path / "volume.nii.gz"
    voxels = generator.integers(0, 999, (20, 24, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    options = ("-m", checkpoint, "--device", "cpu")
    result = invoke(path, QUESTION, "--axis", 1, "--slice", 3, "--window", "400,800", *options)
    picture = load_image(path, axis=1, slice_index=3, window=(400.0, 800.0))
    (answer,) = Answerer.load(str(checkpoint), "cpu").answer([picture], [QUESTION])
    assert (result.exit_code, result.stdout) == (0, f"{answer.text}\n")
    assert "has axial slices 0 to 7, not 9" in refused(invoke(path, QUESTION, "--slice", 9))
    both = refused(invoke(path, QUESTION, "--slice", 1, "--frame", 1))
    assert "has volumes 0 to 0, not 1" in both
    assert "its width must be over 0" in refused(invoke(path, QUESTION, "--window", "40,0"))
    assert "is not two numbers" in refused(invoke(path, QUESTION, "--window", "40"))


def test_a_chat_with_a_model_that_fails_on_each_question_ends_with_the_first(
    image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(checkpoint, theirs)
    settings = json.loads((theirs / "processor_config.json").read_text())
    (theirs / "processor_config.json").write_text(json.dumps({**settings, "prompt": "chat"}))
    (theirs / "chat_template.jinja").write_text("{{ messages[0].content.__class__.__mro__ }}")
    arguments = ["ask", str(image), "--chat", "-m", str(theirs), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments, input=f"{QUESTION}\n" * 3)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("SecurityError") == 1


def test_chat(image: Path, checkpoint: Path, tmp_path: Path) -> None:
    tiny_models.make_image(3).save(tmp_path / "other.png")
    lines = [
        QUESTION,
        "",
        "/image nothing.png",
        f"/image {tmp_path / 'other.png'}",
        QUESTION,
        f"/attn {tmp_path / 'map.png'}",
        "/history",
        "/what",
        f"/save {tmp_path / 'said.jsonl'}",
        "/quit",
        "never asked",
    ]
    arguments = ["ask", str(image), "--chat", "-m", str(checkpoint), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments, input="\n".join(lines))
    assert result.exit_code == 0, result.stderr
    answerer = Answerer.load(str(checkpoint), "cpu")
    texts = [
        answerer.answer([tiny_models.make_image(index)], [QUESTION])[0].text for index in (0, 3)
    ]
    said = result.stdout.removesuffix("\n").split("\n")
    names = [str(image), str(tmp_path / "other.png")]
    assert said[2:] == [
        f"{name}: {QUESTION} -> {one_line(text)}" for name, text in zip(names, texts, strict=True)
    ]
    assert [line.rpartition(" (")[0] for line in said[:2]] == [one_line(text) for text in texts]
    assert "image not found: nothing.png" in result.stderr
    assert "'/what' is not known here" in result.stderr
    assert (tmp_path / "map.png").exists()
    rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [(row["image"], row["answer"]) for row in rows] == list(zip(names, texts, strict=True))


def test_a_chat_takes_no_questions(image: Path) -> None:
    assert "--chat reads its questions from stdin" in refused(invoke(image, QUESTION, "--chat"))


def test_calibrate(image: Path, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    records = tmp_path / "records.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()] * 4
    numbered = [{**row, "id": str(index)} for index, row in enumerate(rows)]
    records.write_text("".join(json.dumps(row) + "\n" for row in numbered))
    arguments = ["calibrate", records, "--image-root", data.parent, "--device", "cpu"]
    unnamed = CliRunner().invoke(app, [str(each) for each in arguments])
    assert "none is given. Name it with --model." in refused(unnamed)
    arguments += ["-m", folder, "--plot", tmp_path / "risk.png"]
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["records"] == 48
    assert printed["risk_coverage"][0] == {
        **{"min_confidence": 0.0, "answers": 48, "coverage": 1.0},
        "accuracy": printed["answers"]["all"]["accuracy"],
    }
    assert "no --min-confidence leaves 95 % right answers" in result.stderr
    assert (tmp_path / "risk.png").read_bytes().startswith(b"\x89PNG")
    few = CliRunner().invoke(app, ["calibrate", str(records), "-m", "x", "--plot", "risk.gif"])
    assert "risk.gif is not the name of a PNG" in refused(few)
    options = ("--json", "-m", folder, "--device", "cpu")
    assert json.loads(invoke(image, QUESTION, *options).stdout)["calibrated"] is True


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
    (tmp_path / "text.png").write_text("this is not a picture\n" * 40)
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
    result = invoke()
    assert result.exit_code == 2
    assert "Missing argument 'IMAGE'" in result.stderr
    assert "there is no question" in refused(invoke(image))
    for arguments in ([QUESTION], [QUESTION, "And where?"], [QUESTION, "--chat"]):
        line = refused(invoke(*arguments))
        assert f"'{QUESTION}' is not a file, so there is no picture to ask about" in line
