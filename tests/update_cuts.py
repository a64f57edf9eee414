"""One update of uneven records, cut at random into micro-batches and processes, and what it should give.

As a program it is one of the processes: it runs the cuts of a file through the trainer with an engine.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import tiny_models
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from biod2c_core.data.records import Record, write_records
from biod2c_core.training.checkpointing import Termination
from biod2c_core.training.choosing.criterion import Choice
from biod2c_core.training.hardware.engines import Engine, engine_arguments, fit_to_engine
from biod2c_core.training.stages import parameter_groups, prepare_stage
from biod2c_core.training.trainer import BioD2CTrainer, unwrap

ANSWERS = (
    "yes",
    "a lesion in the left lung with an effusion and a fracture of the right side, size normal",
    "no",
    "CT",
    "the heart is normal in size and there is no effusion, no fracture and no lesion in the lung",
    "MRI brain",
    "left",
    "right lung",
)
QUEUES = (("lesion in the lung", "no fracture"), (), (), ("an x-ray of the chest",), (), (), (), ())
BOXES = ((), (), ((0.1, 0.2, 0.6, 0.5),), (), (), ((0.0, 0.0, 0.3, 1.0),), (), ())
LARGE = 1e4  # steps of plain descent: what they move is the gradient, whatever the weight was


def records() -> list[Record]:
    """Eight records of very different length; few have a queue, few have a box."""
    return [
        Record(
            f"r{i}",
            f"{i % 5}.png",
            tiny_models.QUESTIONS[i % 4],
            ANSWERS[i],
            queue=QUEUES[i],
            boxes=BOXES[i],
        )
        for i in range(8)
    ]


def write(folder: Path) -> Path:
    """The folder of the records and their pictures."""
    tiny_models.write_data(folder)
    write_records(folder / "records.jsonl", records())
    return folder


class Cut(NamedTuple):
    """An update: for each micro-batch and process its records, and whether they are packed."""

    pieces: list[list[list[int]]]
    packed: bool

    @property
    def chosen(self) -> list[int]:
        """All records of the update."""
        return [i for batch in self.pieces for piece in batch for i in piece if i >= 0]


def draw(random: Random, processes: int = 1) -> Cut:
    """Some of the records in any order, in pieces of any size; what has none has a stand-in."""
    chosen = random.sample(range(8), random.randint(1, 8))
    batches = random.randint(1, 8 if processes > 1 else len(chosen))
    cells = batches * processes
    if processes == 1:  # each has a record
        inner = sorted(random.sample(range(1, len(chosen)), cells - 1))
    else:
        inner = sorted(random.randint(0, len(chosen)) for _ in range(cells - 1))
    flat = [chosen[a:b] or [~chosen[-1]] for a, b in pairwise([0, *inner, len(chosen)])]
    pieces = [flat[i : i + processes] for i in range(0, cells, processes)]
    return Cut(pieces, random.random() < 0.5)


class Update:
    """The model of an update: as stage 2 trains it, adapters that say something, and what they adapt too.

    Args:
        llama: Folder of the language model.
        data: From :func:`write`.
    """

    def __init__(self, llama: Path, data: Path) -> None:
        self.make = partial(tiny_models.build, llama, fusion_dropout=0.0)
        config = tiny_models.training_config(
            llama, semantic_weight=0.7, attention_weight=0.5, answer_weight=0.25
        )
        self.settings, self.lora = config.stage2, replace(config.model.lora, dropout=0.0)
        self.model, self.processor = self.fresh()
        self.dataset = tiny_models.VQADataset(records(), [data] * 8, self.processor, 4, True)
        self.collate = tiny_models.Collator(self.processor)

    def fresh(self) -> tuple[Any, Any]:
        """The model before the update, and its processor."""
        model, processor = self.make()
        prepare_stage(model, 2, self.settings, self.lora)
        model.language_model.requires_grad_(True)
        generator = torch.Generator().manual_seed(3)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=generator)
        return model.train(), processor

    def batch(self, piece: list[int]) -> dict[str, Tensor]:
        """A micro-batch."""
        return self.collate([self.dataset[i] for i in piece])

    def whole(self, chosen: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and gradients of one batch, padded: means over it, without any trainer."""
        self.model.packing = False
        loss = self.model(**self.batch(chosen)).loss
        loss.backward()
        return loss.detach(), self.take_gradients()

    def take_gradients(self) -> dict[str, Tensor]:
        """Of the trained weights by name; none is left."""
        trained = [(n, each) for n, each in self.model.named_parameters() if each.requires_grad]
        found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained}
        self.model.zero_grad(set_to_none=True)
        return found


def assert_same(
    loss: float, gradients: dict[str, Tensor], wanted: tuple[Tensor, dict[str, Tensor]]
) -> None:
    """To 1e-5, each weight by itself; of those that matter next to nothing, to 1e-6 of all."""
    assert loss == pytest.approx(float(wanted[0]), rel=1e-5)
    assert gradients.keys() == wanted[1].keys()
    everything = float(torch.cat([each.flatten() for each in wanted[1].values()]).norm())
    for name, gradient in wanted[1].items():
        error = float((gradients[name] - gradient).norm())
        assert error <= max(1e-5 * float(gradient.norm()), 1e-6 * everything), name


class CutTrainer(BioD2CTrainer):
    """The trainer with micro-batches of the caller's."""

    def __init__(self, batches: list[dict[str, Tensor]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._batches: Any = batches

    def get_train_dataloader(self) -> Any:
        """One update."""
        return DataLoader(self._batches, batch_size=None)


def run(update: Update, cut: Cut, engine: str, folder: Path) -> tuple[float, dict[str, Tensor]]:
    """Loss of a cut, and in the first process its gradients, summed by the engine over all of them."""
    rank = int(os.environ["RANK"])
    model, _ = update.fresh()
    model.packing = cut.packed
    descent = replace(update.settings, learning_rate=LARGE, weight_decay=0.0)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    arguments = TrainingArguments(
        **engine_arguments(Engine(engine), True, False, model.language_model),  # type: ignore[arg-type]
        output_dir=str(folder / "checkpoints"),
        max_steps=1,
        gradient_accumulation_steps=len(cut.pieces),
        optim="sgd",
        learning_rate=LARGE,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = CutTrainer(
        [update.batch(batch[rank]) for batch in cut.pieces],
        model=model,
        args=arguments,
        train_dataset=update.dataset,
        data_collator=update.collate,
        seed=0,
        questions_per_image=1,
        keep=0,
        max_loss=0.0,
        workers=0,
        reporter=tiny_models.Silent(),
        log_file=folder / "log.jsonl",
        termination=Termination(),
        choice=Choice(update.processor, None, 0, 0, 0.0, None, folder / "validation"),
        groups=partial(parameter_groups, settings=descent),
        scalars=fit_to_engine(model, Engine(engine)),  # type: ignore[arg-type]
    )
    (folder / "run.json").write_text("{}")  # by which a run knows that its folder is still there
    trainer.fit(None)
    gathered = trainer.whole_weights()
    loss = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    if rank:  # FSDP gathers in the first process
        return loss, {}
    after = gathered or unwrap(trainer.model).state_dict()
    return loss, {name: (before[name] - after[name].float()) / LARGE for name in before}


def main() -> None:
    """One of the processes: engine, and a folder with the cuts, for what each of them gives."""
    engine, llama, data, place = sys.argv[1:]
    folder, update = Path(place), Update(Path(llama), Path(data))
    losses = []
    for number, values in enumerate(json.loads((folder / "cuts.json").read_text())):
        loss, gradients = run(update, Cut(*values), engine, folder)
        losses.append(loss)
        if os.environ["RANK"] == "0":
            save_file(gradients, folder / f"{number}.safetensors")
    if os.environ["RANK"] == "0":
        (folder / "losses.json").write_text(json.dumps(losses))
