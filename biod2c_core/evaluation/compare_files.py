"""Two predictions files for one split, tested against each other."""

from __future__ import annotations

from pathlib import Path

from biod2c_core.data.formats import read_records
from biod2c_core.evaluation.predict.predictions_file import read_predictions
from biod2c_core.evaluation.score.profiles import DEFAULT_PROFILE, get_profile
from biod2c_core.evaluation.score.score import score
from biod2c_core.evaluation.statistics.intervals import PairedTest, compare


def compare_files(
    data: Path, first: Path, second: Path, split: str | None, profile: str = DEFAULT_PROFILE
) -> dict[str, PairedTest]:
    """Test two prediction files against each other on one split.

    Args:
        data: A data set's folder or file.
        first: Predictions of system A.
        second: Predictions of system B.
        split: Which part; None for all.
        profile: Name of the scoring convention.

    Returns:
        Column to test.

    Raises:
        InputError: Data or predictions do not fit.
    """
    convention = get_profile(profile)
    records = read_records(data, split=split)
    a, b = (score(records, read_predictions(path), convention, path) for path in (first, second))
    return compare(a, b)
