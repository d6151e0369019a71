"""How much is tried of what costs most: all in CI, and against mutants; elsewhere a part.

Properties are tried with the same examples in each run in CI.
"""

from __future__ import annotations

import os
from secrets import randbelow
from typing import Final

ALL: Final = bool(os.environ.get("CI"))
"""Whether this run tries all there is."""

_SHARE: Final = 1 if ALL else 10
"""Of all examples, one in so many elsewhere, where each run draws others."""


def examples(most: int) -> int:
    """How many of so many examples this run tries."""
    return max(8, most // _SHARE)


def is_drawn() -> bool:
    """Whether this run tries this one of many that cost much and mostly find the same: elsewhere one in three."""
    return ALL or randbelow(3) == 0
