"""How often a warm request enters its exchange from elsewhere: each time is a hand-over that costs and can go wrong."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from sidekey.core.build import build
from sidekey.dataplane.exchange import exchange as module
from support.plane import base_url, get, integration, request
from support.scripted import Scripted
from support.upstream import OK

MOST = 4


@pytest.mark.skipif(build() == "compiled", reason="sys.setprofile does not see calls of compiled methods")
async def test_a_warm_post_enters_the_exchange_at_most_four_times() -> None:
    """Its making included: begun by the caller's connection, answered by the upstream's."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        within = frame.f_code.co_filename == module.__file__
        former = frame.f_back
        if event == "call" and within and former is not None and former.f_code.co_filename != module.__file__:
            entered.append(frame.f_code.co_qualname)

    raw = request("POST", body=b"x" * 1024)
    caller.take()
    sys.setprofile(note)
    try:
        caller.feed(raw)
        upstream.feed(OK)
    finally:
        sys.setprofile(None)
    assert caller.take().endswith(b"\r\n\r\nok")
    assert "Exchange.__init__" in entered
    assert len(entered) <= MOST, entered
