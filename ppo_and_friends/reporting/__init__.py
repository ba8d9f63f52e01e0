"""Reporting: terminal, ``progress.csv``, TensorBoard, tables and plots."""
