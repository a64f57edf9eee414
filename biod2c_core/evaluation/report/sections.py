"""All tables of a result, in order."""

from __future__ import annotations

from typing import Any

from biod2c_core.evaluation.report.confidence import confidence_table
from biod2c_core.evaluation.report.positions import positions_table
from biod2c_core.evaluation.report.probes import (
    consistency_tables,
    controls_tables,
    repeats_table,
)
from biod2c_core.evaluation.report.tables import Table, labels_of, score_table


def result_tables(result: dict[str, Any]) -> list[Table]:
    """Scores first, then whatever else a run asked for.

    Args:
        result: ``result.json``.
    """
    tables = [score_table(result), *probe_tables(result), *_confidence(result)]
    bias = result["position_bias"]
    return [*tables, positions_table(bias)] if bias else tables


def probe_tables(result: dict[str, Any]) -> list[Table]:
    """What the model said when it was asked again."""
    controls, consistency = result["controls"], result["consistency"]
    tables = controls_tables(controls) if controls else []
    tables += consistency_tables(consistency) if consistency else []
    repeats = result["repeats"]
    return tables + ([repeats_table(repeats, labels_of(result))] if repeats else [])


def _confidence(result: dict[str, Any]) -> list[Table]:
    return [confidence_table(result["confidence"])] if result["confidence"] else []
