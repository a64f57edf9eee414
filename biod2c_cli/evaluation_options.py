"""The options of ``biod2c evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biod2c_cli import completion

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Record file, data set folder, or name: vqa-rad ...",
        autocompletion=completion.data_sets,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Checkpoint folder or hub name; hf:NAME_OR_FOLDER, any image-text-to-text model of "
        "transformers; openai:NAME, behind an endpoint; without it the embedded biod2c-tiny.",
        autocompletion=completion.models,
    ),
]
Split = Annotated[
    str,
    typer.Option(help="train, validation, test, or all.", autocompletion=completion.splits),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        help="JSONL, JSON array or CSV with id and answer. Without --model it must be there and is "
        "only scored, whoever made it; otherwise the answers go there, and a second run resumes."
    ),
]
ProfileName = Annotated[
    str,
    typer.Option(
        help="How to count: multimedeval (the paper's table), medevalkit, llava-med ...; all puts "
        "every convention side by side. See docs/metrics.md.",
        autocompletion=completion.profiles,
    ),
]
ShuffleSeed = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="Control: ask each question about another question's image. What stays correct was "
        "not seen.",
    ),
]
MaskText = Annotated[
    bool,
    typer.Option(
        "--mask-text",
        help="Control: ask the questions about images with text again, text blacked out, and report "
        "the difference. Extra 'text'.",
    ),
]
Controls = Annotated[
    bool,
    typer.Option(
        "--controls",
        help="Does it look? Ask also about another question's image, a blank one, noise and none.",
    ),
]
Consistency = Annotated[
    bool,
    typer.Option(
        "--consistency",
        help="Ask also in other words, negated, and for true and false attributes of the images.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="A quick look: only the first N questions."),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="PROFILE",
        help="Word the questions as this convention's tool does: medevalkit, lmms-slake ...",
    ),
]
Temperature = Annotated[
    float,
    typer.Option(metavar="T", help="Draw answers; 0 takes the likeliest."),
]
Repeat = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=100, help="Ask everything N times, and report the spread."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="RUN", help="Folder for the results.")
]
Training = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What the model was trained on, for the baselines and the contamination check; by "
        "default the train split of DATA.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Have a language model rate each answer from 0 to 10; needs -o, and OPENAI_API_KEY.",
    ),
]
JudgePasses = Annotated[
    int, typer.Option(min=1, help="Rate twice to see how far the judge agrees with itself.")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="Endpoint of judge and openai:NAME; default OPENAI_BASE_URL, OpenAI."),
]
Budget = Annotated[
    float | None,
    typer.Option(metavar="USD", help="Spend no more on the judge, nor on openai:NAME."),
]
Prices = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Price table for judge and openai:NAME, YAML or JSON."),
]
Gpus = Annotated[
    int, typer.Option(min=1, help="Predict with that many CUDA devices, a process each.")
]
