"""Talking to language models over OpenAI-compatible endpoints: shared by ``gen-qa`` and the judge.

``Client.complete`` gets one answer, within limits, journal and budget; ``run_all`` does that for many
items.
"""

from biod2c_core.llm_api.answers import Completion
from biod2c_core.llm_api.client import Client
from biod2c_core.llm_api.cost import Budget, Price, Usage, load_price
from biod2c_core.llm_api.credentials import read_api_key, read_base_url, redact
from biod2c_core.llm_api.failures import CallFailed
from biod2c_core.llm_api.journal import Journal, request_key
from biod2c_core.llm_api.limiter import Limiter
from biod2c_core.llm_api.pool import run_all

__all__ = [
    "Budget",
    "CallFailed",
    "Client",
    "Completion",
    "Journal",
    "Limiter",
    "Price",
    "Usage",
    "load_price",
    "read_api_key",
    "read_base_url",
    "redact",
    "request_key",
    "run_all",
]
