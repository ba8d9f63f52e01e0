"""Vectorised environments: one protocol (`protocol`), one factory (`factory`), several backends."""
