"""Training runs: building a trainer, sessions, checkpoints, and the run's folder."""
