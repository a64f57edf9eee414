"""The benchmarks of the field: every split counted, and what each row becomes."""

from __future__ import annotations

import base64
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import benchmark_layouts as made
import layouts
import pytest

from biod2c_core.data.formats import ReadOptions, find_format, image_root, read_records
from biod2c_core.data.images import load_image
from biod2c_core.data.importing import import_records
from biod2c_core.data.records import Record
from biod2c_core.errors import InputError


def splits(records: list[Record]) -> dict[str, int]:
    return dict(Counter(record.split for record in records))


def test_vqa_med_2019_has_its_splits_and_its_categories(tmp_path: Path) -> None:
    records = read_records(made.vqa_med_2019(tmp_path))
    assert splits(records) == {"train": 4, "validation": 1, "test": 2}
    assert records[1] == Record(
        id="vqa-med-2019-train-synpic1-2",
        image="ImageClef-2019-VQA-Med-Training/Train_images/synpic1.jpg",
        question="in what plane is this ct?",
        answer="axial",
        answer_type="OPEN",
        source="vqa-med-2019",
        split="train",
    )
    closed, several = records[5:]
    assert (closed.answer_type, closed.tags) == ("CLOSED", {"question_type": "modality"})
    assert several.answer == "lung, mediastinum, pleura#chest"
    assert len({record.id for record in records}) == 7


def test_vqa_med_2020_takes_the_answers_by_image(tmp_path: Path) -> None:
    records = read_records(made.vqa_med_2020(tmp_path))
    assert splits(records) == {"train": 1, "validation": 1, "test": 2}
    assert [record.answer for record in records if record.split == "test"] == ["no", "a mass"]
    test = tmp_path / "VQA-TestSet-ReferenceAnswers-VQAMed2020-Task1"
    assert splits(read_records(test)) == {"test": 2}


def test_vqa_med_2021_joins_the_right_answers(tmp_path: Path) -> None:
    records = read_records(made.vqa_med_2021(tmp_path))
    assert splits(records) == {"validation": 1, "test": 2}
    assert records[1].answer == "hodgkin\u2019s lymphoma#a mass, 2 cm"


def test_vqa_med_names_a_question_without_its_answer(tmp_path: Path) -> None:
    made.vqa_med_2020(tmp_path)
    test = tmp_path / "VQA-TestSet-ReferenceAnswers-VQAMed2020-Task1"
    layouts.write(test / "VQAMed2020-Task1-VQAnswering-Test-ReferenceAnswers.txt", "synpic3|no\n")
    _, bad, _ = layouts.read_all(test)
    assert len(bad) == 1
    assert "has no answer for 'synpic4'" in bad[0]


def test_a_line_of_vqa_med_with_too_few_parts_is_a_bad_row(tmp_path: Path) -> None:
    made.vqa_med_2019(tmp_path)
    file = tmp_path / "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt"
    layouts.write(file, "synpic4|modality|is this a ct scan?\nsynpic5|organ|which?|lung\n")
    good, bad, _ = layouts.read_all(file)
    assert (len(good), bad) == (1, ["expected 4 parts between '|', got 3"])


def test_omnimedvqa_reads_what_is_published_and_counts_the_rest(tmp_path: Path) -> None:
    made.omnimedvqa(tmp_path)
    records, bad, notes = layouts.read_all(tmp_path)
    assert (splits(records), bad) == ({"test": 3}, [])
    assert notes == ["left out, since their images are not published: Restricted-access (2 rows)"]
    first, chest = records[0], records[-1]
    assert (first.id, first.answer) == ("omnimedvqa-ACRIMA-ACRIMA_0001", "Fundus imaging")
    assert first.tags["answer_label"] == "D"
    assert (first.tags["modality"], first.tags["dataset"]) == ("Fundus Photography", "ACRIMA")
    assert chest.tags["modality"] == "CT"
    assert (chest.answer, chest.answer_type, chest.tags["answer_label"]) == ("No", "CLOSED", "C")
    assert "choice_d" not in chest.tags
    file = tmp_path / "OmniMedVQA/QA_information/Open-access/ACRIMA.json"
    assert read_records(file) == records[:2]
    assert load_image(first.image, root=image_root(file)).size == (8, 8)


def test_medxpertqa_takes_the_choices_out_of_the_question(tmp_path: Path) -> None:
    made.medxpertqa(tmp_path)
    records, bad, notes = layouts.read_all(tmp_path)
    assert (splits(records), bad) == ({"train": 1, "test": 2}, [])
    one, two = records[1:]
    assert one.question == "A man falls.\nWhat is next?"
    assert (one.answer, one.tags["answer_label"], one.tags["choice_e"]) == ("MRI", "E", "MRI")
    assert (one.tags["body_system"], one.tags["images"], two.tags["images"]) == (
        "Skeletal",
        "1",
        "2",
    )
    assert two.image == "images/MM-2-a.jpeg"
    assert notes == ["questions about several images, read with the first: 2 images (1 row)"]
    for place in ("MM", "MM/test.jsonl"):
        assert find_format(tmp_path / place).name == "medxpertqa"
        assert read_records(tmp_path / place, split="test") == [one, two]
        assert image_root(tmp_path / place) == tmp_path


def test_probmed_keeps_order_and_kinds(tmp_path: Path) -> None:
    records = read_records(made.probmed(tmp_path))
    assert splits(records) == {"test": 18}
    assert [record.tags["qa_type"] for record in records] == [*made.PROBMED_TYPES] * 2
    assert {record.tags["image_type"] for record in records} == {"x-ray_chest"}
    assert Counter(record.answer for record in records) == {"yes": 10, "no": 8}


def test_probmed_scores_by_its_profile(tmp_path: Path) -> None:
    from biod2c_core.evaluation.predict.predictions_file import Prediction
    from biod2c_core.evaluation.score.profiles import get_profile
    from biod2c_core.evaluation.score.score import score

    records = read_records(made.probmed(tmp_path))
    said = {record.id: Prediction(record.id, "Yes") for record in records}
    for record in records[:9]:
        said[record.id] = Prediction(record.id, record.answer.capitalize())
    totals = score(records, said, get_profile("probmed")).totals()
    assert totals["modality_accuracy"] == totals["entity_accuracy"] == 0.5
    assert totals["modality_first"] == totals["abnormality_accuracy"] == 1


def test_mmmu_reads_the_five_subjects_of_medicine(tmp_path: Path) -> None:
    made.mmmu(tmp_path / "MMMU")
    report = import_records(tmp_path / "MMMU", tmp_path / "out.jsonl")
    records = read_records(tmp_path / "out.jsonl")
    assert report.format == "mmmu"
    assert splits(records) == {"train": 2, "validation": 4, "test": 2}
    chosen = next(record for record in records if record.id == "mmmu-validation_Pharmacy_1")
    assert (chosen.answer, chosen.tags["choice_b"], chosen.tags["answer_label"]) == (
        "Crohn's",
        "Crohn's",
        "B",
    )
    assert (chosen.tags["subject"], chosen.tags["images"]) == ("Pharmacy", "2")
    free = next(record for record in records if record.id == "mmmu-validation_Pharmacy_2")
    assert (free.answer, free.answer_type) == ("12", "OPEN")
    assert "choice_a" not in free.tags
    hidden = next(record for record in records if record.split == "test")
    assert (hidden.answer, hidden.tags["choice_c"]) == ("", "Skin")
    assert "answer_label" not in hidden.tags
    assert "questions about several images, read with the first: 2 images (2 rows)" in report.notes


def test_mmmu_in_one_file_leaves_other_subjects_out(tmp_path: Path) -> None:
    rows = [made.mmmu_row(f"validation_{name}_1", [1]) for name in ("Pharmacy", "Accounting")]
    table = {name: [row[name] for row in rows] for name in rows[0]}
    layouts.parquet(tmp_path / "data/validation-00000-of-00001.parquet", table)
    records, bad, notes = layouts.read_all(tmp_path)
    assert ([record.id for record in records], bad) == (["mmmu-validation_Pharmacy_1"], [])
    assert "left out, of another subject: Accounting (1 row)" in notes


@pytest.mark.parametrize(
    "options", ["__import__('os').getcwd()", "['a'", "{'a': 1}", "[1, 2]", "(" * 5000]
)
def test_options_of_mmmu_are_read_and_never_run(options: str, tmp_path: Path) -> None:
    row = made.mmmu_row("test_Pharmacy_1", [1], options=options)
    layouts.parquet(tmp_path / "a.parquet", {name: [value] for name, value in row.items()})
    records, bad, _ = layouts.read_all(tmp_path)
    assert records == []
    assert bad[0].startswith("field 'options' must be a list of texts")


def test_gmai_mmbench_with_images_by_reference(tmp_path: Path) -> None:
    made.gmai_mmbench(tmp_path / "set")
    import_records(tmp_path / "set", tmp_path / "out.jsonl")
    records = read_records(tmp_path / "out.jsonl")
    assert splits(records) == {"validation": 3, "test": 1}
    first, second, third, hidden = records
    assert (first.id, first.source) == ("gmai-mmbench-validation-0", "gmai-mmbench")
    assert (second.answer, second.tags["answer_label"]) == ("Scar", "C")
    assert first.image == third.image == hidden.image != second.image
    assert (first.tags["clinical_vqa_task"], first.tags["department"]) == (
        "Disease Diagnosis",
        "Ophthalmology",
    )
    assert "choice_e" not in third.tags
    assert "l2_category" not in first.tags
    assert hidden.answer == ""


def test_an_image_of_a_table_may_be_longer_than_other_fields(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 6000
    image = base64.b64encode(layouts.picture_bytes(1) + noise).decode()
    assert len(image) > 1 << 20
    made.tsv(tmp_path / "GMAI-MMBench_VAL.tsv", [made.gmai_row(0, image)])
    records, bad, _ = layouts.read_all(tmp_path)
    assert (len(records), bad) == (1, [])
    assert csv.field_size_limit() >= len(image)


@pytest.mark.parametrize("image", ["7", "not base64!", base64.b64encode(b"GIF").decode(), "####"])
def test_an_image_of_a_table_that_is_none_is_a_bad_row(image: str, tmp_path: Path) -> None:
    made.tsv(tmp_path / "Mine.tsv", [made.gmai_row(0, image)])
    records, bad, _ = layouts.read_all(tmp_path)
    assert (records, len(bad)) == ([], 1)
    assert "field 'image'" in bad[0]


@pytest.mark.parametrize(
    ("name", "count", "folder"),
    [
        ("test.csv", 3, "images"),
        ("test_clean.csv", 2, "images"),
        ("test_2.csv", 2, "figures"),
        (".", 4, "images"),
    ],
)
def test_every_test_set_of_pmc_vqa_finds_its_images(
    name: str, count: int, folder: str, tmp_path: Path
) -> None:
    path = made.pmc_vqa_release(tmp_path) / name
    records = read_records(path)
    assert len(records) == count
    assert records[-1].split == "test"
    assert records[-1].tags["answer_label"] == "B"
    assert records[-1].image.startswith(f"{folder}/")
    for record in records:
        assert load_image(record.image, root=image_root(path)).size == (8, 8)


def test_slake_in_both_languages_is_counted_by_language(tmp_path: Path) -> None:
    english = [{**layouts.SLAKE_ROW, "qid": number} for number in range(3)]
    chinese = [
        {
            **layouts.SLAKE_ROW,
            "qid": 9,
            "q_lang": "zh",
            "question": "\u662fCT\u5417?",
            "answer": "\u662f",
        }
    ]
    layouts.write(tmp_path / "test.json", english + chinese)
    counts = {
        language: len(read_records(tmp_path, options=ReadOptions(language=language)))
        for language in ("en", "zh", "all")
    }
    assert counts == {"en": 3, "zh": 1, "all": 4}


@pytest.mark.parametrize("builder", [made.mmmu, made.gmai_mmbench])
def test_data_with_images_inside_says_how_to_import_it(builder: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Import it first: biod2c data import (mmmu|vlmevalkit)"):
        read_records(builder(tmp_path))
