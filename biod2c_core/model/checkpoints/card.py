"""The card of a checkpoint: what it is made of, trained on and good for, from the files beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from biod2c_core.errors import CheckpointError, InputError
from biod2c_core.foreign import read_json
from biod2c_core.model.checkpoints.limits import weight_files

_LIMITS = """- Research software, no medical device: do not use its answers for diagnosis or treatment.
- It answers every question, also one that the image cannot answer, and about images unlike its training data;
  such answers mean nothing.
- Its confidence says how sure it is of its words, not how likely they are true.
- It has whatever biases the data above have; nobody has tested it on patients."""
_USE = """Research on biomedical visual question answering: to reproduce, compare and extend. Not for
patients, not for decisions about anybody's health, not as a source of facts."""
COLUMNS = {  # and their names, as in every other output
    "closed_accuracy": "closed ACC",
    "open_accuracy": "open ACC",
    "open_recall": "open token recall",
    "bleu_1": "BLEU-1",
    "rouge_1": "ROUGE-1 (rouge-score)",
    "token_recall": "token recall",
    "exact_match": "EM",
}


@dataclass(frozen=True)
class CardFacts:
    """What a card says that no file of the checkpoint knows.

    Attributes:
        license: SPDX name of the licence of the weights, or empty.
        data_licenses: Data set to its licence.
        results: ``result.json`` files of ``biod2c evaluate``.
    """

    license: str = ""
    data_licenses: Mapping[str, str] | None = None
    results: Sequence[Path] = ()


def model_card(folder: Path, name: str, facts: CardFacts, trained_as: Path | None = None) -> str:
    """Write the card of a checkpoint folder as Markdown.

    Args:
        folder: A checkpoint.
        name: What to call it, for example ``owner/model``.
        facts: What else there is to say.
        trained_as: The checkpoint that it was made from, by default itself; where that is the
            ``model/`` of a run, the run tells about its data.

    Raises:
        InputError: A result file is not one.
    """
    results = [_read_result(path) for path in facts.results]
    origin = (trained_as or folder).absolute()
    run = _read_json(origin.parent / "run.json") if origin.name == "model" else {}
    sections = [
        _header(facts, results),
        f"# {name}\n\nA BioD2C model for biomedical visual question answering. **Research software, no "
        "medical device: do not use its answers for diagnosis.**",
        f"## Intended use\n\n{_USE}",
        f"## Parts\n\n{_parts(folder)}",
        f"## Data\n\n{_data(run, facts)}",
        f"## Metrics\n\n{_metrics(results)}",
        f"## Licences\n\n{_licences(facts)}",
        f"## Limits\n\n{_LIMITS}",
        f"## How to use it\n\n{_how(name)}",
    ]
    return "\n\n".join(sections) + "\n"


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def _read_result(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    try:
        for key in ("name", "version"):
            content["profile"][key]
        content["data"]["questions"]
        content["scores"].items()
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not the result of an evaluation",
            "Give the result.json that 'biod2c evaluate' writes into its --output folder.",
        ) from error
    return content


def _header(facts: CardFacts, results: Sequence[Mapping[str, Any]]) -> str:
    lines = ["---", f"license: {facts.license.lower() or 'unknown'}", "language: en"]
    lines += ["library_name: transformers", "pipeline_tag: image-text-to-text"]
    lines += ["tags:", "- biod2c", "- medical"]
    profiles = sorted({result["profile"]["name"] for result in results})
    if profiles:
        lines += ["metrics:", *(f"- {profile}" for profile in profiles)]
    return "\n".join([*lines, "---"])


def _parts(folder: Path) -> str:
    path = folder / "config.json"
    config = _read_json(path)
    vision, text, lora = (config.get(name) or {} for name in ("vision", "text_config", "lora"))
    if not all(isinstance(each, dict) for each in (vision, text, lora)):
        raise CheckpointError(f"{path} does not describe a BioD2C model", "Copy it again.")
    count, kinds = _count(folder)
    targets = lora.get("target_modules")
    targets = ", ".join(map(str, targets)) if isinstance(targets, list) else targets
    adapters = f", LoRA of rank {lora.get('r')} on {targets}" if lora else ""
    return "\n".join(
        [
            f"- Vision: {vision.get('library')} {vision.get('name')}, levels {vision.get('levels')}, "
            f"{vision.get('image_size')} pixels, frozen.",
            f"- Fusion: {config.get('fusion_layers')} decoder layers, "
            f"{config.get('num_visual_tokens')} visual tokens, scales {config.get('scales')}; "
            f"architecture `{config.get('architecture', 'paper')}`, fusion {config.get('fusion')}, "
            f"semantic loss `{config.get('semantic_loss')}`.",
            f"- Language model: {text.get('model_type')}, width {text.get('hidden_size')}, "
            f"{text.get('num_hidden_layers')} layers, vocabulary {text.get('vocab_size')}{adapters}.",
            f"- {count / 1e6:.1f} million parameters, {' and '.join(kinds)}.",
        ]
    )


def _count(folder: Path) -> tuple[int, list[str]]:
    """Parameters and their types, from the headers of the weight files."""
    total, kinds = 0, set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    view = file.get_slice(name)
                    total += math.prod(view.get_shape())
                    kinds.add(view.get_dtype())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({' '.join(str(error).split())[:200]})",
                "It is damaged; copy it again.",
            ) from error
    return total, sorted(kinds)


def _data(run: Mapping[str, Any], facts: CardFacts) -> str:
    lines = []
    if run:
        files = ", ".join(f"`{Path(path).name}`" for path in run.get("data", []))
        lines.append(
            f"- Stage {run.get('stage')} of the paper's training, on {files}: "
            f"{run.get('records')} questions about {run.get('images')} images."
        )
    for source, licence in (facts.data_licenses or {}).items():
        lines.append(f"- {source} ({licence})")
    return "\n".join(lines) or "Not stated by whoever made this checkpoint."


def _metrics(results: Sequence[Mapping[str, Any]]) -> str:
    if not results:
        return "Not stated by whoever made this checkpoint."
    shown = [name for name in COLUMNS if any(name in each["scores"] for each in results)]
    lines = [
        f"| data | split | questions | profile | {' | '.join(COLUMNS[name] for name in shown)} |",
        "|" + "---|" * (4 + len(shown)),
    ]
    for result in results:
        data, profile = result["data"], result["profile"]
        cells = [data.get("source") or "?", data.get("split") or "all", str(data["questions"])]
        cells.append(f"{profile['name']} {profile['version']}")
        cells += [_estimate(result["scores"].get(name)) for name in shown]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        "\nThe profile names the definitions that the numbers follow; in brackets, 95 % intervals."
    )
    return "\n".join(lines)


def _estimate(estimate: Mapping[str, Any] | None) -> str:
    if not estimate or estimate.get("value") is None:
        return "-"
    text = f"{estimate['value']:.3f}"
    if estimate.get("low") is not None and estimate.get("high") is not None:
        text += f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return text


def _licences(facts: CardFacts) -> str:
    own = facts.license or "not stated: ask whoever made this checkpoint before you use it"
    return (
        f"- The weights: {own}.\n"
        "- The language model and the vision tower inside keep the licences of their makers, and the data "
        "above theirs; what all of them forbid together is forbidden here."
    )


def _how(name: str) -> str:
    return f"""```bash
pip install biod2c
biod2c ask image.png "Is there a pleural effusion?" --model {name}
```

```python
import biod2c

model = biod2c.load("{name}")
print(model.ask("image.png", "Is there a pleural effusion?"))
```

In transformers:

```python
import biod2c  # the Auto classes know the model from here on
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

model = AutoModelForImageTextToText.from_pretrained("{name}")
processor = AutoProcessor.from_pretrained("{name}")
ask = pipeline("image-text-to-text", model=model, processor=processor)
print(ask(images="image.png", text="Is there a pleural effusion?", return_full_text=False))
```"""
