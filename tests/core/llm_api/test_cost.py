"""Prices, estimates and the budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from biod2c_core.errors import BudgetError, InputError
from biod2c_core.llm_api import Budget, Price, Usage, load_price
from biod2c_core.llm_api.cost import prompt_tokens, read_usage, text_tokens


def test_the_shipped_table_knows_the_paper_s_model_under_dated_names_too() -> None:
    price = load_price("gpt-4o")
    assert price is not None
    assert price.cost(Usage(1_000_000, 100_000)) == pytest.approx(3.5)
    assert price.cost(Usage(1_000_000, 0), batch=True) == pytest.approx(1.25)
    assert load_price("gpt-4o-2024-08-06") == price
    assert load_price("gpt-4o-2024-05-13") != price
    assert load_price("gpt-4o-audio-preview") is None


# OpenAI's own worked examples for images in full detail
@pytest.mark.parametrize(
    ("size", "tokens"), [((1024, 1024), 765), ((2048, 4096), 1105), ((512, 512), 255)]
)
def test_image_tokens_by_tiles(size: tuple[int, int], tokens: int) -> None:
    assert Price(0, 0).image_tokens(*size) == tokens


def test_image_tokens_by_patches_are_capped() -> None:
    price = Price(0, 0, image_patch=1.62)
    assert price.image_tokens(32, 64) == 4
    assert price.image_tokens(4096, 4096) == 2489


@pytest.mark.parametrize(
    "table",
    [
        "models: {m: {input: cheap, output: 1}}",
        "models: {m: {input: -1, output: 1}}",
        "models: {m: {inputs: 1, output: 1}}",
        "models: [1]",
        "[",
        "{}",
    ],
)
def test_a_malformed_table_is_one_error(tmp_path: Path, table: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(table)
    with pytest.raises(InputError, match=r"prices\.yaml is malformed"):
        load_price("m", path)


def test_estimates_count_text_and_images() -> None:
    assert text_tokens("a" * 36) == 10
    parts = [{"type": "text", "text": "a" * 36}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert prompt_tokens([{"role": "user", "content": parts}], 765) == 10 + 765 + 8


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "1"}, {"prompt_tokens": -1}])
def test_a_silent_endpoint_is_charged_the_estimate(usage: object) -> None:
    assert read_usage({"usage": usage}, Usage(7, 8)) == Usage(7, 8)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf")])
def test_a_budget_must_be_a_positive_amount(limit: float) -> None:
    with pytest.raises(InputError, match="budget"):
        Budget(limit)


def test_a_budget_is_never_overdrawn_and_waits_for_what_is_in_flight() -> None:
    budget = Budget(1.0, spent=0.2)
    log: list[str] = []

    async def call(name: str, actual: float) -> None:
        await budget.reserve(0.4)
        assert budget.spent + budget._reserved <= 1.0 + 1e-9
        log.append(name)
        await asyncio.sleep(0)
        await budget.settle(0.4, actual)

    async def run() -> None:
        # two fit; the third waits until they turn out cheap; the fourth cannot fit
        await asyncio.gather(call("a", 0.1), call("b", 0.1), call("c", 0.4))
        with pytest.raises(BudgetError, match="larger --budget"):
            await call("d", 0.4)

    asyncio.run(run())
    assert log == ["a", "b", "c"]
    assert budget.spent == pytest.approx(0.8)


def test_waiting_callers_learn_that_nothing_is_left() -> None:
    budget = Budget(1.0)

    async def call() -> None:
        await budget.reserve(0.9)
        await asyncio.sleep(0)
        await budget.settle(0.9, 0.9)

    async def run() -> list[object]:
        return await asyncio.gather(*(call() for _ in range(5)), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [type(None)] + [BudgetError] * 4
