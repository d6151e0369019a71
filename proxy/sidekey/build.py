"""Detect whether the hot modules are compiled. Both builds have the same source."""

from __future__ import annotations

from typing import Literal

from sidekey import __version__
from sidekey.policy import paths


def build() -> Literal["compiled", "pure"]:
    """Return how the hot modules were loaded: as compiled extensions or from Python source."""
    return "pure" if paths.__file__.endswith(".py") else "compiled"


def describe_version() -> str:
    """Return the version and the build, for people."""
    return f"sidekey {__version__} ({build()})"
