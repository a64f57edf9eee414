"""The page: one response that loads nothing, and works in a real browser."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from live import Live, live_server, png, wait_for

from biod2c_core.inference.serving.page import load_page
from biod2c_core.model.generation import Answerer

sys.path.append(str(Path(__file__).resolve().parents[2] / "evaluation"))

from chromium import Page, find_browser, open_browser


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = load_page()
    assert "/*S" not in page.html
    for word in ("http://", "https://", "src=", "@import", "url("):
        assert word not in page.html
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha")


@pytest.fixture(scope="module")
def live(checkpoint: Path) -> Iterator[Live]:
    with live_server(checkpoint) as running:
        yield running


@pytest.fixture(scope="module")
def page(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    with open_browser(browser, tmp_path_factory.mktemp("browser")) as opened:
        opened._call("Page.navigate", url=f"{live.url}/")
        wait_for(lambda: opened.run("document.readyState") == "complete")
        yield opened


def ask(page: Page, question: str) -> None:
    page.run(f"document.getElementById('question').value = '{question}'")
    page.run("document.getElementById('send').click()")


ANSWERS = "document.querySelectorAll('#answers li').length"
STATUS = "document.getElementById('status').textContent"
PIXELS = "document.getElementById('picture').toDataURL()"


@pytest.mark.browser
def test_drop_ask_see(page: Page, live: Live) -> None:
    ask(page, "is it?")
    assert page.run(STATUS) == "Choose an image first."
    page.drop(png(), "image.png")
    wait_for(lambda: not page.run("document.getElementById('picture').hidden"))
    plain = page.run(PIXELS)
    ask(page, "is there a lesion?")
    wait_for(lambda: page.run(ANSWERS) == 1)
    said = page.run("document.querySelector('#answers li').textContent")
    assert said.startswith("is there a lesion? — ")
    assert "confidence (not calibrated) 0." in said or "confidence (not calibrated) 1." in said
    painted = page.run(PIXELS)
    assert painted != plain  # the map lies on the image
    page.run("document.getElementById('overlay').click()")
    assert page.run(PIXELS) == plain
    page.run("document.getElementById('overlay').click()")
    ask(page, "where is the arrow?")
    wait_for(lambda: page.run(ANSWERS) == 2)
    assert page.run(PIXELS) != painted  # another question, another map
    page.run("document.querySelectorAll('#answers li')[1].click()")
    assert page.run(PIXELS) == painted
    own = [problem for problem in page.problems if f"requested {live.url}" not in problem]
    assert own == []


HIDDEN = "document.getElementById('picture').hidden"
NAME = "document.getElementById('name').textContent"
ROW = "document.querySelector('#answers li')"


def newest(page: Page) -> str:
    """The text of the first row; none before there is any."""
    return page.run(f"{ROW}?.textContent ?? ''")


def show(page: Page, data: bytes, name: str) -> None:
    page.drop(data, name)
    wait_for(lambda: page.run(NAME).startswith(name) and not page.run(HIDDEN))


@pytest.mark.browser
def test_what_is_no_image_is_said_and_nothing_is_asked_about_the_last_one(page: Page) -> None:
    show(page, png(), "before.png")
    answers = page.run(ANSWERS)
    page.drop(b"no image", "notes.txt")
    assert page.run(HIDDEN)  # at once, not when the file turns out to be none
    wait_for(lambda: "no image that the browser can read" in page.run(STATUS))
    assert "the server says: notes.txt is not an image in a known format" in page.run(STATUS)
    ask(page, "is it?")
    assert page.run(STATUS) == "Choose an image first."
    assert page.run(ANSWERS) == answers


def dicom(frames: int = 3) -> bytes:
    """Frames of one grey value each: 20, 40, 60 ... in a window of 0 to 100."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset

    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 8, 10, frames
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.WindowCenter, dataset.WindowWidth = 50.5, 101
    values = np.arange(20, 20 * frames + 1, 20, dtype="<u2")
    dataset.PixelData = np.repeat(values, 80).tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(page: Page) -> int:
    """Of the first pixel on display."""
    return page.run(
        "document.getElementById('picture').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    )


def choose(page: Page, **values: object) -> None:
    """Set controls as a person does, the last one with its event."""
    for name, value in values.items():
        page.run(f"document.getElementById('{name}').value = '{value}'")
    page.run(f"document.getElementById('{name}').dispatchEvent(new Event('change'))")


@pytest.mark.browser
def test_a_dicom_file_is_shown_by_the_server_frame_by_frame(page: Page) -> None:
    show(page, dicom(), "series.dcm")
    assert page.run(NAME) == "series.dcm, picture 1 of 3"
    assert grey(page) == 51  # 20 of 100
    ask(page, "is it?")
    wait_for(lambda: newest(page).endswith("picture 1 of 3"))
    before = page.run(f"{ROW}.querySelector('img').src")
    choose(page, frame=2)
    assert page.run(HIDDEN)
    wait_for(lambda: page.run(NAME) == "series.dcm, picture 3 of 3")
    assert grey(page) == 153
    choose(page, centre=60, width=2)
    wait_for(lambda: not page.run(HIDDEN))
    assert grey(page) > 200
    choose(page, centre=60, width=-1)
    wait_for(lambda: "series.dcm" in page.run(STATUS))  # the reason, not an old picture
    assert page.run(HIDDEN)
    ask(page, "is it?")
    assert page.run(STATUS) == "Choose an image first."
    choose(page, centre=40, width=2)
    wait_for(lambda: not page.run(HIDDEN))
    ask(page, "where is it?")  # about what is on display, not what was before the mistake
    wait_for(lambda: newest(page).startswith("where is it?"))
    assert page.run(f"{ROW}.querySelector('img').src") != before


@pytest.mark.browser
def test_a_volume_is_shown_slice_by_slice(page: Page) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.broadcast_to(np.arange(6, dtype=np.int16) * 20, (10, 8, 6))
    volume = nibabel.Nifti1Image(np.ascontiguousarray(voxels), np.eye(4)).to_bytes()
    show(page, gzip.compress(volume), "brain.nii.gz")
    assert page.run(NAME) == "brain.nii.gz, picture 4 of 6"
    choose(page, centre=50.5, width=101)
    wait_for(lambda: not page.run(HIDDEN) and grey(page) == 153)  # 60 of 100
    choose(page, axis=0)
    wait_for(lambda: page.run(NAME) == "brain.nii.gz, picture 6 of 10")


@pytest.mark.browser
def test_each_answer_keeps_its_picture(page: Page) -> None:
    show(page, png(1), "first.png")
    ask(page, "is there a lesion?")
    wait_for(lambda: newest(page).endswith("first.png"))
    seen = page.run(PIXELS)
    show(page, png(2), "second.png")
    ask(page, "is there a lesion?")
    wait_for(lambda: newest(page).endswith("second.png"))
    pictures = [page.run(f"document.querySelectorAll('#answers img')[{row}].src") for row in (0, 1)]
    assert pictures[0] != pictures[1]
    assert all(each.startswith("data:image/png") for each in pictures)
    page.run(f"{ROW}.focus()")
    for key in ("ArrowDown", "Enter"):
        page.run(
            f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))"
        )
    assert page.run(NAME) == "first.png"
    assert page.run(PIXELS) == seen
    ask(page, "where is the arrow?")  # about what is on display
    wait_for(lambda: newest(page).startswith("where"))
    assert newest(page).endswith("first.png")


OTHERS = (
    "document.querySelectorAll('#others img').length * !document.getElementById('others').hidden"
)
ROWS = "[...document.querySelectorAll('#answers li')]"


@pytest.mark.browser
def test_several_pictures_are_asked_about_in_one_request(
    page: Page, live: Live, checkpoint: Path
) -> None:
    page.drop_all({"a.png": png(0), "scan.dcm": dicom(), "b.png": png(3)})
    wait_for(lambda: page.run(OTHERS) == 3)
    assert page.run(NAME) == "a.png"
    requests, before = live.count("requests_total", 'status="200"'), page.run(ANSWERS)
    ask(page, "is there a fracture?")
    wait_for(lambda: page.run(ANSWERS) == before + 4)
    assert live.count("requests_total", 'status="200"') == requests + 1
    whole, *rows = page.run(f"{ROWS}.slice(0, 4).map((row) => row.textContent)")
    answers = page.run(f"{ROWS}.slice(0, 4).map((row) => row.querySelector('b').textContent)")
    names = ["a.png", "scan.dcm, picture 1 of 3", "b.png"]
    assert all(row.endswith(name) for row, name in zip(rows, names, strict=True))
    assert "the whole of 3 images: " in whole
    assert all(name in whole for name in names)
    alone = Answerer.load(str(checkpoint), "cpu")
    pictures = [tiny_models.make_image(0), tiny_models.make_image(3)]
    right = [each.text for each in alone.answer(pictures, ["is there a fracture?"] * 2)]
    assert [answers[1], answers[3]] == right
    assert answers[0] in answers[1:]
    thumbnails = page.run(f"{ROWS}.slice(1, 4).map((row) => row.querySelector('img').src)")
    assert len(set(thumbnails)) == 3
    assert page.run("document.querySelector('li.shown').textContent") == rows[0]


@pytest.mark.browser
def test_of_several_pictures_one_can_be_put_on_display_and_changed(page: Page) -> None:
    page.drop_all({"a.png": png(0), "scan.dcm": dicom()})
    wait_for(lambda: page.run(OTHERS) == 2)
    page.run("document.querySelectorAll('#others button')[1].click()")
    assert page.run(NAME) == "scan.dcm, picture 1 of 3"
    choose(page, frame=2)
    wait_for(lambda: page.run(NAME) == "scan.dcm, picture 3 of 3")
    ask(page, "what is it?")
    wait_for(lambda: newest(page).startswith("what is it?"))
    rows = page.run(f"{ROWS}.slice(0, 3).map((row) => row.textContent)")
    assert rows[1].endswith("a.png")
    assert rows[2].endswith("scan.dcm, picture 3 of 3")
    assert page.run("document.querySelector('li.shown').textContent") == rows[2]
    show(page, png(1), "alone.png")
    assert page.run(OTHERS) == 0
    page.run(f"{ROWS}[1].click()")  # an answer brings back all that it was about
    assert (page.run(NAME), page.run(OTHERS)) == ("a.png", 2)


@pytest.mark.browser
def test_of_several_files_the_one_that_is_no_image_is_named(page: Page) -> None:
    show(page, png(), "before.png")
    page.drop_all({"a.png": png(0), "notes.txt": b"no image"})
    wait_for(lambda: page.run(STATUS).startswith("notes.txt is no image"))
    assert page.run(HIDDEN)
    assert page.run(OTHERS) == 0
    ask(page, "is it?")
    assert page.run(STATUS) == "Choose an image first."


@pytest.mark.browser
def test_a_picture_unlike_those_of_training_has_a_warning(
    page: Page, live: Live, checkpoint: Path, tmp_path: Path
) -> None:
    with live_server(tiny_models.with_reference(checkpoint, tmp_path / "own")) as other:
        page._call("Page.navigate", url=f"{other.url}/")
        wait_for(lambda: page.run("document.readyState") == "complete")
        page.drop_all({"a.png": png(0), "b.png": png(1)})
        wait_for(lambda: page.run(OTHERS) == 2)
        ask(page, "is it?")
        wait_for(lambda: page.run(ANSWERS) == 3)
        lines = page.run(f"{ROWS}.map((row) => row.querySelector('.bar').nextSibling.data)")
        warnings = page.run(f"{ROWS}.map((row) => row.querySelector('.warning').textContent)")
    page._call("Page.navigate", url=f"{live.url}/")
    wait_for(lambda: page.run("document.readyState") == "complete")
    assert all(line.endswith(", familiarity 0.00") for line in lines)
    whole, first, second = warnings
    assert first == second
    assert "unlike those that tiny was trained on" in first
    assert whole == f"a.png, b.png: {first}"


@pytest.mark.browser
def test_the_slider_sets_how_strong_the_map_is(page: Page) -> None:
    show(page, png(1), "first.png")
    plain = page.run(PIXELS)
    ask(page, "is there a lesion?")
    wait_for(lambda: page.run(PIXELS) != plain)
    page.run("document.getElementById('strength').value = 0")
    page.run("document.getElementById('strength').dispatchEvent(new Event('input'))")
    assert page.run(PIXELS) == plain


@pytest.mark.browser
def test_the_page_fits_a_telephone(page: Page) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page._call("Emulation.setDeviceMetricsOverride", **size)
    show(page, dicom(), "a_rather_long_name_of_a_file_without_any_blank_in_it_at_all.dcm")
    ask(page, "is there a lesion in the left lung or in the right one?")
    wait_for(lambda: "rather_long" in newest(page))
    assert page.run("document.documentElement.scrollWidth") <= 390
    page._call("Emulation.clearDeviceMetricsOverride")
