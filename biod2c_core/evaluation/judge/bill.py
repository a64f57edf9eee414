"""What a judge costs, said before, during and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biod2c_core.llm_api import Client, Usage
from biod2c_core.llm_api.cost import prompt_tokens

Messages = list[dict[str, Any]]
_STEPS = 10  # how often it is said during a run


class Bill:
    """Tells the person what is about to be spent and what was.

    Args:
        tell: Given one line.
        client: Talks to the judge, with a journal.
        likely: Tokens of a usual reply.
        asks: Requests for one answer at most.
    """

    def __init__(self, tell: Callable[[str], None], client: Client, likely: int, asks: int) -> None:
        self._tell, self._client = tell, client
        self._likely, self._asks = likely, asks
        self._total = self._done = 0

    def before(self, requests: Mapping[str, Messages]) -> None:
        """Say what is to come.

        Args:
            requests: Name in the journal to messages, the first request for each answer; those that the
                journal has cost nothing.
        """
        journal = self._client.journal
        new = [m for key, m in requests.items() if journal is None or journal.get(key) is None]
        self._total = len(new)
        if not new:
            return
        tokens = sum(prompt_tokens(messages) for messages in new)
        likely = Usage(tokens, self._likely * len(new))
        most = Usage(self._asks * tokens, self._asks * self._client.max_tokens * len(new))
        self._tell(
            f"judge {self._client.model}: {len(new):,} requests to send, about "
            f"{self._amount(likely)}, at most {self._amount(most)}"
        )

    def one_more(self) -> None:
        """An answer is judged; a tenth of them is worth a line."""
        self._done += 1
        every = max(1, self._total // _STEPS)
        if self._total and self._done % every == 0 and self._done < self._total:
            self._tell(f"judge: {self._done:,} of {self._total:,} answers, {self._spent()}")

    def after(self) -> None:
        """Say what the journal has cost in all."""
        if self._total:
            self._tell(f"judge {self._client.model}: {self._spent()}")

    def _amount(self, usage: Usage) -> str:
        price = self._client.price
        return f"{usage.total:,} tokens" if price is None else f"{price.cost(usage):.4f} USD"

    def _spent(self) -> str:
        if self._client.price is None:
            return f"no price for {self._client.model} (give one with --prices FILE)"
        return f"{self._client.budget.spent:.4f} USD spent"
