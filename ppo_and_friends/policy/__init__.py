"""A trained policy: loaded as an object, exported as ONNX, shipped with the project."""
