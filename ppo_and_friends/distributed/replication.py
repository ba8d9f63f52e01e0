"""The check that what must be equal on all ranks is, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from ppo_and_friends.distributed.communicator import Array, Communicator
from ppo_and_friends.errors import ReplicationError

SHOWN = 5
"""Most tensors and ranks that a message names."""


def bits_digest(array: Array) -> int:
    """63 bits that depend on an array's dtype, shape and every one of its bits (so -0.0 is not 0.0).

    Args:
        array: Of numbers, of any shape.

    Returns:
        In [0, 2**63): the first bits of a BLAKE2b hash, the same on every machine of one byte order.
    """
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int.from_bytes(digest.digest(), "little") >> 1


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def assert_replicated(comm: Communicator, name_to_array: Mapping[str, Array]) -> None:
    """Stop every rank if one of them holds other bits, or other names, than rank 0. A collective.

    Args:
        comm: The ranks to compare.
        name_to_array: What must be replicated, in the same order on all ranks.

    Raises:
        ReplicationError: On all ranks alike, naming what differs and the ranks that differ.
    """
    names = list(name_to_array)
    own = np.array([bits_digest(array) for array in name_to_array.values()], dtype=np.int64)
    heading = bits_digest(np.frombuffer("\0".join(names).encode(), dtype=np.uint8))
    # Two steps, since rows of different lengths could not be put together.
    headings = comm.concatenate(np.array([heading], dtype=np.int64))
    if (headings != headings[0]).any():
        ranks = [str(rank) for rank in np.flatnonzero(headings != headings[0])]
        raise ReplicationError(f"Ranks {_some(ranks)} hold other tensors than rank 0: their names differ.")
    digests = comm.concatenate(own[None])
    differs = digests != digests[0]
    if differs.any():
        wrong = [names[index] for index in np.flatnonzero(differs.any(axis=0))]
        ranks = [str(rank) for rank in np.flatnonzero(differs.any(axis=1))]
        raise ReplicationError(
            f"The ranks have drifted apart: {_some(wrong)} on rank {_some(ranks)} differ from rank 0's.\n"
            "The last checkpoint is from before; a friend that gathers statistics must merge them over ranks."
        )
