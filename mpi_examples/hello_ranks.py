"""Prints the environments of each rank: ``mpirun -n 3 python mpi_examples/hello_ranks.py``."""

from __future__ import annotations

import socket

from ppo_and_friends.distributed.cores import threads_per_rank
from ppo_and_friends.distributed.launch import guard, make_communicator
from ppo_and_friends.distributed.layout import divide

NUM_ENVS = 16


def main() -> None:
    """Print one line per rank, on rank 0."""
    communicator = make_communicator()
    with guard(communicator):
        layout = divide(NUM_ENVS, communicator.rank, communicator.size)
        last = layout.first + layout.local - 1
        line = (
            f"rank {communicator.rank} of {communicator.size} on {socket.gethostname()}: "
            f"environments {layout.first} to {last}, {threads_per_rank(communicator)} threads"
        )
        lines = communicator.gather(line)
        if communicator.is_main:
            print("\n".join(lines))


if __name__ == "__main__":
    main()
