"""Sidekey: the sidecar proxy that holds the keys."""

__version__ = "0.1.0"
