"""Ten architectures as their makers run them: trained, resumed, a checkpoint chosen and exported, the same
alone and in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from test_resume import assert_same, config_of, stop_at

from biod2c_core.data.records import iter_records, write_records
from biod2c_core.evaluation.choosing import find_metric
from biod2c_core.model.checkpoints.card import CardFacts
from biod2c_core.model.checkpoints.export import export
from biod2c_core.model.checkpoints.folder import load_model, load_processor
from biod2c_core.model.generation import Answerer
from biod2c_core.training.train import train

REPOSITORY = Path(__file__).resolve().parents[3]
BEGIN = "<s> $A"
WINDOW = 12  # less than image and question: padding in it would push the image out
LLAMA_3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
NOISE = {"attention_dropout": 0.1}
# name in the table: kind of transformers, around a text, LoRA on, configuration
ARCHITECTURES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "Llama 3": ("llama", BEGIN, "q_proj, v_proj", {**NOISE, "rope_parameters": LLAMA_3}),
    "Mistral": ("mistral", BEGIN, "q_proj, v_proj", {**NOISE, "sliding_window": WINDOW}),
    "Phi-3": (
        "phi3",
        "$A",
        "qkv_proj",
        {**NOISE, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "sliding_window": WINDOW},
    ),
    "Qwen2.5": ("qwen2", "$A", "q_proj, v_proj", NOISE),
    "Qwen3": ("qwen3", "$A", "q_proj, v_proj", NOISE),
    "Gemma 3": ("gemma3_text", BEGIN, "q_proj, v_proj", {**NOISE, "sliding_window": WINDOW}),
    "GPT-2": ("gpt2", "$A", "c_attn", {}),
    "OPT": ("opt", "</s> $A", "q_proj, v_proj", {**NOISE, "dropout": 0.1, "layerdrop": 0.1}),
    "SmolLM3": ("smollm3", "$A", "q_proj, v_proj", NOISE),
    "Granite": ("granite", "$A", "q_proj, v_proj", NOISE),
}
FIRST = 3  # the others are slow together


def table() -> str:
    """The table of ``docs/backbones.md``."""
    lines = [
        "| architecture | begin token before the image | sliding window | LoRA on (`auto`) "
        "| trains ... answers alike |",
        "|---|---|---|---|---|",
    ]
    for name, (kind, template, targets, changes) in ARCHITECTURES.items():
        begin = "no" if template == "$A" else "yes"
        window = "yes" if "sliding_window" in changes else "no"
        lines.append(f"| {name} (`{kind}`) | {begin} | {window} | {targets} | yes |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if place >= FIRST else ())
        for place, name in enumerate(ARCHITECTURES)
    ],
)
def test_architecture(name: str, data: Path, tmp_path: Path) -> None:
    kind, template, targets, changes = ARCHITECTURES[name]
    folder = tiny_models.save_language_model(tmp_path / "lm", kind, 0, template, **changes)
    config = config_of(folder, max_steps=2, validate_every=1)
    lora = replace(config.model.lora, targets="auto")
    config = replace(config, model=replace(config.model, lora=lora))

    held_out = data.with_name("held_out.jsonl")
    write_records(held_out, [replace(next(iter_records(data)), question="where?")])

    def go(output: Path, resume: bool) -> int:
        rest: Any = {"validation": held_out, "select": find_metric("token_f1"), "device": "cpu"}
        reporter = tiny_models.Silent()
        return train(config, 2, [data], output, reporter, resume=resume, **rest).chosen_step

    chosen = go(tmp_path / "whole", resume=False)
    assert len(list((tmp_path / "whole" / "validation").glob("*.jsonl"))) == 2
    stopped = stop_at(tmp_path / "whole", 1, tmp_path / "stopped")
    assert go(stopped, resume=True) == chosen
    assert_same(tmp_path / "whole", stopped)

    model, processor = load_model(stopped / "model"), load_processor(stopped / "model")
    assert sorted(model.config.lora["target_modules"]) == sorted(targets.split(", "))
    assert model.config.begin_tokens == int(template != "$A")
    batch = tiny_models.make_batch(processor, data.parent)
    tokens = torch.zeros(4, 8, model.get_input_embeddings().embedding_dim)
    given = model.embed_prompt(tokens, batch["input_ids"], batch["attention_mask"])
    language_model = model.language_model.train()
    for module in language_model.modules():  # the adapters' own dropout stays in training
        if "lora_dropout" in dict(module.named_children()):
            module.lora_dropout.eval()
    with torch.no_grad():
        passes = [
            language_model(
                inputs_embeds=given.embeddings,
                attention_mask=given.mask,
                position_ids=given.positions,
            ).logits
            for _ in range(2)
        ]
    assert torch.equal(*passes)

    answerer = Answerer.load(
        export(str(stopped / "model"), tmp_path / "exported", CardFacts()), "cpu"
    )
    images = [tiny_models.make_image(0), tiny_models.make_image(1)]
    questions = ["is it?", " ".join(tiny_models.QUESTIONS)]
    assert (
        len(answerer.answer_blind(questions)) == 2
    )  # also where embeddings are narrower, as OPT's
    together = answerer.answer(images, questions, max_new_tokens=6)
    for image, question, one in zip(images, questions, together, strict=True):
        (alone,) = answerer.answer([image], [question], max_new_tokens=6)
        assert (alone.text, alone.ids) == (one.text, one.ids)
        assert alone.confidence == pytest.approx(one.confidence, rel=1e-2)


def test_the_page_shows_the_table() -> None:
    assert len(ARCHITECTURES) == 10
    assert table() in (REPOSITORY / "docs" / "backbones.md").read_text("utf-8")
