"""What this project and others train in `training_peers.py`: model, records, and how."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biod2c_core.config import (
    LoraSettings,
    ModelSettings,
    StageSettings,
    TrainingConfig,
    VisionConfig,
    load_config,
)

WORDS = 32_000
IMAGE = "<image>"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", IMAGE, "Question:", "Answer:"]
RATE, SEED = 1e-3, 0


@dataclass(frozen=True)
class Setting:
    """What all sides train.

    Attributes:
        layers: Of the language model.
        width: Of the language model.
        batch: Samples of a step.
        steps: Of a run.
        together: Most questions about one picture in a batch.
        image_size: Side of the pictures.
        tower: A timm model.
        bf16: Mixed precision in bfloat16.
        device: Where.
    """

    layers: int
    width: int
    batch: int
    steps: int
    together: int
    image_size: int
    tower: str
    bf16: bool
    device: str


def write_language_model(folder: Path, setting: Setting) -> None:
    """A random LLaMA, and a tokenizer of 32,000 whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    words = [*SPECIAL, *(f"w{number}" for number in range(WORDS - len(SPECIAL)))]
    ids = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=setting.width,
        intermediate_size=setting.width * 43 // 16,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.width // 64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)


def write_records(folder: Path, setting: Setting) -> None:
    """Questions about made pictures, as long as those of VQA sets, answered in a few words."""
    from PIL import Image

    draw = random.Random(SEED)

    def words(count: int) -> str:
        return " ".join(f"w{draw.randrange(WORDS - len(SPECIAL))}" for _ in range(count))

    rows = setting.steps * setting.batch
    with (folder / "rows.jsonl").open("w") as file:
        for index in range(rows):
            picture = folder / f"{index // setting.together}.png"
            if not picture.exists():
                side = setting.image_size
                Image.frombytes("L", (side, side), draw.randbytes(side * side)).save(picture)
            row = {
                "id": str(index),
                "image": picture.name,
                "question": words(min(60, max(6, round(draw.lognormvariate(2.7, 0.4))))),
                "answer": words(draw.randint(1, 6)),
            }
            file.write(json.dumps(row) + "\n")


def configure(folder: Path, setting: Setting) -> TrainingConfig:
    """The run of our side, which the others follow."""
    model = ModelSettings(
        vision=VisionConfig("timm", setting.tower, levels=(3,), image_size=setting.image_size),
        language_model=str(folder),
        lora=LoraSettings(
            r=8, alpha=32, dropout=0.0, targets=("q_proj", "k_proj", "v_proj", "o_proj")
        ),
        fusion_layers=1,
        fusion_feed_forward=128,
        fusion_dropout=0.0,
        text_hidden=128,
    )
    stage = StageSettings(
        learning_rate=RATE,
        batch_size=setting.batch,
        questions_per_image=setting.together,
        weight_decay=0.0,
        warmup_ratio=0.0,
        semantic_weight=0.0,
        bf16=setting.bf16,
        log_every=1,
        seed=SEED,
    )
    return replace(load_config("paper"), model=model, stage2=stage)


def arguments(setting: Setting, output: Path) -> dict[str, Any]:
    """What transformers' arguments say where :func:`configure` says it for our side."""
    return {
        "output_dir": str(output),
        "num_train_epochs": 1,
        "per_device_train_batch_size": setting.batch,
        "gradient_accumulation_steps": 1,
        "learning_rate": RATE,
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "warmup_steps": 0,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": setting.bf16,
        "use_cpu": setting.device == "cpu",
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": setting.device == "cuda",
        "seed": SEED,
    }
