"""Which of the two builds this is: both come from the same source, so the modules themselves must say it."""

from __future__ import annotations

from typing import Literal

from sidekey.policy import paths


def build() -> Literal["compiled", "pure"]:
    """Say how the hot modules were loaded: as extensions, or from their Python source."""
    return "pure" if paths.__file__.endswith(".py") else "compiled"
