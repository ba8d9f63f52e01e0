"""Telling how a run goes: terminal, ``progress.csv``, TensorBoard, tables and plots."""
