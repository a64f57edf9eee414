"""Make ``llava_med.json``: the numbers that LLaVA-Med's own ``run_eval.py`` gives.

Run with nltk installed, from the repository root, with a checkout of microsoft/LLaVA-Med at commit
``ad758b687d4e79628dbfdb149dc545641ed29014``::

    PYTHONPATH=LLaVA-Med/llava/eval python tests/core/evaluation/expected/make_llava_med.py VQA_RAD

``VQA_RAD`` is the folder of VQA-RAD's ``testset.json``. The script's table is taken before it is
rounded for printing. Its "open accuracy" needs a candidate list and is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from varied_predictions import PLAIN_GOLDS, vary  # noqa: E402


def original_scores(golds: Sequence[str], types: Sequence[str]) -> dict[str, float]:
    import run_eval

    truth = [
        {"conversations": [{}, {"value": gold}], "answer_type": kind}
        for gold, kind in zip(golds, types, strict=True)
    ]
    said = [{"question_id": i, "text": text} for i, text in enumerate(vary(golds))]
    rows = run_eval.evaluate(truth, said, {"0": ["yes", "no"]})
    return {name: value / 100 for name, value in rows if name != "open accuracy"}


def main() -> None:
    sys.modules.setdefault("pandas", SimpleNamespace())  # imported by the script, not used
    sys.modules["tabulate"] = SimpleNamespace(tabulate=lambda rows, headers: rows)
    questions = json.loads((Path(sys.argv[1]) / "testset.json").read_text("utf-8"))
    golds = [str(question["answer"]).strip() for question in questions]
    plain = PLAIN_GOLDS * 23
    result = {
        "vqa_rad": original_scores(golds, [row["answer_type"].strip() for row in questions]),
        "plain": original_scores(plain, [("CLOSED", "OPEN")[i % 2] for i in range(len(plain))]),
    }
    text = json.dumps(result, indent=2) + "\n"
    (HERE / "llava_med.json").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
