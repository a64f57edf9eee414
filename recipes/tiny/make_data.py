"""Turn the labelled image folders and VQA-RAD into the records that train ``biod2c-tiny``.

``python recipes/tiny/make_data.py runs/tiny/data`` reads the folder named by ``BIOD2C_DATA`` (or
``--root``) and writes, below the output folder, ``images/`` and one JSONL file per purpose:

============================ ======================================================================
V_language.txt               text for the language model
V_captions.jsonl             captions, for stage 1
V_train.jsonl                questions with queues, for stage 2
V_vqa_rad.jsonl              those of them that are VQA-RAD's own
V_reworded.jsonl             the same in other words
V_blank.jsonl                more questions about blank pictures, each with two answers
V_single.jsonl               those of V_train that ask where one thing is or what one arrow points to
V_arrows.jsonl               those of V_train that ask for the colour or direction of an arrow or what
                             one of two points to; and further ones about two arrows
V_further.jsonl              many more questions about arrows
V_fresh.jsonl                as many about others
V_whole.jsonl                more questions about modality, organ and stain
V_scarce.jsonl               more questions about what few images show: contrast, count, finding,
                             plane, presence, size
validation.jsonl             questions about images of the derived sets kept aside for validation
tune_validation.jsonl        VQA-RAD train questions about images that variant ``tune`` never sees
heldout.jsonl                questions about images of the derived sets that nothing else uses
vqa_rad_test.jsonl           VQA-RAD's official test questions
blank.jsonl                  held-out questions asked about blank pictures
============================ ======================================================================

V is a variant: ``official`` has all of VQA-RAD's train split, ``disjoint`` leaves out every image of
the test split, ``tune`` a part of the train images; in all forms (text, questions, captions, crops,
arrows).
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import vqa_rad
from blank import blank_records
from captions import opening
from corpus import canonical_answer, grouped_lines, line, slake_rows, undecided_lines, write_lines
from crops import crop_pictures
from derived import (
    SCARCE,
    contrast_records,
    derive_part,
    further_records,
    pair_records,
    whole_image_records,
)
from heads import SLICES, head_pictures
from sources import (
    LABELLED,
    Picture,
    assign_parts,
    fingerprint,
    near_duplicate_groups,
    read_labelled,
    read_vqa_rad,
    rng_for,
    vqa_rad_pictures,
)
from turns import turned_pictures
from varied import varied_pictures

from biod2c_core.data.records import Record, write_records

# Correlation of fingerprints from which two images count as one view: the two true duplicates among
# smears and nuclei lie above it, all other pairs there far below; slices of one eye lie above it too.
SAME_VIEW = 0.95
HELDOUT, VALIDATION, TUNE = 0.17, 0.05, 0.15  # shares of images
BLANK = 4000  # training questions about blank pictures
BARE = 0.3  # share of derived questions that the language model also sees without a caption


def labelled_pictures(root: Path, seed: int, limit: int) -> list[Picture]:
    """The pictures of all labelled folders, each assigned to its part."""
    everything = []
    for source in LABELLED:
        pictures = read_labelled(root, source, limit)
        prints = np.array([fingerprint(original(root, picture)) for picture in pictures])
        groups = near_duplicate_groups(prints, SAME_VIEW)
        assign_parts(pictures, groups, seed, HELDOUT, VALIDATION)
        everything += pictures
    return everything


def original(root: Path, picture: Picture) -> Path:
    """Where the picture lies among the data sets."""
    return root / picture.source / "images" / Path(picture.image).name


def copy_images(root: Path, out: Path, pictures: list[Picture]) -> None:
    """Copy what is not there yet, so that all records share one image root."""
    for picture in pictures:
        source, target = original(root, picture), out / picture.image
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def variants(
    pictures: list[Picture], test_rows: list[vqa_rad.Row], seed: int
) -> dict[str, set[str]]:
    """For each variant the VQA-RAD images that none of its files may hold."""
    by_organ = defaultdict(list)
    for picture in pictures:
        by_organ[picture.labels["organ"]].append(picture.image)
    tune: set[str] = set()
    for organ, images in sorted(by_organ.items()):
        rng_for(seed, "tune", organ).shuffle(images)
        tune |= set(images[: max(1, round(TUNE * len(images)))])
    return {
        "official": set(),
        "disjoint": {vqa_rad.image_path(row) for row in test_rows},
        "tune": tune,
    }


def without(records: Iterable[Record], images: set[str]) -> list[Record]:
    """The records that do not show one of the images, whole, in part or drawn on."""
    return [record for record in records if record.tags["base"] not in images]


def about_one_thing(record: Record) -> bool:
    """Whether it asks for the quadrant of an object, or what the only arrow points to."""
    tags = record.tags
    if tags["task"] == "arrow":
        return tags["arrows"] == "1" and record.answer_type == "OPEN"
    return tags["task"] == "quadrant"


def about_its_arrow(record: Record) -> bool:
    """Whether it asks for the colour or direction of an arrow, or what one of two points to."""
    tags = record.tags
    if tags["task"] == "arrow":
        return tags["arrows"] == "2"
    return tags["task"] in ("arrow_colour", "arrow_direction")


def derived_lines(records: list[Record], captions: list[Record], seed: int) -> list[str]:
    """Captions behind themselves, and questions behind the caption of their image.

    The model that reads a caption in front of the question learns to look there; later the visual
    tokens stand in that place.
    """
    caption_of_image = {record.image: record.caption for record in captions}
    lines = [line(record.question, record.answer, record.caption) for record in captions]
    for record in records:
        lines.append(line(record.question, record.answer, caption_of_image[record.image]))
        if rng_for(seed, "bare", record.id).random() < BARE:
            lines.append(line(record.question, record.answer))
    return lines


def row_lines(pictures: list[Picture], rows: list[vqa_rad.Row], seed: int) -> list[str]:
    """VQA-RAD's questions with any answer, mostly behind the fact that gives it."""
    openings = {picture.image: opening(picture) for picture in pictures}
    of_image = [(vqa_rad.image_path(row), row["question"], row["answer"]) for row in rows]
    return list(undecided_lines([(i, openings[i], q, a) for i, q, a in of_image], seed))


def slake_lines(root: Path, seed: int) -> list[str]:
    """SLAKE's train questions behind other facts of the same image."""
    slake = root / "slake_text" / "train.json"
    return list(grouped_lines(slake_rows(slake), seed)) if slake.exists() else []


def first_images(rows: list[vqa_rad.Row], names: set[str]) -> list[vqa_rad.Row]:
    """The rows about these images."""
    return [row for row in rows if row["image_name"] in names]


def build(
    root: Path,
    out: Path,
    seed: int,
    limit: int = 0,
    arrow_scale: float = 1.0,
    packages: Path | None = None,
) -> dict[str, list[Record]]:
    """Write everything.

    Args:
        root: Folder of the data sets.
        out: Folder to write, the image root of all records.
        seed: Of every draw.
        limit: Take so many images of each set, and slices of each plane; 0 takes all.
        arrow_scale: Share of the usual number of arrow images.
        packages: Folder of the packages that hold the volumes of heads; without it there are none.

    Returns:
        The records of each file, by its name without suffix.
    """
    train_rows, test_rows = read_vqa_rad(root)
    if limit:
        names = set(sorted({row["image_name"] for row in test_rows})[:limit])
        names |= set(sorted({row["image_name"] for row in train_rows})[:limit])
        train_rows, test_rows = first_images(train_rows, names), first_images(test_rows, names)
    for row in train_rows:
        row["answer"] = canonical_answer(row["answer"])
    radiology = vqa_rad_pictures(root, train_rows)
    pictures = labelled_pictures(root, seed, limit)
    copy_images(root, out, [*pictures, *radiology])
    heads = head_pictures(packages, out, limit or SLICES) if packages else []
    made, whole = {}, {}
    for part in ("train", "validation", "heldout"):
        own = [picture for picture in pictures if picture.part == part]
        own += radiology if part == "train" else []
        crops = crop_pictures(own, out, seed)
        turned = turned_pictures(own, out) if part == "train" else []
        made[part] = derive_part(own, crops, turned, part, out, seed, arrow_scale)
        if part == "validation":
            continue  # of which there are no heads
        whole_images = [*own, *crops, *(picture for picture in heads if picture.part == part)]
        whole[part] = whole_image_records(whole_images, part, seed)
        if part == "train":
            copies = whole_image_records(varied_pictures(whole_images, out, seed), part, seed)
            whole[part] += [record for record in copies if record.tags["task"] in SCARCE]
            pairs = pair_records(own, out, seed, arrow_scale)
            further = {
                kind: further_records([*own, *crops, *turned], out, seed, arrow_scale, kind)
                for kind in ("further", "fresh")
            }
            vessels = contrast_records(own, out, seed)
    files = {
        "validation": made["validation"][0],
        "heldout": made["heldout"][0] + whole["heldout"],
        "vqa_rad_test": [vqa_rad.plain_record(row, "test") for row in test_rows],
    }
    slake = slake_lines(root, seed)
    for variant, excluded in variants(radiology, test_rows, seed).items():
        rows = [row for row in train_rows if vqa_rad.image_path(row) not in excluded]
        questions, captions = (without(records, excluded) for records in made["train"])
        own = vqa_rad.train_records(radiology, rows, seed)
        blanks = blank_records(own + questions, out, "train", BLANK, BLANK // 8, seed)
        files[f"{variant}_train"] = own + questions + blanks
        files[f"{variant}_vqa_rad"] = own
        files[f"{variant}_reworded"] = vqa_rad.reworded_records(own, seed)
        files[f"{variant}_blank"] = blank_records(
            own + questions, out, "unsure", BLANK, BLANK // 8, seed, answers=2
        )
        files[f"{variant}_single"] = [record for record in questions if about_one_thing(record)]
        files[f"{variant}_arrows"] = [r for r in questions if about_its_arrow(r)] + pairs
        for kind, records in further.items():
            files[f"{variant}_{kind}"] = without(records, excluded)
        files[f"{variant}_vessels"] = without(vessels, excluded)
        known = without(whole["train"], excluded)
        files[f"{variant}_whole"] = [r for r in known if r.tags["task"] not in SCARCE]
        files[f"{variant}_scarce"] = [r for r in known if r.tags["task"] in SCARCE]
        files[f"{variant}_captions"] = captions + vqa_rad.captions(radiology, rows, seed)
        lines = {*slake, *derived_lines(questions, files[f"{variant}_captions"], seed)}
        lines.update(row_lines(radiology, rows, seed))
        write_lines(out / f"{variant}_language.txt", lines, seed)
        if variant == "tune":
            aside = [row for row in train_rows if vqa_rad.image_path(row) in excluded]
            files["tune_validation"] = [vqa_rad.plain_record(row, "validation") for row in aside]
    files["blank"] = blank_records(made["heldout"][0], out, "heldout", 200, 50, seed)
    for name, records in files.items():
        write_records(out / f"{name}.jsonl", records)
    return files


def print_counts(files: dict[str, list[Record]], out: Path) -> None:
    """A table of files and a table of the derived questions by task."""
    print(f"{'file':26}{'records':>9}{'images':>8}{'closed':>8}{'open':>8}")
    for name, records in sorted(files.items()):
        kinds = Counter(record.answer_type for record in records)
        images = len({record.image for record in records})
        closed, free = kinds["CLOSED"], kinds["OPEN"]
        print(f"{name + '.jsonl':26}{len(records):9}{images:8}{closed:8}{free:8}")
    for path in sorted(out.glob("*_language.txt")):
        print(f"{path.name:26}{len(path.read_text('utf-8').splitlines()):9} lines")
    columns = ("official_train", "validation", "heldout")
    print(f"\n{'task':18}{'source':14}" + "".join(f"{name:>19}" for name in columns))
    counts = {n: Counter((r.tags["task"], r.source) for r in files[n]) for n in columns}
    for task, source in sorted(set().union(*counts.values())):
        numbers = "".join(f"{counts[name][task, source]:19}" for name in columns)
        print(f"{task:18}{source:14}{numbers}")


def main() -> None:
    """Parse the arguments and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write, for example runs/tiny/data")
    default = os.environ.get("BIOD2C_DATA", "../shared/data")
    parser.add_argument("--root", type=Path, default=Path(default), help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=0, help="images of each set; 0 takes all")
    parser.add_argument("--arrow-scale", type=float, default=1.0, help="share of arrow images")
    parser.add_argument(
        "--packages", type=Path, help="folder of fetched packages, with heads in it"
    )
    arguments = parser.parse_args()
    if not (arguments.root / "vqa_rad" / "trainset.json").exists():
        parser.error(f"no VQA-RAD below {arguments.root}; set BIOD2C_DATA or --root")
    a = arguments
    files = build(a.root, a.out, a.seed, a.limit, a.arrow_scale, a.packages)
    print_counts(files, arguments.out)


if __name__ == "__main__":
    main()
