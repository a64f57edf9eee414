"""What VQA-RAD's official split leaks: the same test questions, trained with and without their images.

    recipes/tiny/ablation.sh runs/tiny 0 full disjoint && python recipes/tiny/ablation.py runs/tiny
    python benchmarks/vqa_rad_leak.py runs/tiny

Scores what the short form of the recipe has predicted, beside baselines that see no image and learn from
the training questions of the same variant. The difference is that between own and shuffled images,
question by question, its interval a bootstrap over images. Prints markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from biod2c_core.errors import InputError
from biod2c_core.evaluation.evaluate import evaluate
from biod2c_core.evaluation.report.published import TABLE_1_METRICS
from biod2c_core.evaluation.request import Request
from biod2c_core.evaluation.score.profiles import get_profile
from biod2c_core.evaluation.statistics.analysis import Analysis
from biod2c_core.evaluation.statistics.intervals import Estimate, compare

VARIANTS = {"official": "full-0", "disjoint": "disjoint-0"}  # trained in ablation.sh, seed 0
METRICS = [m for m in get_profile("multimedeval").metrics if m.key in TABLE_1_METRICS.values()]


def analysed(run: Path, variant: str, shuffled: bool) -> Analysis:
    """The stored predictions of a variant, scored beside its baselines.

    Raises:
        InputError: The recipe has not been run to its end.
    """
    name = "vqa_rad_test-shuffled" if shuffled else "vqa_rad_test"
    predictions = run / "ablation" / VARIANTS[variant] / "scores" / name / "predictions.jsonl"
    if not predictions.exists():
        raise InputError(f"no {predictions}", "Run recipes/tiny/ablation.sh and ablation.py first.")

    def refuse(*_: object) -> object:
        raise InputError(f"{predictions} is not complete", "Run recipes/tiny/ablation.py again.")

    request = Request(
        data=run / "data" / "vqa_rad_test.jsonl",
        predictions=predictions,
        training=run / "data" / f"{variant}_vqa_rad.jsonl",
    )
    return evaluate(request, refuse)


def row(title: str, estimates: Mapping[str, Estimate]) -> str:
    """Four columns with their intervals."""
    found = [estimates[metric.key] for metric in METRICS]
    cells = [f"{each.value:.3f} ({each.low:.3f}-{each.high:.3f})" for each in found]
    return f"| {title} | " + " | ".join(cells) + " |"


def print_variant(run: Path, variant: str) -> None:
    """The table of one variant."""
    own, shuffled = (analysed(run, variant, each) for each in (False, True))
    seen = own.contamination
    assert seen is not None
    print(f"\n{variant}: {seen.seen_images} of {seen.images} test images are in training\n")
    print(f"| {variant} | " + " | ".join(metric.label for metric in METRICS) + " |")
    print("|---|" + "---|" * len(METRICS))
    print(row("own images", own.estimates))
    print(row("images shuffled", shuffled.estimates))
    tests = compare(own.evaluation, shuffled.evaluation)
    differences = [tests[metric.key] for metric in METRICS]
    cells = [f"{t.difference:+.3f} ({t.low:+.3f} to {t.high:+.3f})" for t in differences]
    print("| difference | " + " | ".join(cells) + " |")
    for name, title in (("question_only", "question alone"), ("majority", "most frequent answer")):
        print(row(title, own.baselines[name]))


def main() -> int:
    """Command line."""
    if len(sys.argv) != 2:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    try:
        for variant in VARIANTS:
            print_variant(Path(sys.argv[1]), variant)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
