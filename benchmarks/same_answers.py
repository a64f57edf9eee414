"""Whether two checkouts give the same answers: texts equal, confidences to 1e-6.

    python benchmarks/same_answers.py OLD NEW OUT --data vqa-rad --data held_out.jsonl --image-root IMAGES

OLD and NEW are folders of two checkouts of this project. Each predicts with its own code, into OUT; what
stands there already is taken as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

TOLERANCE = 1e-6


def predict(checkout: Path, data: str, image_root: str | None, predictions: Path) -> None:
    """Answer a data set with the embedded model of a checkout."""
    if predictions.exists():
        return
    command = [sys.executable, "-m", "biod2c_cli", "evaluate", data, "--predictions", predictions]
    if image_root and Path(data).is_file():
        command += ["--image-root", image_root]
    command += ["--model", str(checkout / "biod2c_core" / "assets" / "biod2c-tiny")]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


def rows_of(predictions: Path) -> dict[str, tuple[str, float]]:
    """Answer and confidence by id."""
    rows = map(json.loads, predictions.read_text("utf-8").splitlines())
    return {row["id"]: (row["answer"], row["confidence"]) for row in rows}


def main() -> int:
    """Predict with both and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--image-root")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    same = True
    for data in options.data:
        files = {}
        for name in ("old", "new"):
            files[name] = options.out / f"{Path(data).stem}-{name}.jsonl"
            predict(
                getattr(options, name).resolve(), data, options.image_root, files[name].resolve()
            )
        old, new = rows_of(files["old"]), rows_of(files["new"])
        texts = sum(old[key][0] == new[key][0] for key in old.keys() & new.keys())
        largest = max(abs(old[key][1] - new[key][1]) for key in old.keys() & new.keys())
        print(
            f"{data}: {texts} of {len(old)} answers equal, confidences differ by {largest:.2g} at most"
        )
        same &= texts == len(old) == len(new) and largest <= TOLERANCE
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
