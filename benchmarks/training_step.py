"""Training as this project does it against a competent loop, and against the authors' way, written afresh.

The competent loop is Hugging Face's own Trainer (``plain_trainer.py``). The authors' way: texts padded to
512 tokens, activation checkpointing, logits at all positions, the queue tokenized and embedded one text at
a time at every step, the trunk in training mode in NCHW and float32. Both ways take turns in one process
and are timed in processor time on one thread, so that neighbours on the machine count little. The losses
must agree first.

    python benchmarks/training_step.py [--repeat 5] [--only trainer ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from alternating import compare
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from training_kernels import drop, keys, trunk

from biod2c_core.model import equations
from biod2c_core.model.configuration import BioD2CConfig
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import BioD2CProcessor
from biod2c_core.model.semantic import embed_once
from biod2c_core.training.inputs.collate import GroupedSampler

WORDS = 32_000
BATCH, PADDED, VISUAL, QUEUE = 8, 512, 32, 30
PARTS = ("trainer", "step", "vocabulary", "queue", "trunk", "keys", "dropout", "padding")
WANTED = {
    "Hugging Face's Trainer": 2.0,
    "authors' step": 20.0,
    "vocabulary loss": 40.0,
    "vocabulary loss, memory": 30.0,
    "queue": 10.0,
    "trunk": 5.0,
    "normalized attention": 1.2,
    "dropout": 1.5,
    "padding": 3.0,
}


def make_tokenizer() -> Any:
    """Whole words, one for each number below the last, which ends an answer."""
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, **{f"w{i}": i for i in range(1, WORDS - 1)}, "</s>": WORDS - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def make_model() -> BioD2CForConditionalGeneration:
    """A language model of 4 layers and width 256 behind a small tower and fusion; LoRA, stage 2."""
    from transformers import LlamaConfig

    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        pad_token_id=0,
        attn_implementation="eager",
    )
    config = BioD2CConfig(
        vision={
            "library": "timm",
            "name": "test_efficientnet",
            "levels": [3],
            "image_size": 64,
            "normalize": False,
        },
        text_config=text,
        num_visual_tokens=VISUAL,
        fusion_layers=1,
        fusion_heads=4,
        fusion_feed_forward=64,
        fusion_dropout=0.0,
        text_hidden=64,
    )
    model = BioD2CForConditionalGeneration(config)
    model.add_lora(
        {"r": 8, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fusion.") or "lora_" in name)
    return model.train()


def make_texts(chance: random.Random) -> tuple[list[list[int]], list[int], list[list[str]]]:
    """Ids of question and answer, the answers' lengths, and the queue texts, as short as VQA-RAD's."""

    def words(count: int) -> list[int]:
        return [chance.randrange(1, WORDS - 1) for _ in range(count)]

    pool = [" ".join(f"w{i}" for i in words(chance.randint(4, 14))) for _ in range(60)]
    answers = [chance.randint(1, 3) for _ in range(BATCH)]
    texts = [words(chance.randint(12, 16) + length) for length in answers]
    return texts, answers, [chance.sample(pool, QUEUE) for _ in range(BATCH)]


def pad(rows: list[list[int]], length: int | None = None, value: int = 0) -> Tensor:
    """Right-padded ids."""
    length = length or max(map(len, rows))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


class Step:
    """One training step of the same model and samples in both ways."""

    def __init__(self) -> None:
        chance = random.Random(0)
        self.model, self.tokenizer = make_model(), make_tokenizer()
        self.texts, answers, self.queues = make_texts(chance)
        self.labels = [
            [-100] * (len(text) - length) + text[-length:]
            for text, length in zip(self.texts, answers, strict=True)
        ]
        self.questions = [text[:-length] for text, length in zip(self.texts, answers, strict=True)]
        self.pixels = torch.rand(BATCH, 3, 64, 64)
        self.queue_ids = [
            self.tokenizer(text)["input_ids"] for queue in self.queues for text in queue
        ]

    def ours(self) -> float:
        """The model's own training step on a batch padded to its longest sample."""
        ids, questions, queue = pad(self.texts), pad(self.questions), pad(self.queue_ids)
        output = self.model(
            input_ids=ids,
            attention_mask=(ids > 0).long(),
            labels=pad(self.labels, value=-100),
            pixel_values=self.pixels,
            question_ids=questions,
            question_mask=(questions > 0).long(),
            queue_ids=queue.view(BATCH, QUEUE, -1),
            queue_mask=(queue > 0).long().view(BATCH, QUEUE, -1),
        )
        return self._backward(output.loss)

    def theirs(self) -> float:
        """Everything padded to 512, checkpointed, all logits, one queue text at a time."""
        model = self.model
        ids, labels = pad(self.texts, PADDED), pad(self.labels, PADDED, -100)
        questions = pad(self.questions)
        mask = (questions > 0).long()
        visual = model.encode(questions, mask, model.encode_image(self.pixels))
        given = model.embed_prompt(visual.tokens, ids, (ids > 0).long())
        model.language_model.activation_checkpointing_enable({"use_reentrant": False})
        result = model.language_model(
            inputs_embeds=given.embeddings,
            attention_mask=given.mask,
            position_ids=given.positions,
            use_cache=False,
        )
        nll = all_positions(result.logits[:, VISUAL:], labels)
        queue = embed_one_by_one(model, self.tokenizer, self.queues)
        text = equations.masked_mean(model.get_input_embeddings()(questions), mask)
        present = torch.ones(BATCH, QUEUE, dtype=torch.bool)
        tau = model.config.semantic_temperature
        semantic = equations.semantic_divergence(
            equations.semantic_log_distribution(visual.tokens.mean(1), queue, present, tau),
            equations.semantic_log_distribution(text, queue, present, tau),
        ).mean()
        loss = self._backward(nll + semantic)
        model.language_model.activation_checkpointing_disable()
        return loss

    def _backward(self, loss: Tensor) -> float:
        loss.backward()
        self.model.zero_grad()
        return float(loss.detach())


def all_positions(logits: Tensor, labels: Tensor) -> Tensor:
    """L_nll from the logits of all positions, as a plain causal model computes it."""
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())


@torch.no_grad()
def embed_one_by_one(
    model: BioD2CForConditionalGeneration, tokenizer: Any, queues: list[list[str]]
) -> Tensor:
    """The queue as the authors embed it: tokenize, pad to 512, embed and average each text alone."""
    embed = model.get_input_embeddings()
    rows = []
    for queue in queues:
        for text in queue:
            ids = pad([tokenizer(text)["input_ids"]], PADDED)
            rows.append(equations.masked_mean(embed(ids), ids > 0)[0])
    return torch.stack(rows).view(len(queues), -1, rows[0].shape[-1])


class Allocated(TorchDispatchMode):
    """Adds up the bytes of all tensors that operators make."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and count what it made."""
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and not function.is_view:
                self.bytes += tensor.numel() * tensor.element_size()
        return output


def trainer(step: Step, repeat: int) -> float:
    """A step of a whole run of ``train`` against one of Hugging Face's Trainer."""
    from plain_trainer import compare_runs

    processor = BioD2CProcessor(tokenizer=step.tokenizer, image_size=64, prompt="{question}")
    ratio, own, other = compare_runs(step.model, processor, WORDS, repeat)
    for number, pair in enumerate(zip(own, other, strict=True), start=1):
        check(f"step {number} of a run", *pair)
    print(f"losses of {len(own)} steps agree, the last ones {own[-1]:.7f} and {other[-1]:.7f}")
    return ratio


def vocabulary(step: Step, repeat: int) -> dict[str, float]:
    """Head and cross-entropy, forward and back: all 512 positions against the answers' alone."""
    head = step.model.get_output_embeddings()
    labels = pad(step.labels, PADDED, -100)
    hidden = torch.randn(BATCH, PADDED, 256)

    def theirs() -> float:
        states = hidden.clone().requires_grad_()
        loss = all_positions(head(states), labels)
        loss.backward()
        return float(loss.detach())

    def ours() -> float:
        states = hidden.clone().requires_grad_()
        answered = labels[:, 1:] != -100
        logits = head(states[:, :-1][answered])
        loss = equations.negative_log_likelihood(logits, labels[:, 1:][answered]).mean()
        loss.backward()
        return float(loss.detach())

    ratio, own, other = compare(ours, theirs, repeat)
    check("vocabulary loss", own, other)
    sizes = []
    for function in (ours, theirs):
        with Allocated() as counted:
            function()
        sizes.append(counted.bytes)
    return {"vocabulary loss": ratio, "vocabulary loss, memory": sizes[1] / sizes[0]}


def queue(step: Step, repeat: int) -> dict[str, float]:
    """The mean embeddings of a batch's queue texts, from what a step starts with."""
    ids = pad(step.queue_ids).view(BATCH, QUEUE, -1)

    @torch.no_grad()
    def ours() -> Tensor:
        return embed_once(step.model.get_input_embeddings(), ids, ids > 0)

    ratio, own, other = compare(
        ours, lambda: embed_one_by_one(step.model, step.tokenizer, step.queues), repeat
    )
    torch.testing.assert_close(own, other, atol=1e-6, rtol=1e-5)
    return {"queue": ratio}


def padding(repeat: int) -> dict[str, float]:
    """The queues of a batch padded to one tensor, against one tensor a row."""
    chance = random.Random(0)
    rows = [
        [chance.randrange(1, WORDS - 1) for _ in range(chance.randint(1, 14))] for _ in range(480)
    ]
    processor = BioD2CProcessor(tokenizer=make_tokenizer())

    def theirs() -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        return ids, mask

    ratio, own, other = compare(lambda: processor.pad(rows), theirs, repeat)
    if not all(torch.equal(*pair) for pair in zip(own, other, strict=True)):
        sys.exit("padding: ids or masks differ")
    return {"padding": ratio}


def slots() -> float:
    """Positions of all batches for each real token, over an epoch of lengths as in VQA-RAD."""
    chance = random.Random(0)
    lengths = [min(120, max(8, round(chance.lognormvariate(2.7, 0.4)))) for _ in range(3000)]
    images = [Path(f"{chance.randrange(400)}.png") for _ in lengths]
    order = list(GroupedSampler(lengths, images, BATCH, seed=0))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    return padded / sum(lengths)


def check(name: str, own: float, other: float) -> None:
    """Refuse figures of two things that are not the same."""
    if abs(own - other) > 1e-5 * max(1.0, abs(other)):
        sys.exit(f"{name}: losses differ, {own} and {other}")


def main() -> None:
    """Measure, print a table, fail where a figure falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.only or PARTS
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    step = Step()
    if "trainer" in wanted:
        figures["Hugging Face's Trainer"] = trainer(step, arguments.repeat)
    if "step" in wanted:
        ratio, own, other = compare(step.ours, step.theirs, arguments.repeat)
        check("step", own, other)
        print(f"losses of a step: {own:.7f} and {other:.7f}")
        figures["authors' step"] = ratio
    if "vocabulary" in wanted:
        figures |= vocabulary(step, arguments.repeat)
    if "queue" in wanted:
        figures |= queue(step, arguments.repeat)
    if "trunk" in wanted:
        figures |= trunk(arguments.repeat)
    if "keys" in wanted:
        figures |= keys(arguments.repeat)
    if "dropout" in wanted:
        figures |= drop(arguments.repeat)
    if "padding" in wanted:
        figures |= padding(arguments.repeat)
    per_token = slots()
    for name, ratio in figures.items():
        print(f"{name:26} {ratio:8.1f} x   (at least {WANTED[name]:g})")
    print(f"{'slots per real token':26} {per_token:8.3f}     (at most 1.05)")
    if arguments.json:
        arguments.json.write_text(json.dumps({**figures, "slots per real token": per_token}))
    short = [name for name, ratio in figures.items() if ratio < WANTED[name]]
    if short or per_token > 1.05:
        sys.exit(f"falls short: {', '.join(short) or 'slots per real token'}")


if __name__ == "__main__":
    main()
