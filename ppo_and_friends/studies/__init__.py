"""More than one run: seeds and grids, comparison, tuning, and giving a trained policy away."""
