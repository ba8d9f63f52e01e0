"""Gymnasium wrappers that the project's own settings enable."""
