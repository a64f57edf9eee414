"""transformers' Trainer with this project's data order, losses in the log, and complete checkpoints."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from biod2c_core.data.read_ahead import Guarded, checked, loader_options, workers_may_die
from biod2c_core.errors import DivergenceError
from biod2c_core.model.modeling import BioD2CForConditionalGeneration
from biod2c_core.model.processing import IGNORED
from biod2c_core.training.checkpointing import (
    PARTIAL,
    StopOnRequest,
    Termination,
    is_storage_failure,
    outdated_checkpoints,
    publish,
    storage_error,
)
from biod2c_core.training.choosing.trainer import ChoosingTrainer
from biod2c_core.training.divergence import (
    LossWatch,
    largest_weight,
    note_weights,
    set_aside,
)
from biod2c_core.training.inputs.collate import GroupedSampler, VQADataset
from biod2c_core.training.logs.run_log import Rates, Reporter, RunLog
from biod2c_core.training.loss_meter import LossMeter, loss_of_batch, stand_in
from biod2c_core.training.stages import same_groups, set_rates


class BioD2CTrainer(ChoosingTrainer):
    """Trainer that shuffles reproducibly and keeps the parts of the loss apart.

    Each loss is averaged over the whole update, as a single batch would give it, however the update is cut
    into micro-batches and processes: not over the means of these.

    Args:
        seed: Of the data order.
        questions_per_image: Most questions about one image that stay together in a batch.
        keep: Checkpoints to keep; 0 keeps all.
        max_loss: A larger loss ends the run; 0 for no limit.
        workers: Processes that make batches ahead; batches do not depend on their number.
        reporter: Told about progress.
        log_file: Gets a line of JSON every ``logging_steps``.
        termination: Asks for a checkpoint and an end.
        groups: Gives the optimizer's groups of parameters of a model, with their rates and decay.
        scalars: Parameters that were made vectors for the engine; they become scalars again.
        **kwargs: Of :class:`~.choosing.trainer.ChoosingTrainer`.
    """

    loss_is_scaled_for_ga = True  # by the counts of the whole update

    def __init__(
        self,
        *,
        seed: int,
        questions_per_image: int,
        keep: int,
        max_loss: float,
        workers: int,
        reporter: Reporter,
        log_file: Path,
        termination: Termination,
        groups: Callable[[BioD2CForConditionalGeneration], list[dict[str, Any]]],
        scalars: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(reporter=reporter, **kwargs)
        self._order_seed = seed
        self._epochs_done = 0
        self._questions_per_image = questions_per_image
        self._keep = keep
        self._watch = LossWatch(max_loss)
        self._workers = workers
        self._left = 0  # micro-batches of the update
        self._wanted: set[str] = set()  # losses of which it has an item, in any process
        self._scalars = scalars
        self._groups = groups
        self._meter = LossMeter(self.args.device, self.args.world_size)
        self._weights_at_start = self._largest_weight()
        self._last_row = -1  # of the validation set, that this process has met
        self._rates = Rates()
        self._termination = termination
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(RunLog(reporter, log_file))
        self.add_callback(StopOnRequest(termination, self.args.device))

    def fit(self, last: Path | None) -> float:
        """Train to the end, or until SIGTERM asks for one.

        Args:
            last: The checkpoint to go on from, if any.

        Returns:
            Mean loss of the steps done now; 0 if none was left.

        Raises:
            InputError: A process that reads the data died.
        """
        if last is not None:
            state = TrainerState.load_from_json(str(last / "trainer_state.json"))
            done = 0 < self.args.max_steps <= state.global_step
            if done or self.lost_patience(state):
                self._load_from_checkpoint(str(last))  # train() would do one step more
                self.state = state
                self.begin_choice(last)
                return 0.0
            self._epochs_done = int((state.epoch or 0) + 1e-6)
        self._termination.training = True
        with workers_may_die():
            result = self.train(resume_from_checkpoint=str(last) if last else None)
        self._termination.training = False
        return float(result.training_loss)

    def create_accelerator_and_postprocess(self) -> None:
        """As in transformers; and FSDP on CPU processes too, which accelerate would leave out."""
        super().create_accelerator_and_postprocess()
        if not self.args.fsdp or self.is_fsdp_enabled:
            return
        plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
        state = self.accelerator.state
        if self.args.bf16:
            plugin.set_mixed_precision("bf16")
        state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
        self.is_fsdp_enabled = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = train_dataset or self.train_dataset
        assert isinstance(dataset, VQADataset)
        processes = self.args.world_size
        at_once = self.args.train_batch_size * processes
        sampler = GroupedSampler(
            dataset.lengths,
            dataset.image_numbers,
            at_once * self.args.gradient_accumulation_steps,
            self._order_seed,
            self._questions_per_image,
            # else accelerate repeats the first samples, and they count twice
            multiple=at_once if processes > 1 else 1,
        )
        # several processes: of an epoch that is resumed midway, the sampler is not told the number
        sampler.set_epoch(self._epochs_done)
        return sampler

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Any = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader[Any]:
        """A loader of this project's workers, which live as long as the training."""
        loader = DataLoader(
            dataset,
            batch_size,
            sampler=sampler_fn(dataset),
            collate_fn=Guarded(self.data_collator),
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=is_training and self._workers > 0,
            # its own: what torch draws to seed workers would depend on whether there are any
            generator=torch.Generator(),
            **loader_options(self._workers),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def _prepare_inputs(self, inputs: Any) -> Any:
        """As in transformers, unless a worker failed: then its error is raised."""
        return super()._prepare_inputs(checked(inputs))

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Any]:
        """The micro-batches of an update, and over how many items of it each loss is averaged."""
        batches = [checked(batch) for batch in itertools.islice(epoch_iterator, num_batches)]
        self._left = len(batches)
        counts = self._meter.begin_update(batches)
        if self.args.world_size > 1:
            numbers = torch.stack([*counts.values()]).tolist()
            self._wanted = {name for name, n in zip(counts, numbers, strict=True) if n}
        return batches, counts

    def _get_num_items_in_batch(self, batch_samples: Any, device: torch.device) -> None:
        """Nothing: the losses of a validation batch are averaged over it."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Run the model, remember its losses for the log, refuse one that has exploded.

        In training they are read once an update, with its last micro-batch.

        In training the result is what this micro-batch and process adds to the loss of the whole update,
        times the number of processes, over which an engine averages gradients.
        """
        rows = inputs.pop("record_rows", None)
        if not model.training:
            output = self._validate(model, inputs, rows)
            return (output.loss, output) if return_outputs else output.loss
        counts = num_items_in_batch
        if self.args.world_size > 1:
            stand_in(inputs, self._wanted)
        output = model(**inputs, loss_counts=counts)
        weights = unwrap(self.model).loss_weights
        self._watch.add(loss_of_batch(inputs, output.losses, counts, weights), rows)
        self._left -= 1
        if not self._left:  # before the engine's step, which is part of the last backward pass
            self._check()
        visual = unwrap(model).config.num_visual_tokens * len(inputs["input_ids"])
        self._rates.count(inputs["attention_mask"].sum() + visual)
        self._meter.add_share(output.losses)
        loss = output.loss * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _validate(self, model: Any, inputs: dict[str, Tensor], rows: Tensor | None) -> Any:
        """Run the model on a batch of the validation set, and add up its losses.

        Several processes meet records again to fill up their last batches: these do not count.
        """
        if rows is not None:
            again = self._met_before(rows)
            self._last_row = max(self._last_row, int(rows.max()))
            inputs["labels"][again] = IGNORED
            for name in ("queue_mask", "boxes"):
                if name in inputs:
                    inputs[name][again] = 0
        output = model(**inputs)
        self._watch.add(output.loss, rows)
        self._check()
        self._meter.add_validation(inputs, output.losses)
        return output

    def _met_before(self, rows: Tensor) -> Tensor:
        """Which records of a validation batch do not count here, (B,), bool.

        Filled up are the last batches with the first records, also those of other processes.
        """
        seen = torch.cat([rows.new_tensor([self._last_row]), rows[:-1]]).cummax(0).values
        owner = rows // self.args.per_device_eval_batch_size % self.args.world_size
        return (rows <= seen) | (owner != self.args.process_index)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in transformers; the losses are means over the whole validation set.

        Random numbers of training are left as they are, however often it validates.
        """
        self._meter.start_validation()
        self._last_row = -1
        with torch.random.fork_rng(devices=()):
            return super().evaluate(*args, **kwargs)

    def _check(self) -> None:
        """Read the losses that have been computed since the last call; the one wait of an update."""
        dataset: Any = self.train_dataset if unwrap(self.model).training else self.eval_dataset
        self._watch.check(dataset.records, Path(str(self.args.output_dir)), self.state.global_step)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the loss, the gate, the rate and the memory to what is logged."""
        if "eval_loss" in logs:  # in place: the caller returns the same numbers
            logs.update(self._meter.take_validation(unwrap(self.model).loss_weights))
        gate = getattr(unwrap(self.model).fusion, "beta", None)
        gates = {} if gate is None else {"beta": float(_whole(gate))}
        terms = {**self._meter.take_training(), **gates, **self._rates.take()}
        super().log({**logs, **terms}, start_time)

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(Path(str(self.args.output_dir)) / PARTIAL)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        checkpoints = Path(str(self.args.output_dir))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        partial = checkpoints / PARTIAL
        largest = self._largest_weight()
        if not math.isfinite(largest):
            raise DivergenceError(
                f"weights are not finite after step {self.state.global_step}"
                + set_aside(checkpoints, -1),
                "Lower the learning rate.",
            )
        with self._named_if_disk_is_full(name, checkpoints):
            if self.is_world_process_zero():
                shutil.rmtree(partial, ignore_errors=True)
            self._wait()
            super()._save_checkpoint(*args, **kwargs)
            self._wait()
            if self.is_world_process_zero():
                note_weights(partial / name, largest, self._weights_at_start)
                publish(partial / name, checkpoints / name)
                partial.rmdir()
            self._wait()
        if self._keep and self.is_world_process_zero():
            # only now: until here the older ones are what a resumed run starts from
            for path in outdated_checkpoints(checkpoints, self._keep):
                shutil.rmtree(path)

    def create_optimizer(self, model: Any = None) -> Any:
        """As in transformers, with this project's groups of parameters."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(self._groups(unwrap(model or self.model)), **options)
        return self.optimizer

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As in transformers; and the learning rates and weight decay of now, not of the checkpoint."""
        with same_groups(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and not self.is_deepspeed_enabled:
            scheduler: Any = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)
            set_rates(self.optimizer, scheduler, self._groups(unwrap(self.model)))

    def _largest_weight(self) -> float:
        return largest_weight(unwrap(self.model).parameters(), self.args.device)

    def _wait(self) -> None:
        if self.args.world_size > 1:
            dist.barrier()

    def whole_weights(self) -> dict[str, Tensor] | None:
        """All weights by name, in the first process, where an engine has spread them; else None.

        All processes must call it.
        """
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            return None
        if self.is_fsdp_enabled:
            weights = self._gather_weights()
        elif self.model_wrapped is self.model:  # nothing was left to train: they were loaded whole
            weights = self.model.state_dict()
        else:
            weights = self.accelerator.get_state_dict(self.model_wrapped)
        if weights is None:
            return None  # ZeRO-3 and FSDP gather in the first process only
        for name in self._scalars:
            weights[name] = weights[name].reshape(())
        return weights

    def _gather_weights(self) -> dict[str, Tensor] | None:
        """All weights that FSDP has spread, gathered one by one; kept by the first process, on the CPU."""
        state = unwrap(self.model).state_dict(keep_vars=True)
        gathered: dict[
            int, Tensor
        ] = {}  # what goes by two names stays one tensor, and is saved once
        for each in {id(each): each for each in state.values()}.values():
            whole = each.full_tensor() if hasattr(each, "full_tensor") else each
            if self.is_world_process_zero():
                gathered[id(each)] = whole.detach().cpu()
        return {name: gathered[id(each)] for name, each in state.items()} if gathered else None

    @contextmanager
    def _named_if_disk_is_full(self, name: str, checkpoints: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_storage_failure(error):
                raise
            shutil.rmtree(checkpoints / PARTIAL, ignore_errors=True)
            raise storage_error(name, checkpoints, error) from error


def unwrap(model: Any) -> BioD2CForConditionalGeneration:
    """The model inside what an engine wrapped around it."""
    while hasattr(model, "module"):
        model = model.module
    return model


def _whole(parameter: Tensor) -> Tensor:
    """A scalar parameter that an engine may have spread over the processes."""
    if hasattr(parameter, "full_tensor"):
        return parameter.full_tensor().detach()
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter.detach()
