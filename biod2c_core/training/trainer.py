"""transformers' Trainer with this project's data order, losses in the log, and complete checkpoints."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from biod2c_core.atomic import atomic_open, write_json
from biod2c_core.data.collate import GroupedSampler, VQADataset
from biod2c_core.errors import DivergenceError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration

COMPLETE = "complete.json"  # written last: a checkpoint without it was cut off


class Reporter(Protocol):
    """Where progress goes; the command line gives one that draws a bar."""

    def encoding(self, total: int) -> None:
        """The trunk's features of so many images are about to be computed or found."""

    def encoded(self, count: int) -> None:
        """So many more images are done."""

    def start(self, total: int, done: int) -> None:
        """Training begins: optimiser steps in all, and those already done."""

    def step(self, done: int, metrics: dict[str, float]) -> None:
        """A step has been done; ``metrics`` holds the latest log line."""


class BioD2CTrainer(Trainer):
    """Trainer that shuffles reproducibly and keeps the parts of the loss apart.

    Args:
        seed: Of the data order.
        questions_per_image: Most questions about one image that stay together in a batch.
        keep: Checkpoints to keep; 0 keeps all.
        reporter: Told about progress.
        log_file: Gets a line of JSON every ``logging_steps``.
        **kwargs: Of ``transformers.Trainer``.
    """

    def __init__(
        self,
        *,
        seed: int,
        questions_per_image: int,
        keep: int,
        reporter: Reporter,
        log_file: Path,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._order_seed = seed
        self._questions_per_image = questions_per_image
        self._keep = keep
        self._parts: dict[str, list[float]] = {}
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(_Progress(self, reporter, log_file))

    def fit(self, last: Path | None) -> float:
        """Train to the end.

        Args:
            last: The checkpoint to go on from, if any.

        Returns:
            Mean loss of the steps done now; 0 if none was left.
        """
        if last is not None:
            state = TrainerState.load_from_json(str(last / "trainer_state.json"))
            if 0 < self.args.max_steps <= state.global_step:
                self._load_from_checkpoint(str(last))  # train() would do one step more
                self.state = state
                return 0.0
        result = self.train(resume_from_checkpoint=str(last) if last else None)
        return float(result.training_loss)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = train_dataset or self.train_dataset
        assert isinstance(dataset, VQADataset)
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedSampler(
            dataset.lengths, dataset.paths, batch, self._order_seed, self._questions_per_image
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Run the model, remember L_nll and L_sem for the log, refuse a loss that is not finite."""
        output = model(**inputs)
        if not math.isfinite(float(output.loss.detach())):
            raise DivergenceError(
                f"the loss is {float(output.loss.detach())} at step {self.state.global_step + 1}",
                "Lower the learning rate, or look at the last samples' records.",
            )
        if model.training:
            for name in ("loss_nll", "loss_sem"):
                value = getattr(output, name)
                if value is not None:
                    self._parts.setdefault(name, []).append(float(value.detach()))
        return (output.loss, output) if return_outputs else output.loss

    def take_parts(self) -> dict[str, float]:
        """Means of L_nll and L_sem since the last call, and the gate."""
        means = {name: sum(values) / len(values) for name, values in self._parts.items()}
        self._parts.clear()
        beta = getattr(_unwrap(self.model).fusion, "beta", None)
        return means if beta is None else {**means, "beta": float(beta.detach())}

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        checkpoints = Path(str(self.args.output_dir))
        folder = checkpoints / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        (folder / COMPLETE).unlink(missing_ok=True)  # of an earlier attempt
        super()._save_checkpoint(*args, **kwargs)
        sizes = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        write_json(folder / COMPLETE, sizes)
        if self._keep:  # only now: until here the older ones are what a resumed run starts from
            for _, path in _checkpoints(checkpoints)[: -self._keep]:
                shutil.rmtree(path)


class _Progress(TrainerCallback):
    """Writes the log file and tells the reporter."""

    def __init__(self, trainer: BioD2CTrainer, reporter: Reporter, log_file: Path) -> None:
        self.trainer = trainer
        self.reporter = reporter
        self.log_file = log_file
        self.latest: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.log_file.exists():
            _forget_after(self.log_file, state.global_step)
        self.reporter.start(state.max_steps, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.reporter.step(state.global_step, self.latest)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        row = {"step": state.global_step, **(logs or {}), **self.trainer.take_parts()}
        self.latest = {key: value for key, value in row.items() if isinstance(value, float)}
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _forget_after(log_file: Path, step: int) -> None:
    """Drop the lines of steps that will be done again, and what a kill left of a line."""
    kept = []
    for line in log_file.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line)
    with atomic_open(log_file) as file:
        file.writelines(f"{line}\n" for line in kept)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, in order."""
    numbered = (
        (path.name.rpartition("-")[2], path) for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    )
    return sorted((int(number), path) for number, path in numbered if number.isdigit())


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run that was written to its end."""
    complete = (path for _, path in reversed(_checkpoints(folder)) if _is_complete(path))
    return next(complete, None)


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / COMPLETE).read_text("utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _unwrap(model: Any) -> BioD2CForConditionalGeneration:
    while hasattr(model, "module"):
        model = model.module
    return model
