"""How many examples a property is tried with: all in CI and against mutants, where each run draws the same ones."""

from __future__ import annotations

import os
from typing import Final

_SHARE: Final = 1 if os.environ.get("CI") else 5
"""Of all examples, one in so many elsewhere, where each run draws others."""


def examples(most: int) -> int:
    """How many of so many examples this run tries."""
    return max(8, most // _SHARE)
