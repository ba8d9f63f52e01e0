"""A run on disk and in time: building a trainer, sessions, checkpoints, folders."""
