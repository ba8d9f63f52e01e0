"""Helpers that other packages share: atomic file writing, number formatting, library versions."""
