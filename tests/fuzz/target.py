"""What a fuzz target is, and the cost that no input may exceed."""

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
    """Import a target alone: instrumenting what the others need takes seconds."""
    found = importlib.import_module(f"fuzz.{name}").TARGET
    assert isinstance(found, Target)
    return found


def cost_of(target: Target, data: bytes) -> float:
    """Return the thread CPU time of one run, the best of at most three: a run within the budget ends the search."""
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        target.parse(data)
        best = min(best, time.thread_time() - began)
        if best <= BUDGET:
            break
    return best
