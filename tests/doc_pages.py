"""What the commands of each page of the documentation read, and those that no test here runs, with why."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import yaml
from doc_blocks import REPOSITORY, fences
from PIL import Image, ImageDraw

from biod2c_core.testing.scripted_endpoint import FakeEndpoint

CI = "`.ci/run` does it in a fresh environment"
GPU = "needs GPUs"
MACHINES = "needs several machines"
HUB = "downloads from the hub"
NETWORK = "downloads a package"
ACCOUNT = "needs an account"
BUILDER = "needs a builder of containers and a registry"
HOURS = "trains or tries for hours"
MEASURES = "measures this machine for minutes"
WAITS = "runs until it is stopped"
TEXT = "needs the extra 'text', which `dev` does not have"
RAY = "needs the extra 'distributed', which `dev` does not have"
OTHERS = "a program of others, which `dev` does not have"
ELSEWHERE = "run by "  # and the test


@dataclass(frozen=True)
class Place:
    """The folder that a page's commands are typed in, and what its inputs are made from."""

    folder: Path
    checkpoint: Path
    llama: Path
    data_root: Path
    stack: ExitStack
    monkeypatch: pytest.MonkeyPatch


def nothing(place: Place) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Page:
    """How the commands of one page are run.

    Attributes:
        prepare: Makes their inputs; returns what stands for the page's placeholders.
        more: Arguments added to the commands that begin so (the first that fits), to make less work of them.
        not_run: Commands that are not run here, or their beginnings, with the reason.
        codes: Exit codes other than 0 that the page explains.
        real_data: Whether what the page prints is about the published data sets.
    """

    prepare: Callable[[Place], Mapping[str, str]] = nothing
    more: Mapping[str, str] = field(default_factory=dict)
    not_run: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    real_data: bool = False


def link(name: str, target: Path) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(target, target_is_directory=target.is_dir())


def write_rows(name: str, rows: list[dict]) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


SAMPLE = REPOSITORY / "examples" / "sample"


def sample(*names: str, source: str = "") -> list[dict]:
    """The sample's questions, also as record files of this folder."""
    text = (SAMPLE / "questions.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    for name in names:
        write_rows(name, [row | {"source": source or row["source"]} for row in rows])
    if names and not Path("images").exists():
        link("images", SAMPLE / "images")
    return rows


def multiple_choice(name: str) -> None:
    """The sample's questions about the modality, with choices."""
    choices = {"choice_a": "x-ray", "choice_b": "ct", "choice_c": "mri", "choice_d": "photograph"}
    asked = [row for row in sample() if row["answer"] in choices.values()]
    write_rows(name, [row | {"tags": choices} for row in asked])


def release(place: Place) -> None:
    """A small checkpoint by the names that pages give to trained ones."""
    for name in ("runs/stage1/model", "runs/stage2/model", "RUN/model", "MODEL", "CHECKPOINT"):
        link(name, place.checkpoint)


def endpoint(place: Place) -> str:
    """The address of a scripted endpoint, which is also where OpenAI is looked for."""
    served = place.stack.enter_context(FakeEndpoint(batch_seconds=0.0))
    place.monkeypatch.setenv("OPENAI_API_KEY", "any")
    place.monkeypatch.setenv("OPENAI_BASE_URL", served.base_url)
    return served.base_url


def ask(place: Place) -> Mapping[str, str]:
    nibabel = pytest.importorskip("nibabel", reason="the extra 'medical' is not installed")
    pydicom = pytest.importorskip("pydicom", reason="the extra 'medical' is not installed")
    Path("notes.png").write_text("not a picture")
    grey = np.asarray(Image.open("examples/head_ct.jpg").convert("L").resize((32, 32)))
    nibabel.save(nibabel.Nifti1Image(np.stack([grey.T] * 14, axis=-1), np.eye(4)), "scan.nii.gz")
    Path("series").mkdir()
    slice_ = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    for index in range(3):
        slice_.ImagePositionPatient = [0, 0, index]
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.{index + 1}"
        slice_.save_as(f"series/{index}.dcm")
    return {}


def backbones(place: Place) -> Mapping[str, str]:
    import timm
    from safetensors.torch import save_file

    captions()
    link("FOLDER", place.llama)
    save_file(timm.create_model("test_resnet").state_dict(), "resnet.safetensors")
    return {}


def benchmark_data(place: Place) -> Mapping[str, str]:
    release(place)
    rows = sample("vqa-rad.jsonl", "datasets/vqa-rad.jsonl")
    link("datasets/images", SAMPLE / "images")
    multiple_choice("omnimedvqa.jsonl")
    answers = [{"id": row["id"], "answer": row["answer"]} for row in rows if row["split"] == "test"]
    write_rows("runs/predictions/vqa-rad.jsonl", answers)
    place.monkeypatch.setenv("HOME", str(place.folder))
    return {"/path/to/datasets": "datasets"}


def benchmarks(place: Place) -> Mapping[str, str]:
    release(place)
    sample("datasets/vqa-rad.jsonl")
    link("datasets/images", SAMPLE / "images")
    place.monkeypatch.setenv("BIOD2C_DATA", "datasets")
    return {}


def calibrate(place: Place) -> Mapping[str, str]:
    shutil.copytree(place.checkpoint, "RUN/model")
    for number, name in enumerate(("train", "held_out", "elsewhere")):
        pictures = range(40 * number, 40 * number + 40)
        rows = [
            {"id": str(index), "image": f"{index}.png", "question": "where?", "answer": "there"}
            for index in pictures
        ]
        write_rows(f"{name}.jsonl", rows)
        for index in pictures:
            tiny_models.make_image(index).save(f"{index}.png")
    return {}


def convert(place: Place) -> Mapping[str, str]:
    import torch

    from biod2c_core.model.backbones.open_clip_library import build_open_clip

    tower = {"image_size": 64, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None}
    visual = build_open_clip("RN50", 64, {"embed_dim": 16, "vision_cfg": tower}).state_dict()
    state = {f"module.visual.{name}": value for name, value in visual.items()}
    torch.save({"epoch": 1, "name": "", "state_dict": state, "optimizer": {}}, "checkpoint.pt")
    link("PMC_LLAMA", place.llama)
    captions()
    return {}


def captions() -> None:
    shutil.copy(SAMPLE / "captions.jsonl", ".")
    if not Path("images").exists():
        link("images", SAMPLE / "images")


def data(place: Place) -> Mapping[str, str]:
    """The published sets as they are; of two that no test has, records of the sample."""
    link("vqa_rad", place.data_root / "vqa_rad")
    slake_with_small_pictures(place.data_root / "slake_text")
    rows = [row | {"id": f"{name}-{row['id']}"} for name in ("pmc",) for row in sample()]
    write_rows("pmc-clean.jsonl", rows)
    sample("path-vqa.jsonl", source="path-vqa")
    multiple_choice("mcq.jsonl")
    Path("mine.csv").write_text(
        "image,question,answer\nimages/chest_xray_0.jpg,What is it?,x-ray\n"
        "images/chest_xray_0.jpg,,x-ray\nimages/head_ct_0.jpg,What is it?,ct\n"
    )
    return {"SOURCE": "vqa_rad"}


def slake_with_small_pictures(texts: Path) -> None:
    """SLAKE's own texts, and noise for its pictures, which the real data does not have."""
    names = {
        row["img_name"]
        for part in texts.glob("*.json")
        for row in json.loads(part.read_text("utf-8"))
    }
    for part in texts.glob("*.json"):
        link(f"Slake1.0/{part.name}", part)
    for index, name in enumerate(sorted(names)):
        picture = Path("Slake1.0/imgs", name)
        picture.parent.mkdir(parents=True)
        tiny_models.make_image(index, (16, 12)).save(picture)


def data_queue(place: Place) -> Mapping[str, str]:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    captions()
    shutil.move("captions.jsonl", "records.jsonl")
    write_rows("findings.jsonl", [{"name": "rib fracture", "definition": "A break of a rib."}])
    Path("terms.txt").write_text("rib of the chest\nan x-ray\n")
    folder = Path("all-MiniLM-L6-v2")
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rib", "chest", "x", "ray", "of", "the"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), intermediate_size=32, **sizes)).save_pretrained(
        folder
    )
    return {}


def evaluate(place: Place) -> Mapping[str, str]:
    link("CHECKPOINT", place.checkpoint)
    endpoint(place)
    rows = sample("datasets/vqa-rad.jsonl", source="vqa-rad")
    link("datasets/images", SAMPLE / "images")
    place.monkeypatch.setenv("BIOD2C_DATA", "datasets")
    tested = [row for row in rows if row["split"] == "test"]
    write_rows("theirs.jsonl", [{"id": row["id"], "answer": row["answer"]} for row in tested])
    write_rows("llava.jsonl", [{"id": "1", "answer": "x-ray", "text": "ct"}])
    with Path("human.csv").open("w", newline="") as file:
        scores = [(row["id"], index % 11) for index, row in enumerate(tested)]
        csv.writer(file).writerows([("id", "score"), *scores])
    return {"DATA": "vqa-rad"}


def export(place: Place) -> Mapping[str, str]:
    release(place)
    return {}


def filter_images(place: Place) -> Mapping[str, str]:
    """A chest, drawings, and a file that was cut off; the same as records and in a shard."""
    Path("images").mkdir()
    Path("shards").mkdir()
    shutil.copy("examples/chest_xray.jpg", "images/chest.jpg")
    for name, panels in (("figure-few", 2), ("figure-many", 4)):
        figure = Image.new("RGB", (400, 400), "white")
        side = 400 // panels
        for index in range(panels * panels):
            panel = Image.open(f"examples/{('chest_xray', 'head_ct')[index % 2]}.jpg")
            corner = (index % panels * side + 4, index // panels * side + 4)
            figure.paste(panel.convert("RGB").resize((side - 8, side - 8)), corner)
        figure.save(f"images/{name}.jpg")
    table = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(table)
    for row in range(10):
        draw.line((10, 20 + 28 * row, 390, 20 + 28 * row), fill="black")
        draw.text(
            (20, 26 + 28 * row), f"group {row}      {row * 7 % 10}.{row}     0.0{row}", fill="black"
        )
    table.save("images/table.jpg")
    sketch = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(sketch).line([(20, 250), (90, 60), (200, 240), (280, 40), (380, 200)], 0, 3)
    ImageDraw.Draw(sketch).ellipse((150, 80, 260, 170), outline=0, width=3)
    sketch.save("images/sketch.jpg")
    shutil.copytree("images", "six")
    Path("six/torn.jpg").write_bytes(b"torn")
    with tarfile.open("shards/0.tar", "w") as shard:
        shard.add("images/chest.jpg", "chest.jpg")
    write_rows("records.jsonl", [{"image": "images/chest.jpg"}])
    Path("labelled").mkdir()
    for index in range(10):
        figure.rotate(9 * index, fillcolor="white").save(f"labelled/drawn-{index}.jpg")
        shutil.copy(SAMPLE / "images" / f"head_ct_{index}.jpg", f"labelled/clean-{index}.jpg")
    with Path("labels.csv").open("w", newline="") as file:
        rows = [
            (f"labelled/{name}-{index}.jpg", label)
            for name, label in (("clean", "clean"), ("drawn", "polluted"))
            for index in range(10)
        ]
        csv.writer(file).writerows([("image", "label"), *rows])
    return {}


def gallery(place: Place) -> Mapping[str, str]:
    """The volume that the page names."""
    nibabel = pytest.importorskip("nibabel", reason="the extra 'medical' is not installed")
    volume = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    shutil.copy(volume, "scan.nii.gz")
    place.monkeypatch.setenv("BIOD2C_CACHE", str(place.folder / "cache"))
    return {}


def gen_qa(place: Place) -> Mapping[str, str]:
    captions()
    shutil.move("captions.jsonl", "records.jsonl")
    address = endpoint(place)
    return {"http://127.0.0.1:8900/v1": address, "http://127.0.0.1:8000/v1": address}


def presets(place: Place) -> Mapping[str, str]:
    Path("mine.yaml").write_text("stage2: {batch_size: 3}\n")
    return {}


def scaling(place: Place) -> Mapping[str, str]:
    from transformers import LlamaConfig

    release(place)
    sample("questions.jsonl")
    LlamaConfig().save_pretrained("FOLDER")  # of 7B parameters; a dry run reads no weights
    return {"...": "-m MODEL --data questions.jsonl -o run"}


def train(place: Place) -> Mapping[str, str]:
    """Runs of the page's own stages, a step each."""
    rows = sample("questions.jsonl")[:3]
    others = [row | {"question": f"Now: {row['question']}", "split": ""} for row in rows]
    write_rows("held_out.jsonl", others)
    captions()
    link("FOLDER", place.llama)
    (shown,) = (
        each.text
        for each in fences(REPOSITORY / "docs" / "commands" / "train.md")
        if each.language == "yaml"
    )
    assert yaml.safe_load(shown)["output"] == "runs/sample"
    Path("run.yaml").write_text(shown)
    place.monkeypatch.setenv("BIOD2C_CACHE", str(place.folder / "cache"))
    return {}


def quick_start(place: Place) -> Mapping[str, str]:
    place.monkeypatch.setenv("BIOD2C_CACHE", str(place.folder / "cache"))
    return {}


BENCHMARK = {"python benchmarks/": MEASURES}
RECIPE = {"BIOD2C_DATA=": HOURS}
DRY_RUN = "--dry-run --gpu-memory 80"
STEP = "--max-steps 1 --batch-size 1 --device cpu"
DRY = {"biod2c train": DRY_RUN}

PAGES: dict[str, Page] = {
    "README.md": Page(not_run={"python3 -m pip": CI, "python3 -m pytest": CI}),
    "CONTRIBUTING.md": Page(
        not_run={"python3 -m pip": CI, "python3 -m pytest": CI, "ruff": CI, "mypy": CI}
    ),
    "docs/README.md": Page(not_run={"python3 -m pip": CI, "mkdocs serve": WAITS}),
    "docs/ablation.md": Page(not_run=RECIPE | {"recipes/": HOURS, "python recipes/": HOURS}),
    "docs/backbones.md": Page(
        backbones, not_run={"biod2c train --stage 1 --data captions.jsonl -o runs/stage1": HUB}
    ),
    "docs/benchmark-data.md": Page(
        benchmark_data, not_run={"python -m lmms_eval": OTHERS, "python run.py": OTHERS}
    ),
    "docs/benchmarks.md": Page(
        benchmarks, not_run=BENCHMARK | {"recipes/": HOURS, "python recipes/": HOURS}
    ),
    "docs/commands/ask.md": Page(ask),
    "docs/commands/attn-map.md": Page(ask),
    "docs/commands/calibrate.md": Page(calibrate),
    "docs/commands/convert.md": Page(
        convert,
        DRY,
        {"biod2c convert model.safetensors": ELSEWHERE + "tests/cli/test_convert_command.py"},
    ),
    "docs/commands/data-queue.md": Page(data_queue),
    "docs/commands/data.md": Page(
        data,
        not_run={"biod2c data validate mine.jsonl": TEXT, "biod2c data scrub-text": TEXT},
        codes={"biod2c data validate slake.jsonl": 3},
        real_data=True,
    ),
    "docs/commands/doctor.md": Page(
        not_run={
            "biod2c --install": ELSEWHERE + "tests/cli/test_completion_and_doctor.py",
        }
    ),
    "docs/commands/evaluate.md": Page(
        evaluate,
        not_run={
            "biod2c evaluate DATA -o runs/qwen": HUB,
            "biod2c evaluate DATA -o runs/rad --mask-text": TEXT,
        },
    ),
    "docs/commands/export.md": Page(
        export,
        not_run={
            "biod2c export page --onnx": ELSEWHERE
            + "tests/core/inference/browser/test_onnx_parts.py",
            "npm install": ELSEWHERE + "tests/core/inference/browser/test_browser_page.py",
            "python -m http.server": WAITS,
        },
    ),
    "docs/commands/filter-images.md": Page(
        filter_images,
        not_run={
            "biod2c filter-images run shards/ -o of-shards.jsonl --workers 8 --gpus 4": GPU,
            "biod2c filter-images run shards/ -o of-shards.jsonl --engine ray": RAY,
            "biod2c filter-images label": WAITS,
        },
    ),
    "docs/commands/gen-qa.md": Page(
        gen_qa,
        not_run={
            "python -m biod2c_core.testing": WAITS,
            "pip download": NETWORK,
            "unzip": NETWORK,
            "python examples/local_server.py": WAITS,
        },
    ),
    "docs/commands/pull.md": Page(
        not_run={"biod2c pull": ELSEWHERE + "tests/core/model/test_sharing.py"}
    ),
    "docs/commands/push.md": Page(
        not_run={
            "hf auth login": ACCOUNT,
            "biod2c push": ELSEWHERE + "tests/core/model/test_sharing.py",
        }
    ),
    "docs/commands/serve.md": Page(
        not_run={"biod2c serve": ELSEWHERE + "tests/cli/test_serve_command.py"}
    ),
    "docs/commands/train.md": Page(
        train, {"biod2c train --preset paper": DRY_RUN, "biod2c train ": STEP}
    ),
    "docs/containers.md": Page(
        not_run={
            "docker": BUILDER,
            "cp constraints.txt containers/space": ACCOUNT,
            "python3 -m pip wheel": ELSEWHERE + "tests/library/test_wheel.py",
            "hf upload": ACCOUNT,
        }
    ),
    "docs/extending.md": Page(
        not_run={"python gated.py": ELSEWHERE + "tests/core/test_extending.py"}
    ),
    "docs/gallery.md": Page(
        gallery,
        {
            "biod2c attn-map scan": "--slices 9",
            "biod2c train": STEP,
            "biod2c evaluate": "--limit 4",
        },
        {"python website/make_gallery.py": ELSEWHERE + "tests/library/test_gallery.py"},
    ),
    "docs/performance.md": Page(not_run=BENCHMARK),
    "docs/presets.md": Page(presets),
    "docs/quick-start.md": Page(quick_start),
    "docs/reliability.md": Page(not_run={"python tests/": HOURS, **BENCHMARK}),
    "docs/scaling.md": Page(
        scaling,
        DRY,
        {
            "biod2c train ... --gpus 8 --nodes 2": MACHINES,
            "torchrun": MACHINES,
            "srun": MACHINES,
            "biod2c train ... --hostfile": MACHINES,
        },
    ),
    "recipes/image_filter/README.md": Page(not_run=RECIPE),
    "recipes/smol/README.md": Page(not_run=RECIPE),
    "recipes/tiny/LOG.md": Page(not_run=RECIPE | {"python recipes/": HOURS}),
    "recipes/tiny/README.md": Page(not_run=RECIPE),
}


def reason_not_run(page: str, text: str) -> str | None:
    """Why a command of a page is not run here; None where it is."""
    known = PAGES[page].not_run if page in PAGES else {}
    return next((reason for start, reason in known.items() if text.startswith(start)), None)
