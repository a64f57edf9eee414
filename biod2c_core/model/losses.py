"""The terms of Eq. (5), each a sum and a count, and the one place that averages and adds them.

A term is averaged over all that an optimizer update counts (answer tokens, rows with a queue), however the
update is cut into micro-batches and processes: whoever cuts it gives the counts of the whole.

Notation used for tensor shapes:

- B: batch, P: prompt and answer tokens, T: question tokens, k: queue texts, L: their tokens, n: answer tokens
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from biod2c_core.errors import ConfigError
from biod2c_core.model import equations

if TYPE_CHECKING:
    from biod2c_core.model.configuration import BioD2CConfig
    from biod2c_core.model.fusion import FeatureFusion, ImageEncoding, VisualTokens

Batch = Mapping[str, Tensor | None]


@dataclass(frozen=True)
class ForwardPass:
    """What a forward pass with labels has computed, for its losses to read.

    Attributes:
        config: The model's configuration.
        fusion: Its fusion module.
        embedding: The language model's token embedding.
        batch: Its inputs by name: ``labels`` (B, P), ``question_ids`` (B, T), ``question_mask``,
            ``queue_ids`` (B, k, L), ``queue_mask``, ``boxes`` (B, R, 4), ``image_rows`` (B,).
        image: The images before any question.
        visual: The visual tokens, with the attention where boxes are given.
        logits: At the positions in front of answer tokens, (n, vocabulary).
        targets: The answer tokens, (n,).
    """

    config: BioD2CConfig
    fusion: FeatureFusion
    embedding: nn.Embedding
    batch: Batch
    image: ImageEncoding
    visual: VisualTokens
    logits: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Loss:
    """A term of the loss.

    Attributes:
        name: In the log it is ``loss_NAME``.
        count: How many items of a batch it is averaged over, an int64 scalar tensor; known from the
            inputs alone, before any forward pass.
        total: Its sum over these items, a scalar, float32; None where the model does not have it.
        needs: Inputs without which it is left out.
        setting: The stage's setting that holds its weight; empty for a weight of 1.
        only_if_weighted: Leave it out where its weight is 0; otherwise it is measured all the same.
        stand_ins: Inputs without any item, for a process whose batch has none while another's has:
            engines that split the weights must run the same parts everywhere.
    """

    name: str
    count: Callable[[Batch], Tensor]
    total: Callable[[ForwardPass], Tensor | None]
    needs: tuple[str, ...] = ()
    setting: str = ""
    only_if_weighted: bool = False
    stand_ins: Callable[[Batch], dict[str, Tensor]] = field(default=lambda batch: {})

    def applies(self, batch: Batch, weights: Mapping[str, float]) -> bool:
        """Whether it can be computed of a batch, and is wanted."""
        wanted = not self.only_if_weighted or bool(weights.get(self.name))
        return wanted and all(batch.get(name) is not None for name in self.needs)


LOSSES: dict[str, Loss] = {}  # by name, in the order in which they are added


def register_loss(loss: Loss) -> Loss:
    """Make a term known to the model, the trainer, the log and the curves.

    Raises:
        ConfigError: The name is taken.
    """
    if loss.name in LOSSES:
        raise ConfigError(f"a loss is called {loss.name!r} already", "Choose another name.")
    LOSSES[loss.name] = loss
    return loss


def log_names() -> tuple[str, ...]:
    """What the terms are called in the log: ``loss_nll``, ``loss_sem`` ..."""
    return tuple(f"loss_{name}" for name in LOSSES)


def count_items(batch: Batch) -> dict[str, Tensor]:
    """How many items each term that a batch has inputs for is averaged over, by name."""
    return {
        name: loss.count(batch)
        for name, loss in LOSSES.items()
        if all(batch.get(need) is not None for need in loss.needs)
    }


def average(
    passed: ForwardPass, weights: Mapping[str, float], counts: Mapping[str, Tensor] | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. (5) of a forward pass, and its terms by name.

    Args:
        passed: The forward pass.
        weights: Of the terms, by name.
        counts: Over how many items each term is averaged; by default those of this batch. With the
            counts of a whole update, what its micro-batches and processes give adds up to its loss.

    Returns:
        The total and the terms, scalars.
    """
    losses: dict[str, Tensor] = {}
    for name, loss in LOSSES.items():
        if not loss.applies(passed.batch, weights):
            continue
        total = loss.total(passed)
        if total is not None:
            count = loss.count(passed.batch) if counts is None else counts[name]
            losses[name] = total / count.clamp(min=1)
    return equations.total_loss(losses, weights), losses


def answer_tokens(batch: Batch) -> Tensor:
    """How many answer tokens a batch has; the first token of a row follows nothing."""
    labels = batch["labels"]
    assert labels is not None
    return (labels[:, 1:] != -100).sum()


def _nll(passed: ForwardPass) -> Tensor:
    return equations.negative_log_likelihood(passed.logits, passed.targets).sum()


NLL = register_loss(Loss("nll", answer_tokens, _nll, needs=("labels",)))
