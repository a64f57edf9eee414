"""From what the user calls a model to something that answers questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from biod2c_core.collector import imports_for_good
from biod2c_core.evaluation.predict.answers import AnswersQuestions
from biod2c_core.evaluation.predict.endpoint_model import EndpointModel
from biod2c_core.llm_api import Client, Journal, Price, load_price

ENDPOINT_PREFIX = "openai:"
TRANSFORMERS_PREFIX = "hf:"
LoadModel = Callable[[str | None, str], AnswersQuestions]


@dataclass(frozen=True)
class Endpoint:
    """How to reach an OpenAI-compatible endpoint.

    Attributes:
        base_url: None reads ``OPENAI_BASE_URL``, else OpenAI's own.
        budget: US dollars for one journal; None for no limit.
        in_flight: Requests at once.
        timeout: Seconds for one request.
        prices: Price table; None for the one that is shipped.
    """

    base_url: str | None = None
    budget: float | None = None
    in_flight: int = 16
    timeout: float = 60.0
    prices: Path | None = None

    def client(self, model: str, journal: Journal) -> Client:
        """A client that keeps every answer in ``journal``.

        Raises:
            InputError: There is no key, no URL, or a budget for a model of unknown price.
        """
        return Client(
            model,
            self.base_url,
            journal=journal,
            budget=self.budget,
            price=self.price(model),
            max_in_flight=self.in_flight,
            timeout=self.timeout,
        )

    def price(self, model: str) -> Price | None:
        """What a model costs; None where nobody knows.

        Raises:
            InputError: The price table cannot be read.
        """
        return load_price(model, self.prices)


def load_model(
    checkpoint: str | None,
    device: str,
    predictions: Path,
    endpoint: Endpoint,
    instruct: bool = True,
) -> AnswersQuestions:
    """Load a checkpoint or another model, or connect to an endpoint.

    Args:
        checkpoint: A folder or hub name, None for the embedded model; ``hf:NAME_OR_FOLDER`` for an
            image-text-to-text model of transformers; or ``openai:NAME`` for the model NAME behind an
            endpoint.
        device: Where a checkpoint runs.
        predictions: The predictions file; an endpoint's answers are journalled beside it.
        endpoint: How to reach it.
        instruct: Whether models of others are told to answer shortly; not where a prompt does.

    Raises:
        InputError: It cannot be loaded or reached.
    """
    if checkpoint is not None and checkpoint.startswith(ENDPOINT_PREFIX):
        journal = Journal(Path(f"{predictions}.journal.jsonl"))
        name = checkpoint.removeprefix(ENDPOINT_PREFIX)
        return EndpointModel(endpoint.client(name, journal), endpoint.in_flight, instruct)
    if checkpoint is not None and checkpoint.startswith(TRANSFORMERS_PREFIX):
        from biod2c_core.evaluation.predict.transformers_model import TransformersModel

        name = checkpoint.removeprefix(TRANSFORMERS_PREFIX)
        return TransformersModel.load(name, device, instruct)
    with imports_for_good():
        from biod2c_core.model.generation import Answerer  # heavy: torch and transformers

    return Answerer.load(checkpoint, device)


class ModelLoader:
    """Loads a model at its first question and keeps it for all passes of a run.

    Args:
        load_model: Called with checkpoint and device; several processes load by it themselves.
    """

    def __init__(self, load_model: LoadModel) -> None:
        self.load_model = load_model
        self._loaded: dict[tuple[str | None, str], AnswersQuestions] = {}

    def __enter__(self) -> ModelLoader:
        return self

    def __exit__(self, *_: object) -> None:
        for model in self._loaded.values():
            if isinstance(model, EndpointModel):
                model.close()
        self._loaded.clear()

    def __call__(self, checkpoint: str | None, device: str) -> AnswersQuestions:
        """The model, loaded now or before."""
        key = (checkpoint, device)
        if key not in self._loaded:
            self._loaded[key] = self.load_model(checkpoint, device)
        return self._loaded[key]
