"""Tiny copies of published benchmarks: their folders, file names and columns, with made-up questions."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layouts import parquet, picture, picture_bytes, write, write_csv, write_lines


def vqa_med_2019(folder: Path) -> Path:
    train, validation = (f"ImageClef-2019-VQA-Med-{name}" for name in ("Training", "Validation"))
    questions = ["what modality is shown?|ct", "in what plane is this ct?|axial"]
    write(
        folder / train / "All_QA_Pairs_train.txt",
        "".join(f"synpic{image}|{each}\n" for image in (1, 2) for each in questions),
    )
    write(folder / validation / "All_QA_Pairs_val.txt", f"synpic3|{questions[0]}\n\n")
    write(folder / train / "train_ImageIDs.txt", "synpic1\nsynpic2\n")
    tests = [
        "synpic4|modality|is this a ct scan?|yes",
        "synpic5|organ|what organ is shown?|lung, mediastinum, pleura#chest",
    ]
    test = folder / "VQAMed2019Test"
    write(test / "VQAMed2019_Test_Questions_w_Ref_Answers.txt", "\r\n".join(tests))
    write(test / "VQAMed2019_Test_Questions.txt", "synpic4|is this a ct scan?\n")
    for number in (1, 2):
        picture(folder / train / f"Train_images/synpic{number}.jpg")
    picture(folder / validation / "Val_images/synpic3.jpg")
    for number in (4, 5):
        picture(test / f"VQAMed2019_Test_Images/synpic{number}.jpg")
    return folder


def vqa_med_2020(folder: Path) -> Path:
    sets = folder / "VQA-Med-2020-Task1-VQAnswering-TrainVal-Sets"
    train = sets / "VQAMed2020-VQAnswering-TrainingSet"
    validation = sets / "VQAMed2020-VQAnswering-ValidationSet"
    line = "synpic{}|what is abnormal in the ct scan?|pancoast tumor\n"
    write(train / "VQAnswering_2020_Train_QA_pairs.txt", line.format(1))
    write(validation / "VQAnswering_2020_Val_QA_Pairs.txt", line.format(2))
    picture(train / "VQAnswering_2020_Train_images/synpic1.jpg")
    picture(validation / "VQAnswering_2020_Val_images/synpic2.jpg")
    test = folder / "VQA-TestSet-ReferenceAnswers-VQAMed2020-Task1"
    name = "VQAMed2020-Task1-VQAnswering-Test-"
    write(test / f"{name}Questions.txt", "synpic3|is this normal?\nsynpic4|what is seen?\n")
    write(test / f"{name}ReferenceAnswers.txt", "synpic4| a mass\nsynpic3|no\n")
    for number in (3, 4):
        picture(test / f"Task1-2020-VQAnswering-Test-Images/synpic{number}.jpg")
    return folder


def vqa_med_2021(folder: Path) -> Path:
    validation = folder / "VQA-Med-2021-Tasks-1-2-NewValidationSets"
    write(
        validation / "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt",
        "synpic1|what is the primary abnormality?|acl injury\n",
    )
    picture(validation / "ImageCLEF-2021-VQA-Med-New-Validation-Images/synpic1.jpg")
    test = folder / "Task1-VQA-2021-TestSet-w-GroundTruth"
    name = "Task1-VQA-2021-TestSet-"
    questions = "synpic2|what is abnormal?\nsynpic3|what is abnormal?\n"
    write(test / f"{name}Questions.txt", questions)
    answers = "synpic2|hodgkin\u2019s lymphoma|a mass, 2 cm\nsynpic3|acl injury\n"
    write(test / f"{name}ReferenceAnswers.txt", answers)
    for number in (2, 3):
        picture(test / f"VQA-500-Images/synpic{number}.jpg")
    return folder


def omni_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "dataset": "ACRIMA",
        "question_id": f"ACRIMA_{number:04}",
        "question_type": "Modality Recognition",
        "question": "What imaging technique was employed?",
        "gt_answer": "Fundus imaging",
        "image_path": f"Images/ACRIMA/Im{number:03}_ACRIMA.png",
        "option_A": "PET scan",
        "option_B": "CT scan",
        "option_C": "Blood test",
        "option_D": "Fundus imaging",
        "modality_type": "Fundus Photography",
    }
    return {**row, **changes}


def omnimedvqa(folder: Path) -> Path:
    root = folder / "OmniMedVQA"
    write(root / "QA_information/Open-access/ACRIMA.json", [omni_row(1), omni_row(2)])
    chest = omni_row(1, dataset="Chest CT Scan", gt_answer="No", option_C="No", modality="CT")
    chest["image_path"] = "Images/Chest CT Scan/test/1.png"
    for name in ("modality_type", "option_D"):
        del chest[name]
    write(root / "QA_information/Open-access/Chest CT Scan.json", [chest])
    write(root / "QA_information/Restricted-access/ADNI.json", [omni_row(1), omni_row(2)])
    for name in ("ACRIMA/Im001_ACRIMA.png", "ACRIMA/Im002_ACRIMA.png", "Chest CT Scan/test/1.png"):
        picture(root / "Images" / name)
    return folder


def medxpertqa_row(number: int, images: Sequence[str]) -> dict[str, Any]:
    options = {"A": "Rest", "B": "Casting", "C": "Surgery", "D": "Traction", "E": "MRI"}
    shown = " ".join(f"({letter}) {text}" for letter, text in options.items())
    return {
        "id": f"MM-{number}",
        "question": f"A man falls.\nWhat is next?\nAnswer Choices: {shown}",
        "options": options,
        "label": "E",
        "images": list(images),
        "medical_task": "Treatment",
        "body_system": "Skeletal",
        "question_type": "Reasoning",
    }


def medxpertqa(folder: Path) -> Path:
    write_lines(folder / "MM/dev.jsonl", [medxpertqa_row(0, ["MM-0-a.jpeg"])])
    rows = [medxpertqa_row(n, [f"MM-{n}-{part}.jpeg" for part in "ab"[:n]]) for n in (1, 2)]
    write_lines(folder / "MM/test.jsonl", rows)
    text = {**medxpertqa_row(9, []), "id": "Text-9"}
    del text["images"]
    write_lines(folder / "Text/test.jsonl", [text])
    for name in ("MM-0-a", "MM-1-a", "MM-2-a", "MM-2-b"):
        picture(folder / f"images/{name}.jpeg")
    return folder


PROBMED_TYPES = (
    *("modality_gt", "modality_hallu", "body_part_gt", "body_part_hallu", "abnormality"),
    *("entity_gt_0", "entity_hallu_0", "grounding_gt_0", "grounding_hallu_0"),
)


def probmed(folder: Path) -> Path:
    rows = [
        {
            "id": f"im{image}",
            "i": number,
            "image": f"medicat/im{image}.jpg",
            "image_type": "x-ray_chest",
            "qa_type": kind,
            "question": f"Is it {kind}?",
            "answer": "no" if "hallu" in kind else "yes",
            "src_dataset": "MedICaT",
        }
        for image in (1, 2)
        for number, kind in enumerate(PROBMED_TYPES)
    ]
    write(folder / "test.json", rows)
    for image in (1, 2):
        picture(folder / f"medicat/im{image}.jpg")
    return folder


def mmmu_row(name: str, shades: Sequence[int], **changes: Any) -> dict[str, Any]:
    images: dict[str, Any] = {f"image_{number}": None for number in range(1, 8)}
    for number, shade in enumerate(shades, start=1):
        images[f"image_{number}"] = {"bytes": picture_bytes(shade), "path": f"{number}.png"}
    row = {
        "id": name,
        "question": "What does <image 1> show?",
        "options": "['Bone', \"Crohn's\", 'Skin']",
        "explanation": "",
        **images,
        "img_type": "['Pathological Images']",
        "answer": "B",
        "topic_difficulty": "Easy",
        "question_type": "multiple-choice",
        "subfield": "Anatomy",
    }
    return {**row, **changes}


def mmmu(folder: Path) -> Path:
    for subject in ("Pharmacy", "Clinical_Medicine", "Accounting"):
        open_row = {"options": "[]", "answer": "12", "question_type": "open"}
        splits = {
            "dev": [mmmu_row(f"dev_{subject}_1", [1])],
            "validation": [
                mmmu_row(f"validation_{subject}_1", [2, 3]),
                mmmu_row(f"validation_{subject}_2", [2], **open_row),
            ],
            "test": [mmmu_row(f"test_{subject}_1", [4], answer="?")],
        }
        for split, rows in splits.items():
            file = folder / subject / f"{split}-00000-of-00001.parquet"
            parquet(file, {name: [row[name] for row in rows] for name in rows[0]})
    return folder


def gmai_row(index: int, image: str, **changes: str) -> dict[str, str]:
    row = {
        "index": str(index),
        "image": image,
        "question": "Observe the image. What is the\tmost likely finding?",
        "A": "Oedema",
        "B": "Drusen",
        "C": "Scar",
        "D": "",
        "E": "",
        "answer": "B",
        "category": "Disease Diagnosis",
        "l2-category": "",
        "clinical VQA task": "Disease Diagnosis",
        "department": "Ophthalmology",
        "perceptual granularity": "Image Level",
        "modality": "Fundus",
    }
    return {**row, **changes}


def tsv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def gmai_mmbench(folder: Path) -> Path:
    first, second = (base64.b64encode(picture_bytes(shade)).decode() for shade in (1, 2))
    rows = [gmai_row(0, first), gmai_row(1, second, answer="C"), gmai_row(2, "0", E="nan")]
    tsv(folder / "GMAI-MMBench_VAL.tsv", rows)
    tsv(folder / "GMAI_mm_bench_TEST_part_1.tsv", [gmai_row(0, first, answer="")])
    return folder


def pmc_vqa_release(folder: Path) -> Path:
    """Both versions in one folder, as the hub has them."""
    choices = [f"Choice {letter}" for letter in "ABCD"]
    texts = [" A:Diffuse ", " B:Focal", " C:None", " D:Unknown"]
    header = ["Figure_path", "Question", "Answer", *choices, "Answer_label"]
    row = ["PMC1_F1.jpg", "What?", " Focal", *texts, "B"]
    for name, count in (("train", 1), ("test", 3), ("test_clean", 2)):
        write_csv(folder / f"{name}.csv", header, [row] * count)
    header = ["index", "Figure_path", "Caption", "Question", *choices, "Answer", "split"]
    row = ["0", "PMC1_Fig1_1.jpg", "A figure.", "What?", *texts, "B", "test"]
    write_csv(folder / "test_2.csv", header, [row] * 2)
    picture(folder / "images/PMC1_F1.jpg")
    picture(folder / "figures/PMC1_Fig1_1.jpg")
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text("utf-8")))
