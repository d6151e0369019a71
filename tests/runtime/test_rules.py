"""The rules that a request keeps."""

from __future__ import annotations

import pytest

from sidekey.runtime.rules import Rules
from sidekey.settings.snapshot import Caller, Limits, Listen, Snapshot, Timeouts


def test_they_are_those_of_the_snapshot() -> None:
    """As they are, not copied: a reload makes others."""
    callers = {b"digest": Caller("one", None)}
    snapshot = Snapshot(
        integrations={},
        callers=callers,
        limits=Limits(target=1),
        timeouts=Timeouts(idle=2),
        listen=Listen(names=("a.test", "b.test")),
    )
    rules = Rules(snapshot, b"word")
    assert (rules.limits, rules.timeouts, rules.callers) == (snapshot.limits, snapshot.timeouts, callers)
    assert rules.own_names == {"a.test", "b.test"}


@pytest.mark.parametrize(("via", "field"), [(True, b"\r\nVia: 1.1 sidekey (word)"), (False, b"")])
def test_via_is_written_once(via: bool, field: bytes) -> None:
    """And ends every head, where it is sent at all."""
    rules = Rules(Snapshot(integrations={}, via=via), b"word")
    assert (rules.via, rules.head_end) == (field, field + b"\r\n\r\n")
