"""The benchmarks: Sidekey and its peers doing the same work on this machine. `python -m benchmarks [ROW ...]`."""
