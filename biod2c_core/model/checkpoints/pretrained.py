"""Whatever transformers loads, loaded here: no code of others, no question asked, every failure ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
)
from transformers.utils import logging as transformers_logging

from biod2c_core.errors import BioD2CError, CheckpointError, is_panic
from biod2c_core.model.checkpoints.limits import check_folder, check_sizes, check_weights

# Without this, transformers asks on the terminal whether to run the Python beside the weights.
NO_CODE: dict[str, Any] = {"trust_remote_code": False}


def pretrained_config(place: str | Path, **options: Any) -> Any:
    """The configuration of a model: a folder, a hub name, or with ``gguf_file`` a file in a folder.

    Raises:
        CheckpointError: Its sizes are absurd.
        Exception: What transformers raises; see :func:`loading`.
    """
    if Path(place).is_dir() and not options:
        check_folder(Path(place))
    content, _ = PretrainedConfig.get_config_dict(str(place), **options)
    check_sizes(content, place)
    return AutoConfig.from_pretrained(str(place), **NO_CODE, **options)


def pretrained_tokenizer(place: str | Path, **options: Any) -> Any:
    """The tokenizer of a folder or hub name.

    Raises:
        CheckpointError: See :func:`~.limits.check_folder`.
        Exception: What transformers raises; see :func:`loading`.
    """
    if Path(place).is_dir():
        check_folder(Path(place))
    return AutoTokenizer.from_pretrained(str(place), **NO_CODE, **options)


def pretrained_language_model(
    place: str | Path, config: Any, dtype: torch.dtype, **options: Any
) -> Any:
    """A causal language model, from safetensors (or, with ``gguf_file``, GGUF).

    Args:
        place: A folder or hub name.
        config: From :func:`pretrained_config`, changed or not.
        dtype: Of the weights.
        **options: ``gguf_file``.

    Raises:
        CheckpointError: It is larger than its weights.
        Exception: What transformers raises; see :func:`loading`.
    """
    if "gguf_file" not in options:
        options["use_safetensors"] = True
        if Path(place).is_dir():
            check_weights(config, Path(place))
    return AutoModelForCausalLM.from_pretrained(
        str(place), config=config, dtype=dtype, **NO_CODE, **options
    )


def pretrained_encoder(place: str | Path) -> Any:
    """A text encoder from a local folder.

    Raises:
        CheckpointError: See :func:`~.limits.check_folder`.
        Exception: What transformers raises; see :func:`loading`.
    """
    check_folder(Path(place))
    return AutoModel.from_pretrained(str(place), local_files_only=True, **NO_CODE)


@contextmanager
def loading(problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises over a file that it cannot use into one line.

    What transformers prints besides, names out of the file and colours for a terminal, is left out.

    Args:
        problem: What cannot be done; the library's own words follow in brackets.
        remedy: What to do about it.

    Raises:
        CheckpointError: Instead of any other exception, a panic of the tokenizers library included.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    try:
        yield
    except BioD2CError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "contains custom code" in reason or "references custom code" in reason:
            reason = "it needs Python of its own, which is never run"
        raise CheckpointError(f"{problem} ({reason})", remedy) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
