"""Proximal policy optimization: the algorithm, its mathematics and its data."""
