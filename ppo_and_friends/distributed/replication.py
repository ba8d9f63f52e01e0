"""A check that replicated data is bitwise equal on all ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from ppo_and_friends.distributed.communicator import Array, Communicator
from ppo_and_friends.errors import ReplicationError

SHOWN = 5
"""Maximum number of tensors, and of ranks, that an error message lists."""


def bits_digest(array: Array) -> int:
    """Return a 63-bit hash of an array's dtype, shape and bits (-0.0 and 0.0 have different hashes).

    Args:
        array: A numeric array of any shape.

    Returns:
        An integer in [0, 2**63), from a BLAKE2b hash; equal on all machines of the same byte order.
    """
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return int.from_bytes(digest.digest(), "little") >> 1


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def assert_replicated(comm: Communicator, name_to_array: Mapping[str, Array]) -> None:
    """Check that all ranks hold bitwise equal arrays under the same names. Collective.

    Args:
        comm: The ranks to compare.
        name_to_array: The replicated arrays, in the same order on all ranks.

    Raises:
        ReplicationError: On all ranks, if any rank differs from rank 0; names the arrays and the ranks
            that differ.
    """
    names = list(name_to_array)
    own = np.array([bits_digest(array) for array in name_to_array.values()], dtype=np.int64)
    heading = bits_digest(np.frombuffer("\0".join(names).encode(), dtype=np.uint8))
    # The names are compared first: without the same number of arrays, the digests can't be concatenated.
    headings = comm.concatenate(np.array([heading], dtype=np.int64))
    if (headings != headings[0]).any():
        ranks = [str(rank) for rank in np.flatnonzero(headings != headings[0])]
        raise ReplicationError(
            f"The tensors on rank {_some(ranks)} have different names, or another order, than on rank 0.\n"
            "Every rank must create the same friends and networks in the same order."
        )
    digests = comm.concatenate(own[None])
    differs = digests != digests[0]
    if differs.any():
        wrong = [names[index] for index in np.flatnonzero(differs.any(axis=0))]
        ranks = [str(rank) for rank in np.flatnonzero(differs.any(axis=1))]
        raise ReplicationError(
            f"The ranks have diverged: {_some(wrong)} on rank {_some(ranks)} differ from rank 0's.\n"
            "The last checkpoint predates this. A friend that collects statistics must merge them over ranks."
        )
