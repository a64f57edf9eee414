"""The one way down from the Hugging Face hub, whose client's many errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from biod2c_core.errors import EndpointError, InputError


def is_hub_name(checkpoint: str) -> bool:
    """Whether a checkpoint is to be looked for on the hub: ``owner/model``, and no such folder is here."""
    plain = checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~"))
    return plain and ":" not in checkpoint and not Path(checkpoint).exists()


def download(
    name: str, patterns: Sequence[str], revision: str | None = None, folder: Path | None = None
) -> Path:
    """Fetch the files of a hub model that match, unless they are here already.

    Args:
        name: ``owner/model``.
        patterns: Of file names, as in a shell.
        revision: Branch, tag or commit.
        folder: Where to put them; by default the hub's cache.

    Returns:
        The folder that holds them.

    Raises:
        InputError: The name is none, or the hub has no such model.
        EndpointError: The hub could not be reached (or is switched off), or refused.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        found = snapshot_download(
            name, revision=revision, local_dir=folder, allow_patterns=list(patterns)
        )
    return Path(found)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn the hub client's many errors into ours."""
    from huggingface_hub.errors import (
        HFValidationError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise InputError(
            f"{name!r} is not the name of a hub model", "Write owner/model."
        ) from error
    except LocalTokenNotFoundError as error:
        raise InputError(
            "nobody is logged in to the hub", "Run 'hf auth login', or set HF_TOKEN."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise InputError(
            f"the hub has no model {name!r} of that revision, or shows it to others only",
            "Check the name, or log in with 'hf auth login'.",
        ) from error
    except (
        Exception
    ) as error:  # HTTP's, the transport's and the disk's, offline mode: all mean this
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EndpointError(
            f"the hub could not be used for {name!r} ({reason})",
            "Check the connection, HF_HUB_OFFLINE, and whether you may do this.",
        ) from error
