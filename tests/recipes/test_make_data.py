"""The data recipe of the embedded model: pure parts, and a small build from the real data."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import arrows
import numpy as np
import pytest
from captions import caption_of
from corpus import canonical_answer, context_of, grouped_lines, undecided_lines
from crops import visible_things
from hypothesis import given
from hypothesis import strategies as st
from make_data import THINGS, build
from pictures import NO_ARROWS, Picture, Thing, read_pictures
from PIL import Image
from queues import build_queue, holds, normalized
from statements import sentence, statement
from things import Question, balanced, nuclei_bin, quadrant, side
from vqa_rad import told_modality

from biod2c_core.data.records import iter_records

SMEAR = {"modality": "light microscopy", "stain": "Giemsa", "organ": "blood"}


def smear(name: str = "a", *things: Thing) -> Picture:
    return Picture("blood_cells", f"blood_cells/images/{name}.jpg", (200, 100), SMEAR, list(things))


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Is/Are there tracheal deviation?", "no", "there is no tracheal deviation"),
        ("Is there evidence of an abdominal hernia?", "No", "there is no abdominal hernia"),
        ("Is there a pleural effusion", "yes", "there is a pleural effusion"),
        ("Are there gallstones in this image?", "No", "there are no gallstones"),
        ("Is the heart enlarged? -yes/no", "Yes", "the heart is enlarged"),
        ("Are the kidneys normal?", "no", "the kidneys are not normal"),
        ("Is this an MRI?", "yes", "this is an MRI"),
        ("Was contrast used to take this image?", "no", "contrast was not used"),
        ("Does the picture contain liver?", "Yes", "the image contains liver"),
        ("What plane was this image taken in?", "axial", "the plane is axial"),
        ("Where is/are the lesion located?", "left lobe", "location of the lesion: left lobe"),
        ("How many kidneys are there in this image?", "2", "number of kidneys: 2"),
        ("Are the ventricles larger than normal?", "yes", ""),
        ("Why is the sky blue?", "scattering", ""),
    ],
)
def test_statement(question: str, answer: str, expected: str) -> None:
    assert statement(question, answer) == expected


def test_sentence_keeps_abbreviations() -> None:
    assert sentence("CT of the head") == "CT of the head."
    assert sentence("there is a mass") == "There is a mass."


@pytest.mark.parametrize(
    ("raw", "clean"),
    [("Yes", "yes"), ("Right Lung", "right lung"), ("X-Ray", "X-ray"), ("CT", "CT"), ("2", "2")],
)
def test_canonical_answer(raw: str, clean: str) -> None:
    assert canonical_answer(raw) == clean


def test_told_modality_needs_agreement() -> None:
    def row(question: str, answer: str) -> dict[str, str]:
        return {"question": question, "answer": answer, "question_type": "MODALITY"}

    flair, scan = row("What modality is this?", "MR - FLAIR"), row("Is this a CT scan?", "yes")
    assert told_modality([flair]) == "MRI"
    assert told_modality([scan]) == "CT"
    assert told_modality([flair, scan]) == ""
    assert told_modality([row("Is this a CT scan?", "no")]) == ""


@given(st.floats(0, 1), st.floats(0, 1))
def test_quadrant_is_unambiguous_or_empty(across: float, down: float) -> None:
    place = quadrant(across * 300, down * 200, (300, 200))
    assert ("left" in place, "upper" in place) == (across < 0.5, down < 0.5) or not place
    assert bool(place) == (min(abs(across - 0.5), abs(down - 0.5)) >= 0.1) or math.isclose(
        min(abs(across - 0.5), abs(down - 0.5)), 0.1, abs_tol=1e-6
    )


def test_side_and_bins() -> None:
    assert [side(x, 100) for x in (10, 45, 55, 90)] == ["left", "", "", "right"]
    bins = [nuclei_bin(n) for n in (9, 10, 25, 26, 50, 51)]
    assert bins == ["fewer than 10", *["10 to 25"] * 2, *["26 to 50"] * 2, "more than 50"]


def answers_about(picture: Picture) -> dict[str, str]:
    rng = random.Random(0)
    return {q.question: q.answer for ask in THINGS for q in ask(picture, rng)}


def test_questions_follow_the_boxes() -> None:
    cell = Thing("white blood cell", (10, 10, 40, 40))
    asked = answers_about(smear("a", cell))
    assert asked["Where is the white blood cell?"] == "upper left"
    assert asked["Is the white blood cell on the right side of the image?"] == "no"
    assert asked["How many white blood cells are there?"] == "1"
    assert asked["How many platelets are there?"] == "0"
    two = smear("a", cell, Thing("white blood cell", (150, 60, 190, 95)))
    asked = answers_about(two)
    assert "Where is the white blood cell?" not in asked, "two cells have no one place"
    assert asked["Is there more than one white blood cell?"] == "yes"


def test_caption_names_what_is_known() -> None:
    picture = smear("a", Thing("platelet", (150, 70, 170, 90)))
    assert caption_of(picture) == (
        "Light microscopy of a Giemsa-stained blood smear. There are no white blood cells. "
        "There is one platelet in the lower right."
    )


def test_balanced_gives_as_many_yes_as_no_over_all_images() -> None:
    pictures = [smear(str(i)) for i in range(10)]
    asked = [(p, Question("t", "t", f"{n}?", "yes", True)) for p in pictures for n in range(5)]
    asked += [(p, Question("t", "t", "other?", "no", True)) for p in pictures[:8]]
    asked += [(p, Question("t", "only yes", "habit?", "yes", True)) for p in pictures]
    kept = balanced(asked, 30, seed=1)
    assert Counter((q.topic, q.answer) for _, q in kept) == {("t", "yes"): 8, ("t", "no"): 8}
    assert len({p.name for p, q in kept if q.answer == "yes"}) == 8, "images take turns"


def test_crop_keeps_drops_or_refuses() -> None:
    cell, red = Thing("white blood cell", (0, 0, 20, 20)), Thing("red blood cell", (0, 0, 20, 20))
    assert visible_things([cell], (0, 0, 50, 50)) == [cell]
    assert visible_things([cell], (40, 40, 90, 90)) == []
    assert visible_things([cell], (10, 0, 60, 50)) is None, "half a counted cell: no clear answer"
    assert visible_things([red], (10, 0, 60, 50)) == []
    assert visible_things([cell], (4, 2, 54, 52)) == [Thing("white blood cell", (0, 0, 16, 18))]


TEXTS = st.lists(st.sampled_from(["polyp", "a polyp here", "no mass", "left lung", "lung", "CT"]))


@given(st.sampled_from(["polyp", "Yes", "no", "lung", "the CT"]), TEXTS, TEXTS, st.integers(0, 9))
def test_queue_never_holds_the_answer(answer: str, facts: list, others: list, seed: int) -> None:
    queue = build_queue(answer, facts, others, random.Random(seed), size=4)
    assert len(queue) <= 4
    assert len({normalized(text) for text in queue}) == len(queue)
    assert not any(holds(text, answer) for text in queue)
    if answer.lower() in ("yes", "no"):
        assert "no mass" not in queue
    usable = {text for text in facts + others if not holds(text, answer)} - {"no mass"}
    assert len(queue) >= min(4, len(usable))


def test_holds_means_whole_phrases() -> None:
    assert holds("The polyp, upper-left.", "upper left")
    assert not holds("polyps", "polyp")
    assert not holds("anything", "?")


@pytest.mark.parametrize("angle", [0, 37, 90, 201, 300])
@pytest.mark.parametrize("outlined", [True, False])
def test_arrow_ends_at_its_tip(angle: float, outlined: bool) -> None:
    arrow = arrows.Arrow((60.0, 50.0), angle, 40, 5, 16, outlined, "red")
    image = np.asarray(arrows.draw(Image.new("L", (120, 100), 128), [arrow]), int)
    along = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    rows, columns = np.nonzero(np.abs(image - 128).max(-1) > 20)
    ahead = (np.stack([columns, rows], 1) + 0.5 - arrow.tip) @ along
    assert -42.5 < ahead.min() < -38, "the tail is a length behind"
    assert -2 < ahead.max() < (4 if outlined else 1), "nothing but the outline lies beyond the tip"
    x, y = np.array(arrow.tip) - 6 * along
    assert tuple(image[int(y), int(x)]) == arrows.COLOURS["red"]


def test_direction_is_named_near_the_axes_only() -> None:
    assert [arrows.direction(a) for a in (0, 350, 95, 180, 250, 45)] == [
        "right", "right", "down", "left", "up", "",
    ]  # fmt: skip


def test_context_lines_hold_facts_of_the_same_image_only() -> None:
    rows = [
        ("a", "CT.", "Is there a mass?", "yes"),
        ("a", "CT.", "Is the liver normal?", "no"),
        ("b", "MRI.", "Is there edema?", "yes"),
    ]
    lines = list(grouped_lines(rows, seed=3, repeats=6))
    assert lines.count("Question: Is there a mass? Answer: yes") == 1
    behind_it = [line for line in lines if line.startswith("CT. There is a mass.")]
    assert any(line.endswith("Question: Is there a mass? Answer: yes") for line in behind_it)
    assert not any("CT." in line and "edema" in line for line in lines)
    assert context_of("CT.", [], "", random.Random(0)) == "CT."


def test_undecided_lines_do_not_say_what_is_true() -> None:
    rows = [
        ("a", "CT.", "Is there a mass?", "yes"),
        ("a", "CT.", "Where is the mass?", "left lung"),
        ("b", "CT.", "Where is the cyst?", "liver"),
        ("b", "CT.", "Is there edema?", "no"),
    ]
    lines = [line for seed in range(60) for line in undecided_lines(rows, seed)]
    asked = Counter(line[line.index("Question:") :] for line in lines)
    for question in ("Is there a mass?", "Is there edema?"):
        assert asked[f"Question: {question} Answer: yes"] == 60
        assert asked[f"Question: {question} Answer: no"] == 60
    for question in ("Where is the mass?", "Where is the cyst?"):
        for answer in ("left lung", "liver"):
            assert 30 < asked[f"Question: {question} Answer: {answer}"] < 90
    # The fact behind which the answer stands never stands beside its contrary.
    behind = [line for line in lines if line.endswith("Question: Is there a mass? Answer: no")]
    assert any("There is no mass." in line for line in behind)
    assert not any("There is a mass." in line for line in behind)


LIMIT = 24  # every so-manieth picture


@pytest.fixture(scope="module")
def built(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("tiny")
    return out, build(data_root, out, seed=0, limit=LIMIT)


def bases(records: list) -> set[str]:
    return {record.tags["base"] for record in records}


@pytest.mark.real_data
def test_files_are_valid_records_with_images(built: tuple[Path, dict]) -> None:
    out, files = built
    for name, records in files.items():
        read = list(iter_records(out / f"{name}.jsonl"))
        assert read == records
        assert read, f"{name} is empty"
        for image in {record.image for record in read}:
            with Image.open(out / image) as opened:
                opened.verify()


@pytest.mark.real_data
def test_sides_and_variants_share_no_image(built: tuple[Path, dict]) -> None:
    _, files = built
    trained = {name for name in files if name.startswith(("official", "disjoint"))}
    for name in trained:
        for side_name in ("development", "final"):
            assert not bases(files[name]) & bases(files[side_name]), (name, side_name)
    assert not bases(files["development"]) & bases(files["final"])
    test = bases(files["vqa_rad_test"])
    assert test <= bases(files["official_vqa_rad"]), "the official split repeats its test images"
    for name in trained:
        assert name.startswith("official") or not bases(files[name]) & test, name


@pytest.mark.real_data
def test_development_is_told_apart_by_source(built: tuple[Path, dict]) -> None:
    _, files = built
    own, new = files["development_own"], files["development_new"]
    assert len(own) + len(new) == len(files["development"])
    trained = {record.source for record in files["official_kinds"]}
    assert {record.source for record in own} <= trained
    assert not {record.source for record in new} & trained


@pytest.mark.real_data
def test_test_questions_are_in_no_training_file(built: tuple[Path, dict]) -> None:
    _, files = built
    test_ids = {record.id for record in files["vqa_rad_test"]}
    for name, records in files.items():
        assert name == "vqa_rad_test" or not test_ids & {record.id for record in records}


@pytest.mark.real_data
def test_language_text_has_no_answer_that_a_variant_leaves_out(built: tuple[Path, dict]) -> None:
    out, files = built
    lines = (out / "disjoint_language.txt").read_text("utf-8").splitlines()
    known = {record.question for record in files["disjoint_vqa_rad"]}
    unseen = [r for r in files["official_vqa_rad"] if r.question not in known]
    asked = {line.rpartition("Question: ")[2] for line in lines}
    rows = [f"{r.question} Answer: {r.answer}" for r in unseen if len(r.question.split()) > 7]
    assert rows
    assert not asked & set(rows)


@pytest.mark.real_data
def test_real_queues_are_clear_of_the_answer(built: tuple[Path, dict]) -> None:
    _, files = built
    for name in ("official_kinds", "official_findings", "official_things", "official_vqa_rad"):
        for record in files[name]:
            # A sentence is no answer to be told from others; of a picture with an arrow little else is known.
            bare = record.tags["task"] == "describe" or name == "official_things"
            assert (0 if bare else 1) <= len(record.queue) <= 30
            assert not any(holds(text, record.answer) for text in record.queue)


@pytest.mark.real_data
def test_yes_and_no_about_a_kind_are_equally_frequent(built: tuple[Path, dict]) -> None:
    _, files = built
    counts: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for record in files["official_kinds"]:
        if record.answer_type == "CLOSED" and record.tags["task"] in ("modality", "organ", "plane"):
            counts[record.tags["task"], record.tags["named"]][record.answer] += 1
    assert counts
    assert all(count["yes"] == count["no"] for count in counts.values())


@pytest.mark.real_data
def test_no_arrow_is_drawn_where_none_may_be(built: tuple[Path, dict], data_root: Path) -> None:
    _, files = built
    modality = {p.origin: p.facts.get("modality") for p in read_pictures(data_root)}
    drawn = [r for r in files["official_things"] if r.tags.get("arrows")]
    assert drawn
    assert not {modality.get(r.tags["base"]) for r in drawn} & set(NO_ARROWS)


@pytest.mark.real_data
def test_same_seed_same_bytes(built: tuple[Path, dict], data_root: Path, tmp_path: Path) -> None:
    out, _ = built
    build(data_root, tmp_path, seed=0, limit=LIMIT)
    paths = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert paths == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for path in paths:
        assert (out / path).read_bytes() == (tmp_path / path).read_bytes(), path
