"""Checkpoints to and from the Hugging Face hub. Reaches for the network, and only when called."""

from __future__ import annotations

import shutil
from pathlib import Path

from biod2c_core.atomic import atomic_folder
from biod2c_core.errors import CheckpointError
from biod2c_core.model.checkpoints.card import CardFacts, model_card
from biod2c_core.model.checkpoints.downloads import download, hub_errors
from biod2c_core.model.checkpoints.folder import (
    CHECKPOINT_FILES,
    fingerprint,
    load_processor,
    locate,
)

CARD = "README.md"


def push(
    folder: Path,
    name: str,
    facts: CardFacts,
    *,
    public: bool = False,
    revision: str | None = None,
) -> str:
    """Upload a checkpoint with its card, in one commit; what is not a checkpoint's file stays here.

    Args:
        folder: The checkpoint.
        name: ``owner/model``; made if it does not exist.
        facts: What the card says beyond the files.
        public: Whether a new repository may be seen by everybody.
        revision: Branch to commit to.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: The folder is not a checkpoint.
        InputError: The name is none, or nobody is logged in.
        EndpointError: The hub could not be reached or refused.
    """
    locate(folder)
    load_processor(folder)  # what cannot be loaded here is not published
    card = model_card(folder, name, facts)
    from huggingface_hub import CommitOperationAdd, HfApi

    files = sorted({path for pattern in CHECKPOINT_FILES for path in folder.glob(pattern)})
    operations = [CommitOperationAdd(path.name, str(path)) for path in files]
    operations.append(CommitOperationAdd(CARD, card.encode()))
    with hub_errors(name):
        api = HfApi()
        api.create_repo(name, private=not public, exist_ok=True)
        commit = api.create_commit(
            name,
            operations,
            commit_message=f"BioD2C checkpoint {fingerprint(folder)}",
            revision=revision,
        )
    return str(commit.commit_url)


def pull(name: str, output: Path, revision: str | None = None) -> Path:
    """Download a checkpoint into a folder of its own.

    Args:
        name: ``owner/model``.
        output: A new folder.
        revision: Branch, tag or commit.

    Returns:
        The folder.

    Raises:
        InputError: The name is none, or the output exists.
        CheckpointError: The hub's files are not a checkpoint.
        EndpointError: The hub could not be reached or refused.
    """
    with atomic_folder(output, resume=True) as partial:
        download(name, (*CHECKPOINT_FILES, CARD), revision, partial)
        try:
            locate(partial)
        except CheckpointError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(str(error).replace(str(partial), name)) from error
        shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub client's bookkeeping
    return output
