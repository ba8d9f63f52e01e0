"""The Python API: train, evaluate and load policies. The command line calls it, too."""
