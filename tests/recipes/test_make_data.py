"""The data recipe of the embedded model: pure parts, and a small build from the real data."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import arrows
import numpy as np
import pytest
from captions import caption_of, facts_of
from corpus import canonical_answer, context_of, grouped_lines, undecided_lines
from crops import visible_things
from derive import Question, balanced, nuclei_bin, quadrant, questions_of, side
from derived import SCARCE
from heads import VOLUMES
from hypothesis import given
from hypothesis import strategies as st
from make_data import build
from PIL import Image
from queues import build_queue, holds, normalized
from sources import (
    Picture,
    Thing,
    assign_parts,
    near_duplicate_groups,
    told_modality,
)
from statements import sentence, statement
from test_heads import write_volume

from biod2c_core.data.records import Record, iter_records

SMEAR = {"modality": "light microscopy", "stain": "Giemsa", "organ": "blood"}


def smear(name: str = "a", *things: Thing) -> Picture:
    return Picture("blood_cells", f"images/blood_cells/{name}.jpg", (200, 100), SMEAR, list(things))


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


def test_questions_follow_the_boxes() -> None:
    cell = Thing("white blood cell", (10, 10, 40, 40))
    asked = {q.question: q.answer for q in questions_of(smear("a", cell), seed=0)}
    assert asked["Where is the white blood cell?"] == "upper left"
    assert asked["Is the white blood cell on the right side of the image?"] == "no"
    assert asked["How many white blood cells are there?"] == "1"
    assert asked["How many platelets are there?"] == "0"
    two = smear("a", cell, Thing("white blood cell", (150, 60, 190, 95)))
    asked = {q.question: q.answer for q in questions_of(two, seed=0)}
    assert "Where is the white blood cell?" not in asked, "two cells have no one place"
    assert asked["Is there more than one white blood cell?"] == "yes"


def test_caption_names_what_is_known() -> None:
    picture = smear("a", Thing("platelet", (150, 70, 170, 90)))
    assert caption_of(picture) == (
        "Light microscopy of a Giemsa-stained blood smear. There are no white blood cells. "
        "There is one platelet in the lower right."
    )
    assert ("quadrant", "platelet in the lower right") in facts_of(picture)


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


def test_near_duplicates_join_transitively_and_stay_together() -> None:
    angles = np.radians([0, 20, 40, 170])
    prints = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    groups = near_duplicate_groups(prints, math.cos(math.radians(25)))
    assert groups == [0, 0, 0, 3]
    pictures = [smear(str(i)) for i in range(40)]
    assign_parts(pictures, [i // 4 for i in range(40)], seed=0, heldout=0.2, validation=0.1)
    for start in range(0, 40, 4):
        assert len({picture.part for picture in pictures[start : start + 4]}) == 1
    assert Counter(p.part for p in pictures) == {"heldout": 8, "validation": 4, "train": 28}


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


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for volume in VOLUMES:
        write_volume(folder / volume.file, (slice(None), slice(5, 9), slice(None)))
    return folder


@pytest.fixture(scope="module")
def built(
    data_root: Path, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("tiny")
    return out, build(data_root, out, seed=0, limit=10, arrow_scale=0.04, packages=packages)


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
                assert "vqa_rad" in image.split("/") or max(opened.size) <= 512


@pytest.mark.real_data
def test_splits_share_no_image(built: tuple[Path, dict]) -> None:
    _, files = built
    train, heldout = bases(files["official_train"]), bases(files["heldout"])
    assert not train & heldout
    assert not train & bases(files["validation"])
    assert not heldout & bases(files["validation"])
    assert not bases(files["official_captions"]) & heldout
    test = bases(files["vqa_rad_test"])
    assert test <= train, "the official split repeats its test images in train"
    for name in ("disjoint_captions", "disjoint_train"):
        assert not bases(files[name]) & test
    aside = bases(files["tune_validation"])
    for name in ("tune_captions", "tune_train"):
        assert not bases(files[name]) & aside


@pytest.mark.real_data
def test_test_questions_are_in_no_training_file(built: tuple[Path, dict]) -> None:
    _, files = built
    test_ids = {record.id for record in files["vqa_rad_test"]}
    for name, records in files.items():
        assert name == "vqa_rad_test" or not test_ids & {record.id for record in records}


@pytest.mark.real_data
def test_language_text_holds_nothing_that_a_variant_leaves_out(built: tuple[Path, dict]) -> None:
    out, files = built
    lines = set((out / "tune_language.txt").read_text("utf-8").splitlines())
    row = next(r for r in files["tune_validation"] if len(r.question.split()) > 7)
    asked = {line for line in lines if line.endswith(f"{row.question} Answer: {row.answer}")}
    assert lines
    assert not asked or row.question in {r.question for r in files["disjoint_train"]}


@pytest.mark.real_data
def test_blank_pictures_tell_nothing(built: tuple[Path, dict]) -> None:
    out, files = built
    blanks = [r for r in files["official_train"] if r.tags["task"] == "blank"]
    closed = Counter(r.answer for r in blanks if r.answer in ("yes", "no"))
    assert abs(closed["yes"] - closed["no"]) < 0.3 * closed.total()
    assert not {r.image for r in blanks} & {r.image for r in files["blank"]}
    twice = defaultdict(list)
    for record in files["official_blank"]:
        twice[(record.image, record.question)].append(record.answer)
    assert all(c.count("yes") == c.count("no") for c in twice.values())
    assert not {r.image for r in files["official_blank"]} & {r.image for r in files["blank"]}
    for record in (*blanks, *files["official_blank"], *files["blank"]):
        assert (out / record.image).is_file()
        assert not record.queue


@pytest.mark.real_data
def test_real_queues_are_clear_of_the_answer(built: tuple[Path, dict]) -> None:
    _, files = built
    for record in files["official_train"]:
        if record.source == "blank":
            continue
        assert 1 <= len(record.queue) <= 30
        assert not any(holds(text, record.answer) for text in record.queue)


@pytest.mark.real_data
def test_source_does_not_tell_what_the_arrow_points_to(built: tuple[Path, dict]) -> None:
    _, files = built
    answers: dict[str, Counter] = defaultdict(Counter)
    for record in files["official_train"]:
        if record.tags.get("task") == "arrow" and record.answer_type == "OPEN":
            answers[record.source][record.answer] += 1
    assert set(answers) == {"blood_cells", "endoscopy", "nuclei"}
    for source, counts in answers.items():
        assert set(counts) == set(arrows.TARGETS[source])
        assert len(set(counts.values())) == 1


@pytest.mark.real_data
def test_yes_and_no_are_equally_frequent(built: tuple[Path, dict]) -> None:
    _, files = built
    counts: dict[str, Counter] = defaultdict(Counter)
    for record in files["official_train"]:
        if record.answer_type == "CLOSED" and "topic" in record.tags:
            counts[record.tags["topic"]][record.answer] += 1
    assert counts
    assert all(count["yes"] == count["no"] for count in counts.values())


@pytest.mark.real_data
def test_same_seed_same_bytes(
    built: tuple[Path, dict], data_root: Path, packages: Path, tmp_path: Path
) -> None:
    out, _ = built
    build(data_root, tmp_path, seed=0, limit=10, arrow_scale=0.04, packages=packages)
    paths = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert paths == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for path in paths:
        assert (out / path).read_bytes() == (tmp_path / path).read_bytes(), path


def check_pairs(pairs: list[Record], train: list[Record]) -> None:
    """The further questions about two arrows: on images of their own, drawn on those of training."""
    assert {r.tags["task"] for r in pairs} == {"arrow", "arrow_direction"}
    assert not {r.image for r in pairs} & {r.image for r in train}
    assert {r.tags["base"] for r in pairs} <= {r.tags["base"] for r in train}
    answers: dict[str, Counter] = defaultdict(Counter)
    boxes = defaultdict(set)
    for record in pairs:
        assert record.tags["arrows"] == "2"
        assert re.search(rf"\b({'|'.join(arrows.COLOURS)}) arrow\b", record.question)
        assert len(record.boxes) == 1
        if record.tags["task"] == "arrow":
            answers[record.source][record.answer] += 1
            boxes[record.image].update(record.boxes)
    assert any(len(tips) == 2 for tips in boxes.values())
    for source, counts in answers.items():
        assert set(counts) == set(arrows.TARGETS[source])
        assert len(set(counts.values())) == 1


@pytest.mark.real_data
def test_questions_met_more_often_are_those_of_training(built: tuple[Path, dict]) -> None:
    _, files = built
    for variant in ("official", "disjoint", "tune"):
        train = files[f"{variant}_train"]
        single = files[f"{variant}_single"]
        assert {r.tags["task"] for r in single} == {"quadrant", "arrow"}
        assert {r.id for r in single} <= {r.id for r in train}
        assert all(len(r.boxes) == 1 for r in single)
        quadrants = [r for r in train if r.tags["task"] == "quadrant"]
        assert [r for r in single if r.tags["task"] == "quadrant"] == quadrants
        tips = defaultdict(set)
        for record in train:
            if record.tags["task"] == "arrow":
                tips[record.image].update(record.boxes)
        arrows = [r for r in single if r.tags["task"] == "arrow"]
        assert all(r.answer not in ("yes", "no") and len(tips[r.image]) == 1 for r in arrows)
        of_train = {r.id for r in train}
        about_arrows = [r for r in files[f"{variant}_arrows"] if r.id in of_train]
        check_pairs([r for r in files[f"{variant}_arrows"] if r.id not in of_train], train)
        assert not {r.id for r in about_arrows} & {r.id for r in single}
        assert all(r.boxes and r.answer not in ("yes", "no") for r in about_arrows)
        one_of_two = [r for r in about_arrows if r.tags["task"] == "arrow"]
        assert {len(tips[r.image]) for r in one_of_two} <= {1, 2}  # one target may be spare
        named = re.compile(r"\b(black|blue|green|red|white|yellow) arrow\b")
        assert one_of_two
        assert all(named.search(r.question) for r in one_of_two)
        for task in ("arrow_colour", "arrow_direction"):
            assert [r for r in about_arrows if r.tags["task"] == task] == [
                r for r in train if r.tags["task"] == task
            ]
        assert files[f"{variant}_vqa_rad"]
        assert {r.id for r in files[f"{variant}_vqa_rad"]} <= {r.id for r in train}
        answers = {(r.image, r.answer) for r in files[f"{variant}_vqa_rad"]}
        reworded = files[f"{variant}_reworded"]
        assert len(reworded) > 2 * len(files[f"{variant}_vqa_rad"])
        assert {(r.image, r.answer) for r in reworded} <= answers


@pytest.mark.real_data
def test_still_more_arrows_are_on_images_of_their_own(built: tuple[Path, dict]) -> None:
    _, files = built
    further = files["official_further"]
    assert further == files["disjoint_further"] == files["tune_further"]
    tasks = {"arrow", "arrow_direction", "arrow_colour", "arrow_where"}
    assert {"arrow"} < {r.tags["task"] for r in further} <= tasks
    assert {r.tags["arrows"] for r in further} == {"1", "2"}
    others = {r.image for name, records in files.items() if "further" not in name for r in records}
    assert not {r.image for r in further} & others
    train = {r.tags["base"] for r in files["official_train"]}
    assert {r.tags["base"] for r in further} <= train
    answers: dict[str, Counter] = defaultdict(Counter)
    for record in further:
        if record.tags["task"] == "arrow" and record.answer_type == "OPEN":
            answers[record.source][record.answer] += 1
    for source, counts in answers.items():
        assert set(counts) == set(arrows.TARGETS[source])
        assert len(set(counts.values())) == 1


@pytest.mark.real_data
def test_contrast_is_asked_of_slices_of_training_alike_with_and_without(
    built: tuple[Path, dict],
) -> None:
    _, files = built
    asked = files["official_vessels"]
    assert asked == files["disjoint_vessels"] == files["tune_vessels"]
    assert {r.tags["task"] for r in asked} == {"contrast"}
    answers = Counter(r.answer for r in asked)
    assert answers["yes"] == answers["no"] > 50
    drawn = {r.tags["base"] for r in asked if r.boxes}
    assert drawn
    assert all(r.answer == "yes" for r in asked if r.boxes)
    assert not drawn & {r.tags["base"] for r in asked if r.answer == "yes" and not r.boxes}
    assert drawn <= {r.tags["base"] for r in asked if r.answer == "no"}
    slices = {r.tags["base"] for r in files["official_train"] if r.source == "ct_contrast"}
    assert bases(asked) <= slices
    assert not bases(asked) & (bases(files["heldout"]) | bases(files["validation"]))


@pytest.mark.real_data
def test_further_questions_are_more_of_those_of_training(built: tuple[Path, dict]) -> None:
    _, files = built
    for variant in ("official", "disjoint", "tune"):
        train = files[f"{variant}_train"]
        whole, scarce = files[f"{variant}_whole"], files[f"{variant}_scarce"]
        assert {r.tags["task"] for r in whole} == {"modality", "organ", "stain"}
        assert {r.tags["task"] for r in scarce} == set(SCARCE)
        further = [*whole, *scarce]
        assert not {r.id for r in further} & {r.id for r in train}
        copies = [r for r in scarce if r.image.startswith("images/varied/")]
        assert {r.source for r in copies} == {"heads", "oct", "ct_contrast"}
        assert bases(copies) <= bases([r for r in further if r not in copies])
        assert not bases(copies) & (bases(files["heldout"]) | bases(files["validation"]))
        varied = {r.image for r in copies}
        shown = {r.image for r in further if r.source != "heads"}
        assert shown - varied <= {r.image for r in train + files[f"{variant}_captions"]}
        asked = {(r.image, r.question): r.answer for r in further}
        assert len(asked) == len(further)
        known = [r for r in train if r.tags["task"] in {r.tags["task"] for r in further}]
        assert all(asked.get((r.image, r.question), r.answer) == r.answer for r in known)
        # In the topics that heads share, they take turns with the images of training.
        shared = {r.tags["topic"] for r in further if r.source == "heads"}
        own = [r for r in known if r.tags["topic"] not in shared]
        assert {(r.image, r.question) for r in own} <= set(asked)
        assert {r.tags["task"] for r in own} >= {"contrast", "count", "finding", "size", "stain"}
        often, before = (Counter(r.tags["topic"] for r in each) for each in (further, known))
        assert all(often[topic] >= before[topic] for topic in before)
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for record in (*files["official_whole"], *files["official_scarce"]):
        if record.answer_type == "CLOSED":
            answers[record.tags["topic"]][record.answer] += 1
    assert all(count["yes"] == count["no"] for count in answers.values())
    excluded = {r.image for r in files["vqa_rad_test"]}
    for name in ("disjoint_whole", "disjoint_scarce", "disjoint_reworded"):
        assert not bases(files[name]) & excluded


@pytest.mark.real_data
def test_all_planes_are_asked_for_and_the_heads_held_out_are_others(
    built: tuple[Path, dict],
) -> None:
    _, files = built
    trained = [r for r in files["official_scarce"] if r.tags["topic"] == "plane"]
    heldout = [r for r in files["heldout"] if r.tags["topic"] == "plane"]
    for records in (trained, heldout):
        assert {r.answer for r in records} == {"axial", "coronal", "sagittal"}
    heads = {name: {r.tags["base"] for r in files[name] if r.source == "heads"} for name in files}
    assert heads["heldout"]
    assert not any(heads["heldout"] & heads[name] for name in files if name != "heldout")
