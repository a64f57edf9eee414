"""What happened, for people."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Harness

KINDS = ("finished", "stopped", "one line")


def tables(harness: Harness, commands: Sequence[str], disturbances: Sequence[str]) -> str:
    """Runs by command and disturbance, how disturbed processes ended, and what was violated."""
    ends = harness.ends
    by_command = [
        [name, *(f"{harness.counts[name, how]}" for how in disturbances)] for name in commands
    ]
    by_disturbance = [
        [how, *(str(sum(ends[name, how, kind] for name in commands)) for kind in KINDS)]
        for how in disturbances
    ]
    codes = [f"{how}: {code}: {n}" for (how, code), n in sorted(harness.codes.items())]
    runs = sum(harness.counts.values())
    return "\n\n".join(
        (
            _table(["command", *disturbances], by_command),
            _table(["disturbed process", *KINDS], by_disturbance),
            "\n".join(codes),
            f"{runs} runs, {len(harness.violations)} violations",
            "\n".join(f"VIOLATION {line}" for line in harness.violations),
        )
    ).rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])
