"""Releases many objects without holding the interpreter for long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def release_gradually(values: Mapping[str, Any]) -> None:
    """Empty a dict entry by entry, so that other threads run in between.

    A thread that drops the last reference to a dict of many objects holds the interpreter until all of them are freed.
    """
    if isinstance(values, dict):
        while values:
            values.popitem()
