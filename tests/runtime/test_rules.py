"""The rules that a request keeps: those of one snapshot, whatever is published later."""

from __future__ import annotations

from sidekey.runtime.rules import Rules
from sidekey.runtime.snapshot import Caller, Limits, Snapshot, Timeouts


def test_they_are_those_of_the_snapshot() -> None:
    """The very same objects: nothing is copied for a reload."""
    callers = {b"digest": Caller("svc", None)}
    snapshot = Snapshot(integrations={}, callers=callers, limits=Limits(target=5), timeouts=Timeouts(total=7))
    rules = Rules(snapshot, b"word")
    assert rules.callers is callers
    assert rules.limits is snapshot.limits
    assert rules.timeouts is snapshot.timeouts


def test_a_head_ends_with_via_where_the_config_wants_it() -> None:
    """RFC 9110 7.6.3, with this process's word as the pseudonym's comment."""
    rules = Rules(Snapshot(integrations={}), b"word")
    assert rules.via == b"\r\nVia: 1.1 sidekey (word)"
    assert rules.head_end == b"\r\nVia: 1.1 sidekey (word)\r\n\r\n"
    without = Rules(Snapshot(integrations={}, via=False), b"word")
    assert (without.via, without.head_end) == (b"", b"\r\n\r\n")
