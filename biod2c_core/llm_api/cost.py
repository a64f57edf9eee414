"""What a call costs: tokens, a price table in a file, and a budget that is never overdrawn."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from biod2c_core.errors import BudgetError, InputError
from biod2c_core.foreign import read_yaml

DEFAULT_TABLE = Path(__file__).resolve().parents[1] / "assets" / "llm_prices.yaml"
MOST_TOKENS = 10_000_000  # that one request can have used
_MILLION = 1_000_000
_DEAREST = 1_000_000  # US dollars per million tokens
_MESSAGE_OVERHEAD = 8  # tokens around a message: role and separators
_DATE_SUFFIX = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the endpoint counted them (or as estimated where it is silent)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, and how the model counts an image.

    Attributes:
        input: Price of prompt tokens.
        output: Price of answer tokens.
        image_base: Tokens of any image.
        image_tile: Tokens more for each tile of 512 x 512, after scaling to a short side of 768.
        image_patch: Tokens for each patch of 32 x 32, at most 1,536 patches; 0 where tiles count.
        batch_factor: What the Batch API charges of the price.
    """

    input: float
    output: float
    image_base: float = 85
    image_tile: float = 170
    image_patch: float = 0.0
    batch_factor: float = 0.5

    def cost(self, usage: Usage, batch: bool = False) -> float:
        """US dollars for ``usage``."""
        dollars = usage.prompt_tokens * self.input + usage.completion_tokens * self.output
        return dollars / _MILLION * (self.batch_factor if batch else 1.0)

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens of one image of ``width`` x ``height`` pixels in full detail."""
        if self.image_patch:
            patches = math.ceil(width / 32) * math.ceil(height / 32)
            return math.ceil(min(patches, 1536) * self.image_patch)
        shrink = min(1.0, 2048 / max(width, height))
        shrink *= min(1.0, 768 / (min(width, height) * shrink))
        tiles = math.ceil(width * shrink / 512) * math.ceil(height * shrink / 512)
        return math.ceil(self.image_base + self.image_tile * tiles)


def load_price(model: str, table: str | Path | None = None) -> Price | None:
    """Look a model up in a price table.

    Args:
        model: Name as sent to the endpoint; a date at its end ("-2024-08-06") is ignored unless
            the table lists it.
        table: YAML or JSON file: ``models: {name: {input: ..., output: ...}}``; None for the one
            that is shipped.

    Returns:
        The price, or None where the table does not have it.

    Raises:
        InputError: The table cannot be read or an entry is malformed.
    """
    path = Path(table) if table is not None else DEFAULT_TABLE
    try:
        models = read_yaml(path)["models"]
        entry = models.get(model, models.get(_DATE_SUFFIX.sub("", model)))
        if entry is None:
            return None
        price = Price(**entry)
        numbers = list(vars(price).values())
        if not all(isinstance(n, int | float) and 0 <= n <= _DEAREST for n in numbers):
            raise ValueError(f"a price is not a number from 0 to {_DEAREST:,}")
    except OSError as error:
        raise InputError(f"cannot read the price table {path}: {error.strerror}") from error
    except (
        yaml.YAMLError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ) as e:
        reason = " ".join(str(e).split())
        raise InputError(
            f"the price table {path} is malformed ({reason})",
            "Expected: models: {NAME: {input: USD per million tokens, output: ...}}.",
        ) from e
    return price


def text_tokens(text: str) -> int:
    """A cautious estimate of the tokens in ``text``: English runs below it, by about a tenth."""
    ascii_characters = len(text.encode("ascii", "ignore"))
    return math.ceil(ascii_characters / 3.6 + (len(text) - ascii_characters) * 1.2)


def prompt_tokens(messages: list[dict[str, Any]], image_tokens: int = 765) -> int:
    """Estimate the tokens of chat messages.

    Args:
        messages: OpenAI chat messages; content is text or a list of parts.
        image_tokens: What one image counts for.
    """
    total = 0
    for message in messages:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            is_text = part.get("type") == "text"
            total += text_tokens(part.get("text", "")) if is_text else image_tokens
        total += _MESSAGE_OVERHEAD
    return total


def read_usage(body: Mapping[str, Any], fallback: Usage) -> Usage:
    """Read the ``usage`` of an answer; ``fallback`` where it is missing, or more than can be."""
    counted = body.get("usage")
    if not isinstance(counted, dict):
        return fallback
    values = [counted.get("prompt_tokens"), counted.get("completion_tokens")]
    if not all(isinstance(value, int) and 0 <= value <= MOST_TOKENS for value in values):
        return fallback
    return Usage(int(values[0] or 0), int(values[1] or 0))


class Budget:
    """Money that may be spent: each call reserves its worst case first, so it is never overdrawn.

    Args:
        limit: US dollars; None for no limit.
        spent: What earlier runs on the same journal spent.

    Raises:
        InputError: The limit is not positive.
    """

    def __init__(self, limit: float | None = None, spent: float = 0.0) -> None:
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            raise InputError(f"the budget is {limit} USD", "Give a positive amount.")
        self.limit = limit
        self.spent = spent
        self._reserved = 0.0
        self._settled = asyncio.Condition()

    async def reserve(self, amount: float) -> None:
        """Set ``amount`` aside; waits while calls in flight may yet turn out cheaper.

        Raises:
            BudgetError: It does not fit, whatever the calls in flight cost.
        """
        async with self._settled:
            while self.limit is not None and self.spent + self._reserved + amount > self.limit:
                if self._reserved <= 1e-12:
                    raise BudgetError(
                        f"the budget of {self.limit:g} USD does not cover one more request "
                        f"(spent {self.spent:.4f}, the next may cost {amount:.4f})",
                        "Run again with a larger --budget to go on; nothing is paid twice.",
                    )
                await self._settled.wait()
            self._reserved += amount

    async def settle(self, reserved: float, actual: float) -> None:
        """Replace a reservation by what the call cost."""
        async with self._settled:
            self._reserved = max(0.0, self._reserved - reserved)
            self.spent += actual
            self._settled.notify_all()
