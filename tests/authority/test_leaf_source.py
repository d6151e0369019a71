"""The one implementation is what tunnels ask for."""

from __future__ import annotations

import inspect

from sidekey.authority.leaf_source import LeafSource
from sidekey.sources.leaves import Leaves


def test_leaves_are_a_leaf_source() -> None:
    """By name and parameters; mypy checks the types in app.py."""
    for name in ("context_for", "obtain"):
        wanted, found = getattr(LeafSource, name), getattr(Leaves, name)
        assert inspect.signature(found) == inspect.signature(wanted)
        assert inspect.iscoroutinefunction(found) is inspect.iscoroutinefunction(wanted)
