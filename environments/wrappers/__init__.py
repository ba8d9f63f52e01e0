"""Gymnasium wrappers the launchers use."""
