"""Benchmarks: Sidekey and its peers do the same work on this machine. `python -m benchmarks [ROW ...]`."""
