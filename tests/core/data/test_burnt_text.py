"""Text in pixels is found, listed and blacked out; with a stand-in reader, and with the real one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from biod2c_core.data import burnt_text
from biod2c_core.data.burnt_text import FoundText, TextReader, find_text, mask_text
from biod2c_core.data.images import load_image
from biod2c_core.data.records import ShareBox, iter_records
from biod2c_core.data.scrub_text import journal_of, scrub_text
from biod2c_core.errors import InputError, MissingDependencyError

needs_reader = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr_onnxruntime") is None, reason="needs the extra 'text'"
)
BOX = ShareBox((0.25, 0.25, 0.75, 0.5))


class RedReader:
    """Takes a picture that is red at its top left to hold a name, and one in green to hold a faint one."""

    identity = "red 1"

    def __init__(self) -> None:
        self.read_so_far = 0

    def read(self, picture: Image.Image) -> list[FoundText]:
        self.read_so_far += 1
        red, green, _ = picture.getpixel((0, 0))
        if red > 200:
            return [FoundText("DOE^JANE", BOX, 0.9)]
        return [FoundText("l", BOX, 0.4)] if green > 200 else []


class KilledError(Exception):
    pass


def write_data(folder: Path, names: list[str], colour: str = "red") -> Path:
    rows = []
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".tif": "TIFF", ".gif": "GIF"}.get(Path(name).suffix, "PNG")
        Image.new("RGB", (40, 40), colour).save(folder / name, kind)
        rows.append({"id": name, "image": name, "question": "What?", "answer": "yes"})
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def is_masked(picture: Image.Image) -> bool:
    values = np.asarray(picture)
    return bool((values[11:19, 11:29] < 8).all() and values[0, 0, 0] > 200)


def test_the_box_and_a_margin_around_it_are_black_and_the_rest_is_as_it_was() -> None:
    picture = Image.new("RGB", (80, 40), "white")
    masked = np.asarray(mask_text(picture, [FoundText("A", BOX, 1.0)]))
    assert (masked[10:20, 20:60] == 0).all()
    assert (masked[9, 30] == 0).all()
    assert (masked[:7] == 255).all()
    assert (masked[:, 65:] == 255).all()
    assert (np.asarray(picture) == 255).all()


def test_what_is_less_sure_is_left_out_and_a_lower_bar_reads_nothing_again(tmp_path: Path) -> None:
    write_data(tmp_path, ["a.png"], "red")
    write_data(tmp_path, ["b.png"], "lime")
    names, journal, reader = ["a.png", "b.png"], tmp_path / "j.jsonl", RedReader()
    report = find_text(names, tmp_path, journal, make_reader=lambda: reader)
    assert report.images == 2
    assert report.to_json() == [
        {"image": "a.png", "texts": [{"text": "DOE^JANE", "box": BOX, "confidence": 0.9}]}
    ]
    lower = find_text(names, tmp_path, journal, min_confidence=0.3, make_reader=lambda: reader)
    assert list(lower.texts) == names
    assert reader.read_so_far == 2


def test_killed_and_started_again_no_picture_is_read_twice_unless_it_has_changed(
    tmp_path: Path,
) -> None:
    names, journal, reader = ["0.png", "1.png", "2.png"], tmp_path / "j.jsonl", RedReader()
    write_data(tmp_path, names)

    def killed(count: int) -> None:
        if count == 1 and reader.read_so_far == 2:
            raise KilledError

    with pytest.raises(KilledError):
        find_text(names, tmp_path, journal, make_reader=lambda: reader, advance=killed)
    done = journal.read_text().count("\n")
    find_text(names, tmp_path, journal, make_reader=lambda: reader)
    assert reader.read_so_far == 2 + 3 - done
    before = reader.read_so_far
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "1.png")
    report = find_text(names, tmp_path, journal, make_reader=lambda: reader)
    assert reader.read_so_far == before + 1
    assert list(report.texts) == ["0.png", "2.png"]


def test_another_reader_reads_again_and_a_damaged_journal_is_named(tmp_path: Path) -> None:
    write_data(tmp_path, ["a.png"])
    journal = tmp_path / "j.jsonl"
    find_text(["a.png"], tmp_path, journal, make_reader=RedReader)
    other = RedReader()
    other.identity = "red 2"
    find_text(["a.png"], tmp_path, journal, make_reader=lambda: other)
    assert other.read_so_far == 1
    journal.write_text('{"image": "a.png"}\n')
    with pytest.raises(InputError, match=r"j\.jsonl:1: not a row of text"):
        find_text(["a.png"], tmp_path, journal, make_reader=RedReader)


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "gone.png"]
    write_data(tmp_path, names)
    (tmp_path / "gone.png").unlink()
    reports = [
        find_text(names, tmp_path, tmp_path / f"{n}.jsonl", workers=n, make_reader=RedReader)
        for n in (1, 2)
    ]
    assert reports[0] == reports[1]
    assert list(reports[0].texts) == names[:2]
    assert "not found" in reports[0].unreadable["gone.png"]


def test_scrubbed_data_keeps_names_records_and_what_has_no_text(tmp_path: Path) -> None:
    names = ["a.png", "sub/b.jpg", "c.tif", "clean.jpg"]
    data, out = write_data(tmp_path / "in", names), tmp_path / "out"
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "in/clean.jpg")
    report = scrub_text(data, out, make_reader=RedReader)
    assert report.renamed == {}
    assert list(iter_records(out / "mine.jsonl")) == list(iter_records(data))
    for name in names[:3]:
        assert is_masked(load_image(name, root=out))
        assert not is_masked(load_image(name, root=tmp_path / "in"))
    assert (out / "clean.jpg").read_bytes() == (tmp_path / "in/clean.jpg").read_bytes()
    # the copies can be given away without what was read in the originals
    assert "DOE" in journal_of(out).read_text()
    assert journal_of(out).parent == out.parent
    assert not any(b"DOE" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_what_cannot_keep_its_format_is_a_png_and_the_record_says_so(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "in", ["a.gif", "pages.tif", "plain"]), tmp_path / "out"
    blue = Image.new("RGB", (40, 40), "blue")  # nobody has looked at the second page
    blue.save(tmp_path / "in/pages.tif", save_all=True, append_images=[Image.new("RGB", (40, 40))])
    report = scrub_text(data, out, make_reader=RedReader)
    images = [record.image for record in iter_records(out / "mine.jsonl")]
    assert images == ["a.gif.png", "pages.tif", "plain.png"]
    assert report.renamed == {"a.gif": "a.gif.png", "plain": "plain.png"}
    with Image.open(out / "a.gif.png") as written, Image.open(out / "pages.tif") as pages:
        assert written.format == "PNG"
        assert getattr(pages, "n_frames", 1) == 1
    assert is_masked(load_image("a.gif.png", root=out))


def test_dicom_and_nifti_are_written_as_png_without_their_headers(tmp_path: Path) -> None:
    nibabel, dicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom.examples")
    data, out = write_data(tmp_path / "in", ["a.nii", "b.dcm"]), tmp_path / "out"
    volume = np.arange(4**3, dtype=np.int16).reshape(4, 4, 4)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "in/a.nii")
    dicom.ct.save_as(tmp_path / "in/b.dcm")
    scrub_text(data, out, make_reader=RedReader)
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.png", "b.dcm.png", "mine.jsonl"]
    name = str(dicom.ct.PatientName).encode()
    assert name in (tmp_path / "in/b.dcm").read_bytes()
    assert name not in (out / "b.dcm.png").read_bytes()
    same = [np.asarray(load_image(p)) for p in (tmp_path / "in/b.dcm", out / "b.dcm.png")]
    assert np.array_equal(*same)


def test_a_folder_that_is_there_is_never_written_into(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "in", ["a.png"]), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        scrub_text(data, out, make_reader=RedReader)
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_two_pictures_for_one_name_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "in", ["a.gif", "a.gif.png"]), tmp_path / "out"
    with pytest.raises(InputError, match=r"would both be written as 'a\.gif\.png'"):
        scrub_text(data, out, make_reader=RedReader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", journal_of(out).name]


def test_records_whose_picture_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "in", ["a.png", "b.png"]), tmp_path / "out"
    (tmp_path / "in/b.png").write_bytes(b"no picture")
    report = scrub_text(data, out, make_reader=RedReader)
    assert (report.records, report.left_out) == (1, 1)
    assert [record.id for record in iter_records(out / "mine.jsonl")] == ["a.png"]
    (tmp_path / "in/a.png").unlink()
    with pytest.raises(InputError, match=r"no picture of .* can be read"):
        scrub_text(data, tmp_path / "out2", make_reader=RedReader)


def test_without_the_extra_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rapidocr_onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"biod2c\[text\]"):
        burnt_text.require_reader()


@needs_reader
def test_the_real_reader_finds_a_name_and_what_is_masked_is_gone() -> None:
    picture = Image.new("RGB", (320, 200), (60, 60, 60))
    font = ImageFont.load_default(22)
    ImageDraw.Draw(picture).text((30, 40), "SMITH JOHN", fill="white", font=font)
    reader = TextReader()
    (found,) = reader.read(picture)
    assert found.text.replace(" ", "") == "SMITHJOHN"
    assert found.confidence > 0.9
    left, top, right, bottom = found.box
    assert 0.05 < left < 0.12 < 0.4 < right < 0.6
    assert 0.15 < top < 0.3 < bottom < 0.45
    masked = mask_text(picture, [found])
    assert (np.asarray(masked) <= 60).all()
    assert reader.read(masked) == []


@needs_reader
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_the_real_reader_takes_pictures_of_any_shape(size: tuple[int, int]) -> None:
    reader, seen = TextReader(), []

    def engine(pixels: np.ndarray, **_: object) -> tuple[None, None]:
        seen.append(pixels.shape[:2])
        return None, None

    reader._engine = engine
    assert reader.read(Image.new("RGB", size, "grey")) == []
    ((height, width),) = seen  # a thin one is padded: the engine would blow it up without bounds
    assert max(height, width) <= 4 * min(height, width)
