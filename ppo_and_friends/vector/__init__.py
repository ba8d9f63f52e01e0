"""Environments stepped together: one protocol (`protocol`), one way in (`factory`), several engines."""
