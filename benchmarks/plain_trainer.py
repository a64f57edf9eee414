"""A training run of this project against the one that Hugging Face's own Trainer makes of the same model.

The other side is what a competent person writes first: a module around the same parts, with the frozen
trunk in evaluation mode and without a gradient, SDPA attention, the language model's own loss over all
positions, the queue's texts tokenized once and embedded in one batch; a data set that opens each question's
picture; a collator that pads to the batch's longest; Trainer with its defaults, and samples of about equal
length together. Both sides meet the same samples in the same order from the same weights.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from biod2c_core.append_log import read_rows
from biod2c_core.config import StageSettings, TrainingConfig, load_config
from biod2c_core.data.formats import read_records
from biod2c_core.data.records import Record, write_records
from biod2c_core.model import equations
from biod2c_core.model.checkpoints.folder import (
    load_model_to_train,
    load_processor,
    save_checkpoint,
)
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import IGNORED, BioD2CProcessor
from biod2c_core.training.inputs.collate import GroupedSampler, VQADataset
from biod2c_core.training.logs.run_log import SilentReporter
from biod2c_core.training.train import train

BATCH, STEPS, FIRST, RATE = 8, 24, 4, 1e-3  # the first steps warm caches up


class PlainModel(nn.Module):
    """The equations of the paper as one forward pass, with the language model's own loss."""

    def __init__(self, model: BioD2CForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        question_ids: Tensor,
        question_mask: Tensor,
        queue_ids: Tensor,
        queue_mask: Tensor,
    ) -> dict[str, Tensor]:
        """Loss of a batch: L_nll + L_sem."""
        model = self.model
        with torch.no_grad():
            grid = model.vision(pixel_values)
        visual = model.encode(question_ids, question_mask, model.encode_image(grid_features=grid))
        given = model.embed_prompt(visual.tokens, input_ids, attention_mask)
        ahead = torch.full((len(labels), visual.tokens.shape[1]), IGNORED)
        nll = model.language_model(
            inputs_embeds=given.embeddings,
            attention_mask=given.mask,
            labels=torch.cat([ahead, labels], dim=1),
            use_cache=False,
        ).loss
        with torch.no_grad():
            embed = model.get_input_embeddings()
            texts, mask = queue_ids.flatten(0, 1), queue_mask.flatten(0, 1)
            queue = equations.masked_mean(embed(texts), mask).view(*queue_ids.shape[:2], -1)
            question = equations.masked_mean(embed(question_ids), question_mask)
        present, tau = queue_mask.any(-1), model.config.semantic_temperature
        semantic = equations.semantic_divergence(
            equations.semantic_log_distribution(visual.tokens.mean(1), queue, present, tau),
            equations.semantic_log_distribution(question, queue, present, tau),
        )
        return {"loss": nll + semantic.mean()}


class PlainDataset(Dataset[dict[str, Any]]):
    """Samples tokenized once, in a given order; the picture of each is opened when it is asked for."""

    def __init__(self, samples: VQADataset, order: list[int], processor: BioD2CProcessor) -> None:
        self.samples, self.order, self.processor = samples, order, processor

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """One sample, unpadded."""
        sample = self.samples[self.order[place]]
        with Image.open(sample["image"]) as picture:
            return {**sample, "pixel_values": self.processor.pixels(picture.convert("RGB"))}


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad to the longest."""

    def padded(rows: list[list[int]], value: int) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)

    ids = padded([sample["input_ids"] for sample in samples], 0)
    questions = padded([sample["question_ids"] for sample in samples], 0)
    queue = padded([text for sample in samples for text in sample["queue_ids"]], 0)
    queue = queue.view(len(samples), -1, queue.shape[-1])
    return {
        "pixel_values": torch.stack([sample["pixel_values"] for sample in samples]),
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": padded([sample["labels"] for sample in samples], IGNORED),
        "question_ids": questions,
        "question_mask": (questions > 0).long(),
        "queue_ids": queue,
        "queue_mask": (queue > 0).long(),
    }


class Clock(TrainerCallback):
    """Processor time and losses of the steps."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is done."""
        self.times.append(time.process_time())

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        """Its loss is known."""
        if "loss" in logs:
            self.losses.append(logs["loss"])

    @property
    def seconds(self) -> float:
        """Of a step, without the first ones."""
        return (self.times[-1] - self.times[FIRST - 1]) / (len(self.times) - FIRST)


class _Timed(SilentReporter):
    def __init__(self) -> None:
        self.clock = Clock()

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """A step is done."""
        self.clock.on_step_end()


def _settings() -> TrainingConfig:
    """Without dropout: each side would draw its own."""
    preset = load_config("tiny").model
    model = replace(preset, fusion_dropout=0.0, lora=replace(preset.lora, dropout=0.0))
    stage = StageSettings(
        learning_rate=RATE,
        max_steps=STEPS,
        epochs=10,
        batch_size=BATCH,
        weight_decay=0.0,
        warmup_ratio=0.0,
        schedule="constant",
        bf16=False,
        log_every=1,
        save_every=10_000,
    )
    return TrainingConfig(model=model, stage1=stage, stage2=stage)


def write_records_of(folder: Path, words: int, count: int = 240) -> Path:
    """Records with pictures of 256 pixels, texts as long as VQA-RAD's, and queues of 30 texts."""
    chance, noise = random.Random(0), torch.Generator().manual_seed(0)

    def text(low: int, high: int) -> str:
        return " ".join(
            f"w{chance.randrange(1, words - 1)}" for _ in range(chance.randint(low, high))
        )

    for index in range(count // 4):
        coarse = torch.randint(0, 256, (16, 16, 3), generator=noise, dtype=torch.uint8).numpy()
        Image.fromarray(coarse).resize((256, 256)).save(folder / f"{index}.png")
    pool = [text(4, 14) for _ in range(200)]
    records = [
        Record(
            id=str(index),
            image=f"{index // 4}.png",
            question=text(6, 12),
            answer=text(1, 3),
            queue=tuple(chance.sample(pool, 30)),
        )
        for index in range(count)
    ]
    write_records(folder / "records.jsonl", records)
    return folder / "records.jsonl"


def ours(folder: Path, checkpoint: Path) -> Clock:
    """A run of ``train``."""
    reporter = _Timed()
    with tempfile.TemporaryDirectory() as output:
        train(
            *(_settings(), 2, [folder / "records.jsonl"], Path(output) / "run", reporter),
            checkpoint=str(checkpoint),
            device="cpu",
        )
        rows = [row for _, row in read_rows(Path(output) / "run" / "log.jsonl")]
    reporter.clock.losses = [row["loss"] for row in rows if "loss" in row]
    return reporter.clock


def theirs(folder: Path, checkpoint: Path) -> Clock:
    """A run of Hugging Face's Trainer."""
    model, processor = load_model_to_train(checkpoint, torch.float32), load_processor(checkpoint)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fusion.") or "lora_" in name)
    plain = PlainModel(model)
    model.vision.requires_grad_(False)
    records = read_records(folder / "records.jsonl")
    samples = VQADataset(records, [folder] * len(records), processor, queue_size=30)
    sampler = GroupedSampler(samples.lengths, samples.image_numbers, BATCH, seed=0)
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=plain,
            args=TrainingArguments(
                output_dir=output,
                per_device_train_batch_size=BATCH,
                max_steps=STEPS,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                train_sampling_strategy="sequential",  # of what is in the order already
                use_cpu=True,
                seed=0,
                disable_tqdm=True,
            ),
            train_dataset=PlainDataset(samples, list(sampler), processor),
            data_collator=collate,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock


def compare_runs(
    model: BioD2CForConditionalGeneration, processor: BioD2CProcessor, words: int, repeat: int
) -> tuple[float, list[float], list[float]]:
    """Median of theirs / ours in processor time of a step, run in turn, and the losses of both."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_checkpoint(folder / "model", model, processor)
        write_records_of(folder, words)
        ratios = []
        for _ in range(repeat):
            own, other = ours(folder, folder / "model"), theirs(folder, folder / "model")
            ratios.append(other.seconds / own.seconds)
    return statistics.median(ratios), own.losses, other.losses
