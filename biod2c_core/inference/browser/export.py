"""The folder that answers in a browser: parts, tokenizer, settings and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from biod2c_core.atomic import atomic_folder, write_json
from biod2c_core.errors import InputError
from biod2c_core.inference.browser.onnx_files import check_installed, write_part
from biod2c_core.inference.browser.parts import cut, question_limit
from biod2c_core.inference.vqa_model import VQAModel
from biod2c_core.model.generation import MAX_NEW_TOKENS
from biod2c_core.model.processing import CHAT, BioD2CProcessor

# What greedy decoding does not read, or reads as the page does.
_HARMLESS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config"),
    *("use_cache", "output_attentions", "output_hidden_states", "max_length", "max_new_tokens"),
    *("do_sample", "temperature", "top_p", "top_k", "return_dict_in_generate", "output_scores"),
}
# Texts that the page spells out before it answers, to see that its tokenizer is the model's.
_PROBES = (
    "Is there a pleural effusion?",
    "where  is the 12.5 mm lesion -- in the LEFT lung, or in the patient's right one ?",
    "Ist die Größe normal? naïve café, ﬁbrosis ½ µm",
    "什么是这个? 한국어",
    "",
)
Progress = Callable[[int], Any]


def export_onnx(checkpoint: str | None, output: Path, progress: Progress = lambda _: None) -> Path:
    """Write a folder that a browser answers from, on any static host.

    Args:
        checkpoint: A folder, a hub name, or None for the embedded biod2c-tiny.
        output: A new folder.
        progress: Called with 1 after each of the three parts.

    Returns:
        The folder.

    Raises:
        InputError: The output exists, or the model cannot be run by the page as ``ask`` runs it.
        CheckpointError: The checkpoint is missing or damaged.
        MissingDependencyError: The extra ``onnx`` is not installed.
    """
    check_installed()
    with atomic_folder(output) as partial:
        model = VQAModel.load(checkpoint, "cpu")
        ends = _check(model)
        model.answerer.model.merge_lora()
        differences = {}
        for part in cut(model.answerer, ends):
            differences[part.name] = write_part(part, partial / f"{part.name}.onnx")
            progress(1)
        write_json(partial / "settings.json", _settings(model, ends, differences))
        _write_tokenizer(model.answerer.processor, partial)
        for name, content in _page():
            (partial / name).write_bytes(content)
    return output


def _check(model: VQAModel) -> list[int]:
    """The tokens that end an answer.

    Raises:
        InputError: The model answers in a way that the page does not know.
    """
    answerer = model.answerer
    if answerer.processor.prompt == CHAT:
        raise InputError(
            f"the prompt of {answerer.name} is a chat template, which the page cannot fill in",
            "Use 'biod2c serve', or a checkpoint with a prompt of its own.",
        )
    generation = answerer.model.generation_config
    unknown = sorted(set(generation.to_diff_dict()) - _HARMLESS)
    if unknown:
        raise InputError(
            f"generation_config.json of {answerer.name} asks for {', '.join(unknown)}, "
            "which the page does not do",
            "Take it out there, or use 'biod2c serve'.",
        )
    ends = generation.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or ())


def _settings(model: VQAModel, ends: list[int], differences: dict[str, float]) -> dict[str, Any]:
    """What the page needs to know beside the parts."""
    answerer = model.answerer
    processor, reference = answerer.processor, answerer.reference
    config = answerer.model.config
    tokenizer = processor.tokenizer
    return {
        "name": Path(answerer.name).name,
        "image_size": processor.image_size,
        "image_mean": processor.image_mean,
        "image_std": processor.image_std,
        "prompt": processor.prompt,
        "fusion_reads": processor.fusion_reads,
        "question_tokens": question_limit(answerer),
        "visual_tokens": config.num_visual_tokens,
        "answer_tokens": MAX_NEW_TOKENS,
        "most_positions": getattr(config.text_config, "max_position_embeddings", None),
        "ends": ends,
        "tidy_blanks": bool(tokenizer.clean_up_tokenization_spaces),
        "probes": [_probe(tokenizer, text) for text in _PROBES],
        "distances": None if reference is None else reference.distances.tolist(),
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "attributes": None if answerer.attributes is None else answerer.attributes.to_dict(),
        "differences": differences,
    }


def _probe(tokenizer: Any, text: str) -> dict[str, Any]:
    """A text, its ids with and without what the tokenizer adds, and what they say."""
    whole, bare = tokenizer(text).input_ids, tokenizer(text, add_special_tokens=False).input_ids
    said = tokenizer.decode(bare, skip_special_tokens=True)
    return {"text": text, "ids": whole, "bare": bare, "said": said}


def _write_tokenizer(processor: BioD2CProcessor, folder: Path) -> None:
    """Write the tokenizer as one file for all of it, and its configuration.

    Raises:
        InputError: It has no such file.
    """
    processor.tokenizer.save_pretrained(folder)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(
            "the tokenizer of the model has no tokenizer.json", "The page cannot read it otherwise."
        )


def _page() -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of the page."""
    assets = files("biod2c_core") / "assets"
    for folder in ("asking", "browser"):
        for each in sorted((assets / folder).iterdir(), key=lambda each: each.name):
            yield each.name, each.read_bytes()
    yield "page.css", (assets / "serve" / "page.css").read_bytes()  # as the page of serve looks
