"""The rules that a request keeps: those of one config, whatever is published later."""

from __future__ import annotations

from sidekey.core.callers import Caller
from sidekey.runtime.rules import Limits, Rules, Timeouts
from sidekey.runtime.snapshot import Snapshot
from support.plane import LIMITS, TIMEOUTS, integration, running


def test_they_are_those_that_were_given() -> None:
    """The very same objects: nothing is copied for a reload."""
    callers = {b"digest": Caller("svc", None)}
    limits, timeouts = Limits(target=5), Timeouts(total=7)
    rules = Rules(limits, timeouts, callers, b"")
    assert rules.callers is callers
    assert rules.limits is limits
    assert rules.timeouts is timeouts


def test_a_head_ends_with_via_where_there_is_one() -> None:
    """RFC 9110 7.6.3."""
    assert Rules(LIMITS, TIMEOUTS, None, b"\r\nVia: 1.1 x").head_end == b"\r\nVia: 1.1 x\r\n\r\n"
    assert Rules(LIMITS, TIMEOUTS, None, b"").head_end == b"\r\n\r\n"


async def test_a_worker_makes_them_of_its_snapshot() -> None:
    """Via has this process's word as the comment of its pseudonym, unless the config sends none."""
    async with running(integration("h", "https://up.test/api")) as sidekey:
        worker = sidekey.plane.worker
        assert worker.rules.via == b"\r\nVia: 1.1 sidekey (%b)" % worker.instance
        worker.prepare(Snapshot(integrations={}, via=False))()
        assert worker.rules.via == b""
