"""transformers' Trainer, taught when to validate and by what, and which checkpoint is the best."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import distributed as dist
from torch import nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from biod2c_core.model.generation import Answerer
from biod2c_core.training.choosing.average import WeightAverage
from biod2c_core.training.choosing.criterion import Choice, chosen_checkpoint
from biod2c_core.training.logs.run_log import Reporter


class InTime(TrainerCallback):
    """Asks for a validation when it is due.

    It is part of the step, before the checkpoint of that step is saved: what a checkpoint knows does not
    depend on where a run was stopped.

    Args:
        every: Steps between validations; 0 validates at the end of each epoch.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._saved = -1

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for it; after the last step in any case."""
        ends_epoch = float(state.epoch or 0).is_integer()
        due = state.global_step % self._every == 0 if self._every else ends_epoch
        if due or state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Remember what is saved."""
        self._saved = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save no step twice."""
        if self._saved == state.global_step:
            control.should_save = False


class ChoosingTrainer(Trainer):
    """Trainer that scores generated answers, keeps the best checkpoint, and averages weights.

    Args:
        choice: How the model of the run is chosen.
        reporter: Told about progress.
        **kwargs: Of ``transformers.Trainer``.
    """

    def __init__(self, *, choice: Choice, reporter: Reporter, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._choice = choice
        self._reporter = reporter
        self._scores: dict[str, float] = {}
        self._average = WeightAverage(choice.decay) if choice.decay else None
        if self._average is not None:
            self.add_callback(self._average)
        if choice.image_root is not None:
            self.add_callback(InTime(choice.every))
        if choice.criterion is not None:
            self.args.metric_for_best_model = choice.criterion.column
            self.args.greater_is_better = choice.criterion.more_is_better

    def lost_patience(self, state: TrainerState) -> bool:
        """Whether so many validations have brought nothing better that the run is to end."""
        criterion, best = self._choice.criterion, state.best_global_step
        if criterion is None or best is None or not self._choice.patience:
            return False
        key = f"eval_{criterion.column}"
        since = [row for row in state.log_history if key in row and row["step"] > best]
        return len(since) >= self._choice.patience

    def begin_choice(self, last: Path | None) -> None:
        """Start with, or go on from, what is known of the best checkpoint and the average.

        Args:
            last: The checkpoint that the run goes on from, if any; its state is loaded.

        Raises:
            CheckpointError: The best checkpoint is damaged or gone.
        """
        if self._choice.criterion is not None and self.state.best_global_step is not None:
            chosen_checkpoint(self._checkpoints, self.state.best_global_step)
        if self._average is not None:
            model: Any = self.model
            self._average.begin(model, last)

    def take_chosen(self) -> int:
        """Put the weights that are to be exported into the model, in all processes.

        Returns:
            Of which step they are.

        Raises:
            CheckpointError: The best checkpoint is damaged or gone.
        """
        step = self.state.best_global_step if self._choice.criterion is not None else None
        if step is not None:
            best = chosen_checkpoint(self._checkpoints, step)
            if self.is_deepspeed_enabled and self.model_wrapped is not self.model:
                self.state.best_model_checkpoint = str(best)
                self._load_best_model()
            else:
                self._load_from_checkpoint(str(best))
            if self._average is not None:
                self._average.load(best)
        if self._average is not None:
            self._average.put_in_place()
        return self.state.global_step if step is None else step

    @property
    def _checkpoints(self) -> Path:
        return Path(str(self.args.output_dir))

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None
    ) -> Any:
        prepared = super()._prepare_for_training(
            max_steps, train_dataloader, resume_from_checkpoint
        )
        self.begin_choice(Path(resume_from_checkpoint) if resume_from_checkpoint else None)
        return prepared

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in transformers, by the average if there is one; and the scores of generated answers."""
        averaged: AbstractContextManager[None] = nullcontext()
        if self._average is not None:
            averaged = self._average.in_place()
        with averaged:
            self._scores = self._score_answers()
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        return {**metrics, **self._scores}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the scores beside the validation loss."""
        super().log({**logs, **(self._scores if "eval_loss" in logs else {})}, start_time)

    def _score_answers(self) -> dict[str, float]:
        """Have the validation questions answered by all processes, and scored by the first."""
        criterion, image_root = self._choice.criterion, self._choice.image_root
        if criterion is None or image_root is None or not criterion.needs_answers:
            return {}
        dataset: Any = self.eval_dataset
        step, count = self.state.global_step, self.args.world_size
        file = self._choice.answers / f"step-{step}.jsonl"
        model: Any = self.model
        model.eval()
        answerer = Answerer(model, self._choice.processor, f"step {step}", _identity(model))
        if self.is_world_process_zero():
            criterion.begin(answerer, file)
        self._wait_for_all()
        self._reporter.answering(len(dataset.records))
        with self.accelerator.autocast():
            criterion.answer(
                *(answerer, dataset.records, image_root, file),
                (self.args.process_index, count),
                lambda done: self._reporter.answered(done * count),
            )
        self._wait_for_all()
        found = [criterion.score(dataset.records, file) if self.is_world_process_zero() else {}]
        if count > 1:
            dist.broadcast_object_list(found, src=0, device=self.args.device)
        return {f"eval_{name}": value for name, value in found[0].items()}

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As in transformers; the best is saved, and the run ends when none comes any more."""
        criterion = self._choice.criterion
        if criterion is None:
            return False
        is_best: bool = super()._determine_best_metric(metrics, trial)
        state, value = self.state, metrics[f"eval_{criterion.column}"]
        rest = "the best so far"
        if not is_best:
            rest = f"the best is {state.best_metric:.4f} of step {state.best_global_step}"
        self._reporter.note(f"step {state.global_step}: {criterion.name} {value:.4f}, {rest}")
        over = self.lost_patience(state)
        if over:
            self._reporter.note(f"{self._choice.patience} validations brought nothing better")
            self.control.should_training_stop = True
        if is_best or over:
            self.control.should_save = True
        return is_best

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        folder = Path(self._get_output_dir(None)) / name
        if self.state.best_model_checkpoint is not None:  # a path that is not going to stay
            self.state.best_model_checkpoint = None
            if self.is_world_process_zero():
                self.state.save_to_json(str(folder / TRAINER_STATE_NAME))
        if self._average is not None and self.is_world_process_zero():
            self._average.save(folder)

    def _wait_for_all(self) -> None:
        if self.args.world_size > 1:
            dist.barrier()


def _identity(model: nn.Module) -> str:
    """Tells the trained weights of a model apart from all others."""
    digest = hashlib.sha256()
    for name, each in model.named_parameters():
        if each.requires_grad:
            digest.update(name.encode())
            digest.update(each.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
