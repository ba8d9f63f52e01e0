"""Trained policies: loading them, exporting them to ONNX, and the policies shipped with the project."""
