"""The targets whose quick reading the plane remembers."""

from __future__ import annotations

from sidekey.dataplane.routing.index import LONGEST_TARGET, TARGETS_LIMIT
from support.plane import base_url, get, integration
from support.scripted import Scripted
from support.upstream import OK


async def test_they_are_bounded_in_number_and_in_length() -> None:
    """A target goes to the same path whether it is new, remembered, forgotten or too long."""
    sidekey = Scripted(integration("h", base_url(1)), integration("o", base_url(2, "/other")))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    upstream.take()
    short = [f"/{number}" for number in range(TARGETS_LIMIT + 10)]
    for target in ["/0", *short, "/0", *["/" + "a" * LONGEST_TARGET] * 2]:
        caller.feed(get(target))
        assert upstream.take().startswith(b"GET /api%b HTTP/1.1\r\n" % target.encode())
        upstream.feed(OK)
        assert len(sidekey.plane.index._targets) <= TARGETS_LIMIT
    assert all(len(target) <= LONGEST_TARGET for target in sidekey.plane.index._targets)


async def test_what_is_remembered_holds_for_plain_requests_only() -> None:
    """A Host that is not ours or a field of a browser is judged again for each request."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get())
    (await sidekey.upstream()).feed(OK)
    for raw in (get().replace(b"h.test", b"evil.test"), get("/a", "Sec-Fetch-Site: cross-site")):
        caller = sidekey.caller()
        caller.feed(raw)
        assert caller.take().startswith(b"HTTP/1.1 403 ")
