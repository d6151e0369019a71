"""Fuzz targets, and the cost limit of an input."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

NAMES: Final = ("requests", "paths", "configs", "templates", "documents", "certificates")
"""The modules that have a target each."""

LONGEST: Final = 16 << 10
"""Bytes of the largest input."""

BUDGET: Final = 0.030
"""Seconds of thread CPU time that the best of three runs of an input may take in a pure build."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser. `parse` is measured; `check` raises AssertionError where its result is wrong.

    Inputs are made of `seeds` and `words`. Both functions let through what a parser raises beside the errors that its
    contract names: that is a finding as well.
    """

    seeds: tuple[bytes, ...]
    parse: Callable[[bytes], object]
    check: Callable[[bytes], object]
    words: tuple[bytes, ...] = ()


def load(name: str) -> Target:
    """Import only this target, since instrumenting all of them takes seconds."""
    result = importlib.import_module(f"fuzz.{name}").TARGET
    assert isinstance(result, Target)
    return result


def cost_of(target: Target, data: bytes) -> float:
    """Return the thread CPU time of an input, the best of at most three runs. A run within the budget suffices."""
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        target.parse(data)
        best = min(best, time.thread_time() - began)
        if best <= BUDGET:
            break
    return best
