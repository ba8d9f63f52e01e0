"""Whole episodes on the canonical environment: scores, video, rendering."""
