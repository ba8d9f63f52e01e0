"""Ranks: communicators, which environments are whose, randomness that no layout changes, start and stop."""
