"""Random models of a few kilobytes with all parts of BioD2C, built once a session, for every test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from biod2c_core.config import (
    LoraSettings,
    ModelSettings,
    StageSettings,
    TrainingConfig,
    VisionConfig,
)
from biod2c_core.data.records import Record, iter_records, write_records
from biod2c_core.model.build import build_model
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.vision import PixelScale
from biod2c_core.training.inputs.collate import Collator, VQADataset

IMAGE_SIZE = 64
GRID = (4, 4, 48)  # of the tower below
VISUAL_TOKENS = 8
WORDS = (
    "Question: Answer: is there a lesion in the left lung right yes no what modality chest x-ray "
    "CT MRI brain describe image. of with an arrow? where fracture effusion normal heart size"
)
SMALL: dict[str, Any] = {"initializer_range": 0.3}  # far from uniform, so that inputs matter


@cache
def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text, about 330 ids, of which 0, 1 and 2 are special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """The same with tokens around a text: ``<s> $A``, as Llama's, and others behind with add_eos_token."""
    plain = make_tokenizer().backend_tokenizer
    copy = type(plain).from_str(plain.to_str())
    copy.post_processor = TemplateProcessing(
        single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=copy, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def text_config(kind: str = "llama", **changes: Any) -> Any:
    """A language model of width 32 and two layers."""
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    shared = {"vocab_size": len(make_tokenizer()), **ids}
    llama = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        **SMALL,
    }
    if kind == "gpt2":
        gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
        return GPT2Config(**{**shared, **gpt2, **SMALL, **changes})
    if kind == "opt":
        sizes = {"ffn_dim": 48, "word_embed_proj_dim": 16, "init_std": 0.3, "dropout": 0.0}
        return OPTConfig(**{**shared, **llama, **sizes, **changes})
    if kind == "gpt_neox":
        return AutoConfig.for_model(kind, **{**shared, **llama, **changes})
    if kind == "qwen2":
        return Qwen2Config(**{**shared, **llama, "num_key_value_heads": 2, **changes})
    if kind == "llama":
        return LlamaConfig(**{**shared, **llama, "num_key_value_heads": 2, **changes})
    sizes = {"num_key_value_heads": 2, "head_dim": 8}
    return AutoConfig.for_model(kind, **{**shared, **llama, **sizes, **changes})


def save_language_model(
    folder: Path, kind: str = "llama", seed: int = 0, template: str = "$A", **changes: Any
) -> Path:
    """Write a random language model and its tokenizer as transformers does."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(text_config(kind, **changes)).save_pretrained(folder)
    tokenizer = make_tokenizer() if template == "$A" else tokenizer_with(template)
    tokenizer.save_pretrained(folder)
    return folder


def model_settings(language_model: Path | str, **changes: Any) -> ModelSettings:
    """Every part of the model, as small as it goes."""
    settings = ModelSettings(
        vision=VisionConfig("timm", "test_efficientnet", levels=(3,), image_size=IMAGE_SIZE),
        language_model=str(language_model),
        lora=LoraSettings(r=2, alpha=4, dropout=0.1),
        num_visual_tokens=VISUAL_TOKENS,
        fusion_layers=2,
        fusion_heads=4,
        fusion_feed_forward=32,
        text_hidden=24,
    )
    return replace(settings, **changes)


def training_config(language_model: Path | str, **changes: Any) -> TrainingConfig:
    """Both stages with batches of four in full precision; ``changes`` are of both stages."""
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "batch_size": 4,
        "queue_size": 4,
        "bf16": False,
        "log_every": 1,
        **changes,
    }
    return TrainingConfig(
        model=model_settings(language_model),
        stage1=StageSettings(**{"semantic_weight": 0.0, **values}),
        stage2=StageSettings(**values),
    )


def at_toy_size(config: TrainingConfig, llama: Path | str) -> TrainingConfig:
    """Another tower, language model and amount of work; the rest as the preset says."""
    vision = VisionConfig("timm", "test_vit", levels=(5,), image_size=160)
    if config.model.vision.name in ("RN50", "efficientnet_lite0"):
        vision = VisionConfig("timm", "test_efficientnet", levels=(3,), image_size=64)
    model = replace(
        config.model,
        vision=vision,
        language_model=str(llama),
        scales="auto",
        num_visual_tokens=VISUAL_TOKENS,
        fusion_layers=1,
        fusion_heads=4,
        fusion_feed_forward=32,
        text_hidden=24,
    )
    work: dict[str, Any] = {
        "batch_size": 4,
        "gradient_accumulation": 1,
        "max_steps": 2,
        "log_every": 1,
    }
    return replace(
        config,
        model=model,
        stage1=replace(config.stage1, **work),
        stage2=replace(config.stage2, **work),
    )


def build(
    language_model: Path | str, seed: int = 1, **changes: Any
) -> tuple[BioD2CForConditionalGeneration, BioD2CProcessor]:
    """A model in evaluation mode; its trunk's BatchNorm has seen images, so that images matter."""
    model, processor = build_model(model_settings(language_model, **changes), seed)
    model.vision.accept_bytes(processor.image_mean, processor.image_std)
    trunk = model.vision.trunk.train()
    with torch.no_grad():
        for _ in range(5):
            trunk(torch.stack([processor.pixels(make_image(index)) for index in range(8)]))
    return model.eval(), processor


def make_image(index: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture that no other index gives."""
    generator = torch.Generator().manual_seed(index)
    pixels = torch.randint(0, 256, (6, 8, 3), generator=generator, dtype=torch.uint8).numpy()
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


QUESTIONS = (
    "is there a lesion?",
    "what modality is the image?",
    "where is the arrow?",
    "is the heart size normal in the left lung?",
)
ANSWERS = ("yes", "chest x-ray", "left lung", "no")
BOXES = (((0.1, 0.2, 0.6, 0.5),), (), ((0.0, 0.0, 0.3, 1.0), (0.2, 0.4, 0.9, 0.8)))
QUEUES = (
    ("lesion in the lung", "no fracture", "normal heart"),
    (),
    ("an x-ray of the chest", "CT"),
    ("effusion", "brain", "normal", "right", "more than four"),
)


def write_data(folder: Path, count: int = 12, images: int = 5) -> Path:
    """Pictures and ``records.jsonl``: questions of different length, some without a queue or boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(images):
        make_image(index).save(folder / f"{index}.png")
    records = [
        Record(
            id=f"r{index}",
            image=f"{index % images}.png",
            question=QUESTIONS[index % 4],
            answer=ANSWERS[index % 3],
            queue=QUEUES[index % 4],
            boxes=BOXES[index % 3],
        )
        for index in range(count)
    ]
    write_records(folder / "records.jsonl", records)
    return folder / "records.jsonl"


def write_volume(path: Path, slices: int) -> Path:
    """A NIfTI volume whose slices are the first two pictures in turn."""
    nibabel = pytest.importorskip("nibabel", reason="the extra 'medical' is not installed")
    grey = [np.asarray(make_image(index).convert("L")) for index in (0, 1)]
    values = np.stack([grey[index % 2].T for index in range(slices)], axis=-1)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def make_batch(
    processor: BioD2CProcessor, folder: Path, count: int = 4, queue_size: int = 30
) -> dict[str, torch.Tensor]:
    """The first samples of :func:`write_data`'s records as the collator puts them together, normalized."""
    records = list(iter_records(folder / "records.jsonl"))[:count]
    samples = VQADataset(records, [folder] * count, processor, queue_size)
    batch = Collator(processor)([samples[index] for index in range(count)])
    scale = PixelScale(processor.image_mean, processor.image_std)
    return batch | {"pixel_values": scale(batch["pixel_values"])}


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.done: list[int] = []
        self.images = 0
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """A line for the person."""
        self.notes.append(text)

    def encoding(self, total: int) -> None:
        """Images to encode."""

    def encoded(self, count: int) -> None:
        """Images encoded."""
        self.images += count

    def start(self, total: int, done: int) -> None:
        """Training begins."""
        self.started.append((total, done))

    def answering(self, total: int) -> None:
        """Validation questions to answer."""

    def answered(self, count: int) -> None:
        """Questions answered."""

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """A step is done."""
        self.done.append(done)


def with_reference(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint, to which all pictures are unlike those of training."""
    from biod2c_core.model.checkpoints.folder import fingerprint
    from biod2c_core.model.familiarity import Reference

    shutil.copytree(checkpoint, folder)
    width = 2 * GRID[-1]
    first = torch.nn.functional.one_hot(torch.tensor([0]), width).float()
    reference = Reference(torch.zeros(width), torch.ones(width), first, torch.full((20,), 1e-3))
    reference.save(folder, fingerprint(folder))
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with tokenizer."""
    return save_language_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def checkpoint(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random BioD2C."""
    from biod2c_core.model.checkpoints.folder import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    save_checkpoint(folder, *build(llama))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record file with its pictures."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NIfTI volume of six slices, of two kinds."""
    return write_volume(tmp_path_factory.mktemp("volume") / "v.nii.gz", 6)
