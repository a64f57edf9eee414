"""Intervals, tests, baselines and overlap against derivations of their own."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biod2c_core.data.records import Record
from biod2c_core.errors import InputError
from biod2c_core.evaluation.predict.predictions_file import Prediction
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.score.score import Evaluation, ScoredQuestion, score
from biod2c_core.evaluation.statistics.baselines import majority, question_only
from biod2c_core.evaluation.statistics.contamination import check_contamination
from biod2c_core.evaluation.statistics.intervals import (
    compare,
    holm,
    intervals,
    resampled_means,
    sign_flip_p,
    tag_groups,
)


def question(name: str, image: str, value: float | None, **tags: str) -> ScoredQuestion:
    record = Record(name, image, "?", "yes", tags=tags)
    return ScoredQuestion(record, Prediction(name, ""), {} if value is None else {"m": value})


def clustered(images: int, per_image: int, seed: int = 0) -> list[ScoredQuestion]:
    """Questions whose answers agree within an image."""
    generator = random.Random(seed)
    found = []
    for image in range(images):
        ability = generator.random()
        for i in range(per_image):
            value = float(generator.random() < ability)
            found.append(question(f"{image}-{i}", f"{image}.png", value))
    return found


def test_the_interval_has_the_cluster_robust_width() -> None:
    questions = clustered(images=150, per_image=6)
    estimate = intervals(questions, ["m"], resamples=4000)["m"]
    # standard error of a mean of equal clusters: s(cluster means) / sqrt(C)
    by_image = np.array([q.values["m"] for q in questions]).reshape(150, 6).mean(1)
    error = by_image.std(ddof=1) / math.sqrt(150)
    assert estimate.value == pytest.approx(by_image.mean())
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    naive = math.sqrt(by_image.mean() * (1 - by_image.mean()) / 900)
    assert estimate.high - estimate.low > 1.3 * 2 * 1.96 * naive


def test_resampled_means_by_hand() -> None:
    # two images, (sum, count) = (2, 2) and (0, 1): a draw holds AA, AB or BB, with odds 1 2 1
    means = resampled_means(np.array([[2.0], [0.0]]), np.array([[2.0], [1.0]]), 8000, seed=1)
    values, counts = np.unique(means.round(6), return_counts=True)
    assert values.tolist() == [0, pytest.approx(2 / 3), 1]
    assert counts / 8000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


@pytest.mark.parametrize("images", [3, 700, 5000])
def test_intervals_are_those_of_scipy(images: int) -> None:
    bootstrap = pytest.importorskip("scipy.stats", reason="scipy is not installed").bootstrap
    generator = np.random.default_rng(images)
    counts = generator.integers(1, 6, images).astype(float)
    sums = generator.binomial(counts.astype(int), 0.7).astype(float)
    ours = np.quantile(resampled_means(sums[:, None], counts[:, None], 2000), [0.025, 0.975])
    theirs = bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis) / c.sum(axis),
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=1,
        batch=200,
    ).confidence_interval
    # an end of 2000 resamples is known to about 3% of the width
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.15 * (theirs.high - theirs.low))


@pytest.mark.parametrize("images", [1, 7, 300, 5000, 40_000])
def test_each_resample_draws_as_many_images_as_there_are(images: int) -> None:
    """Also where a block holds several resamples and the last block fewer, or an odd number of cells."""
    drawn = resampled_means(np.ones((images, 1)), np.full((images, 1), 1.0), 45)
    assert (drawn == 1).all()
    places = np.arange(float(images))[:, None]
    means = resampled_means(places, np.ones((images, 1)), 45)
    assert means.shape == (45, 1)
    assert len(np.unique(means)) > (30 if images > 7 else 0)
    error = np.sqrt((images**2 - 1) / 12 / images / 45)
    assert abs(means.mean() - (images - 1) / 2) <= 5 * error


def test_intervals_do_not_depend_on_the_order_of_questions() -> None:
    questions = clustered(20, 3)
    assert intervals(questions, ["m"]) == intervals(questions[::-1], ["m"])


def test_intervals_where_there_is_little() -> None:
    one = intervals([question("1", "a", 1.0), question("2", "a", 0.0)], ["m", "other"])
    assert (one["m"].value, one["m"].low, one["other"].value) == (0.5, None, None)
    sparse = intervals([question("1", "a", 1.0), question("2", "b", None)], ["m"])["m"]
    assert (sparse.value, sparse.low, sparse.high, sparse.questions) == (1.0, 1.0, 1.0, 1)


def test_groups_by_tag() -> None:
    questions = [
        question("1", "a", 1.0, type="POS, PRES", organ="head", language="en", choice_a="x"),
        question("2", "b", 0.0, type="POS", organ="chest", language="en", choice_a="y"),
    ]
    groups = tag_groups(questions)
    assert {tag: list(values) for tag, values in groups.items()} == {
        "organ": ["chest", "head"],
        "type": ["POS", "PRES"],
    }
    assert len(groups["type"]["POS"]) == 2


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_few_images_give_the_exact_sign_flip_p(differences: list[int]) -> None:
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    observed = abs(sum(differences))
    flipped = [
        abs(sum(s * d for s, d in zip(pattern, differences, strict=True))) for pattern in signs
    ]
    expected = sum(value >= observed for value in flipped) / len(signs)
    assert sign_flip_p(np.array(differences, float)) == pytest.approx(expected)


def test_many_images_give_nearly_the_binomial_p() -> None:
    # 40 images differ by +-1, 27 of them in favour of A: the sign test's p is known
    differences = np.array([1.0] * 27 + [-1.0] * 13)
    exact = 2 * sum(math.comb(40, k) for k in range(27, 41)) / 2**40
    assert sign_flip_p(differences) == pytest.approx(exact, abs=0.006)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def evaluation_of(answers: Sequence[str], golds: Sequence[str], images: int) -> Evaluation:
    records = [Record(str(i), f"{i % images}.png", "?", gold) for i, gold in enumerate(golds)]
    predictions = {str(i): Prediction(str(i), text) for i, text in enumerate(answers)}
    return score(records, predictions, get_profile("multimedeval"))


def test_paired_comparison() -> None:
    golds = ["yes", "no"] * 30
    good = evaluation_of(golds, golds, images=20)
    bad = evaluation_of(["yes"] * 60, golds, images=20)
    test = compare(good, bad)["closed_accuracy"]
    assert (test.first, test.second, test.difference, test.questions) == (1, 0.5, 0.5, 60)
    assert test.low is not None
    assert 0 < test.low <= 0.5
    assert test.p < 0.01 <= 1
    assert test.p <= test.p_adjusted
    turned = compare(bad, good)["closed_accuracy"]
    assert (turned.difference, turned.p) == (-0.5, test.p)
    same = compare(good, good)["closed_accuracy"]
    assert (same.p, same.low, same.high) == (1, 0, 0)


def test_only_the_same_questions_can_be_compared() -> None:
    a = evaluation_of(["yes", "no"], ["yes", "no"], images=2)
    b = evaluation_of(["yes", "no"], ["yes", "yes"], images=2)
    with pytest.raises(InputError, match="not about the same questions"):
        compare(a, b)


TRAINING = [
    Record("1", "a.png", "Is the heart enlarged?", "Yes", "CLOSED"),
    Record("2", "b.png", "Is there a fracture?", "no", "CLOSED"),
    Record("3", "c.png", "Is there a mass?", "No", "CLOSED"),
    Record("4", "d.png", "Is there free air?", "no", "CLOSED"),
    Record("5", "e.png", "Which organ is shown?", "Liver", "OPEN"),
    Record("6", "f.png", "Which plane is shown?", "axial", "OPEN"),
    Record("7", "f.png", "Which plane is this?", "axial", "OPEN"),
    Record("8", "f.png", "Unanswered?"),
]


def test_the_majority_baseline_knows_the_answer_type() -> None:
    asked = [
        Record("a", "x.png", "Is it?", answer_type="CLOSED"),
        Record("b", "x.png", "Which?", answer_type="OPEN"),
        Record("c", "x.png", "What?"),
    ]
    said = {name: p.answer for name, p in majority(TRAINING, asked).items()}
    assert said == {"a": "no", "b": "axial", "c": "no"}
    assert said == {n: p.answer for n, p in majority(TRAINING[::-1], asked[::-1]).items()}


def test_the_question_only_baseline_votes_among_similar_questions() -> None:
    asked = [
        Record("a", "x.png", "Is the heart enlarged?", answer_type="CLOSED"),
        Record("b", "x.png", "Which organ?", answer_type="OPEN"),
        Record("c", "x.png", "zzz", answer_type="OPEN"),
    ]
    said = {name: p.answer for name, p in question_only(TRAINING, asked).items()}
    assert said == {"a": "Yes", "b": "Liver", "c": "axial"}
    # "there" leads to the three questions that were answered no, more than "heart" to one
    there = replace(asked[0], question="Is there heart?")
    assert question_only(TRAINING, [there])["a"].answer == "no"


def test_question_similarity_is_the_tf_idf_cosine() -> None:
    from biod2c_core.evaluation.statistics.baselines import _QuestionIndex

    index = _QuestionIndex(["a b", "a c c"])
    idf = {"a": math.log(3 / 3) + 1, "b": math.log(3 / 2) + 1, "c": math.log(3 / 2) + 1}
    first, second = np.array([idf["a"], idf["b"], 0]), np.array([idf["a"], 0, 2 * idf["c"]])
    query = np.array([idf["a"], 2 * idf["b"], 0])
    cosine = [
        vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        for vector in (first, second)
    ]
    assert index.similarities("A b B zzz").tolist() == pytest.approx(cosine)


def test_baselines_need_training_answers() -> None:
    with pytest.raises(InputError, match="no training record has an answer"):
        majority([TRAINING[-1]], TRAINING)


def test_test_images_in_training_are_found_by_name_and_by_pixels(tmp_path: Path) -> None:
    for name, colour in (("a", 10), ("b", 20), ("c", 30), ("d", 40)):
        Image.new("RGB", (9, 7), (colour, 0, 0)).save(tmp_path / f"{name}.png")
    Image.open(tmp_path / "b.png").save(tmp_path / "copy.bmp")
    training = [
        Record("1", "a.png", "Is it red?", "yes"),
        Record("2", "copy.bmp", "Is it red?", "yes"),
        Record("3", "d.png", "Is it red?", "yes"),
        Record("4", "gone.png", "Is it red?", "yes"),
    ]
    records = [
        Record("5", "a.png", "is it  Red?", "yes"),
        Record("6", "a.png", "Is it blue?", "no"),
        Record("7", "b.png", "Is it red?", "yes"),
        Record("8", "c.png", "Is it red?", "yes"),
        Record("9", "missing.png", "Is it red?", "yes"),
    ]
    found = check_contamination(training, records, tmp_path, tmp_path)
    assert found.to_dict() == {
        "images": 4,
        "seen_images": 2,
        "seen_by_content": 1,
        "questions": 5,
        "seen_questions": 3,
        "repeated_questions": 1,
        "unread_images": 1,
    }
    assert found.clean_ids == {"8", "9"}


@pytest.mark.real_data
def test_all_images_of_vqa_rad_are_in_its_training_split(data_root: Path) -> None:
    from biod2c_core.data.formats import read_records

    folder = data_root / "vqa_rad"
    training, test = (read_records(folder, split=split) for split in ("train", "test"))
    found = check_contamination(training, test, folder, folder)
    assert (found.images, found.seen_images, found.seen_questions) == (203, 203, 451)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to(path.name), os.mkfifo])
def test_what_is_no_file_is_compared_by_its_path(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.png")
    records = [Record("1", "a.png", "is it?", "yes")]
    assert check_contamination(records, records, tmp_path, tmp_path).images == 1
