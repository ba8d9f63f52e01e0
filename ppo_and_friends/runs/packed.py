"""A packed policy: one ZIP file whose content is a flat folder, without pickles or code.

It holds a checkpoint's files, ``experiment.json`` and things to read.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppo_and_friends.errors import CheckpointError, PPOError, UsageError
from ppo_and_friends.runs.checkpoint import LATEST, MANIFEST, STATE, TENSORS
from ppo_and_friends.runs.saved_experiment import JSON_NAME

CHECKPOINT = (TENSORS, STATE, MANIFEST)
NEEDED = (*CHECKPOINT, JSON_NAME)
"""Files without which it isn't a packed policy."""

MOST_BYTES = 8 * 2**30
"""Largest content, so that a small file can't fill the disk."""


def is_packed(path: Path) -> bool:
    """Whether a path is a ZIP file."""
    return path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A packed policy as a run's folder, for as long as the context lasts.

    Args:
        path: The file.

    Raises:
        UsageError: It isn't a packed policy.
        CheckpointError: It is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="ppo-policy-") as home:
        folder = Path(home)
        # The name is of a valid checkpoint; how many timesteps it has, its manifest says.
        checkpoint = folder / "checkpoints" / ("0" * 12)
        checkpoint.mkdir(parents=True)
        try:
            with zipfile.ZipFile(path) as archive:
                sizes = {info.filename: info.file_size for info in archive.infolist()}
                missing = [name for name in NEEDED if name not in sizes]
                if missing:
                    raise UsageError(f"{path} is not a packed policy: it has no {missing[0]}. See --pack.")
                if sum(sizes[name] for name in NEEDED) > MOST_BYTES:
                    raise UsageError(f"{path} is larger than {MOST_BYTES // 2**30} GiB.")
                for name in NEEDED:  # by name, so that no path in the file can lead elsewhere
                    place = checkpoint if name in CHECKPOINT else folder
                    (place / name).write_bytes(archive.read(name))
        except UsageError:
            raise
        except Exception as error:  # of zipfile's: an unknown compression, a password, a name that is no text
            raise CheckpointError(f"{path} is damaged: {error}.") from error
        (checkpoint.parent / LATEST).write_text(f"{checkpoint.name}\n")
        try:
            yield folder
        except PPOError as error:
            if home not in str(error):
                raise
            # The user knows the file, not the folder it was unpacked into, and has no run to start over.
            told = str(error).splitlines()[0].partition(" Use --clobber")[0]
            told = (
                told.replace(f"{checkpoint}/", "").replace(f"{home}/", "").replace(str(checkpoint), "in it")
            )
            raise CheckpointError(f"{path} is damaged: {told} Take another copy of it.") from error
