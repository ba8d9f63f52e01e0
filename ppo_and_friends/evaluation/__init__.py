"""Evaluation over whole episodes of the canonical environment: scores, videos, rendering."""
