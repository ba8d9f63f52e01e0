"""Benchmarks: what the agents reach, and how fast. Run as scripts from a checkout."""
