"""Uploads a packed policy to the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ppo_and_friends.errors import PPOError, UsageError
from ppo_and_friends.runs.packed import NEEDED, is_packed

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push(packed: Path, repository: str, *, private: bool = False) -> str:
    """Upload a packed policy's files as a model repository, which is created if necessary.

    Sign in with ``hf auth login``, or put a token into ``HF_TOKEN``. ``HF_ENDPOINT`` names another server.

    Args:
        packed: A file made by `pack`.
        repository: ``user/name``.
        private: Whether a new repository is private.

    Returns:
        The repository's address.

    Raises:
        UsageError: The name or the file is wrong, or the extra isn't installed.
        PPOError: The hub refuses or can't be reached.
    """
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"--push {repository}: write the repository as user/name.")
    api = _api()
    if not is_packed(packed):
        raise UsageError(f"{packed} is not a packed policy. Make one with --pack RUN.")
    with tempfile.TemporaryDirectory(prefix="ppo-push-") as made, zipfile.ZipFile(packed) as archive:
        names = [name for name in archive.namelist() if Path(name).name == name]
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise UsageError(f"{packed} is not a packed policy: it has no {missing[0]}.")
        for name in names:
            (Path(made) / name).write_bytes(archive.read(name))
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=made, commit_message="Trained with PPO and Friends"
            )
        except Exception as error:  # of the hub's client, or of the network
            first = next(filter(None, str(error).splitlines()), type(error).__name__)
            raise PPOError(f"--push {repository}: {first}") from error
    return str(getattr(commit, "repo_url", f"{api.endpoint}/{repository}"))


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UsageError(
            "--push needs a package that isn't installed: pip install 'ppo-and-friends[hub]'"
        ) from None
    return HfApi(library_name="ppo-and-friends")
