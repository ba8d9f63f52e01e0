"""MPI ranks: communicators, division of environments, rank-independent randomness, start-up and shutdown."""
