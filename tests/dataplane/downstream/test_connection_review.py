"""What a request is answered with that is read while something else ends."""

from __future__ import annotations

import pytest

from sidekey.credentials.base import Grant, Places, Traits
from sidekey.errors import Problem, ProblemError
from sidekey.runtime.rules import Limits
from support import wire
from support.plane import FixedSource, base_url, get, integration, request
from support.scripted import Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
LONG = get("/" + "a" * 5000)
UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


class Unable(FixedSource):
    """A grant source that gets no grant."""

    def __init__(self) -> None:
        super().__init__()
        self.grant = None

    async def obtain(self) -> Grant:
        raise ProblemError(Problem("credential_unavailable", "there is none"))


async def test_the_reason_is_told_of_what_follows_an_upgrade_in_the_same_read() -> None:
    """Not that it is malformed: httptools hides the reason behind the exception that is handled just then."""
    sidekey = Scripted(H, limits=Limits(target=1000))
    caller = sidekey.caller()
    caller.feed(get("/a", *UPGRADE) + LONG)
    assert caller.take().startswith(b"HTTP/1.1 414 ")


async def test_the_reason_is_told_of_what_was_kept_back_behind_a_request_without_a_grant() -> None:
    """Likewise where the one before it ends with an exception."""
    sidekey = Scripted(H, limits=Limits(target=1000, pipelined=1), sources={"h": Unable()})
    caller = sidekey.caller()
    caller.feed(get() + LONG)
    await settle()
    written = caller.take()
    first = wire.first_response(written)
    assert first is not None
    assert first.status == 502
    assert written[first.length :].startswith(b"HTTP/1.1 414 ")


@pytest.mark.parametrize("sound", [True, False])
async def test_nothing_is_begun_behind_a_body_that_ended_the_connection(sound: bool) -> None:
    """A long body, which goes past the parser, and the next request arrive in one read."""
    source = FixedSource(Grant(body=(("access_token", "t"),)))
    body = integration("b", base_url(2), traits=Traits(Places(body=("access_token",))))
    sidekey = Scripted(H, body, sources={"b": source}, limits=Limits(replay_body=1 << 20))
    form = b"a=" + b"x" * (200 << 10)
    if not sound:
        form = b"access_token=1&" + form
    raw = request("POST", "/a", "Content-Type: application/x-www-form-urlencoded", body=form, name="b")
    caller = sidekey.caller()
    caller.feed(raw[:1000], raw[1000:] + get())
    await settle()
    if sound:
        (message,) = wire.requests(sidekey.upstreams[0].take())
        assert message.body == form + b"&access_token=t"
        sidekey.upstreams[0].feed(OK)
        await settle()
        assert len(sidekey.upstreams) == 2
        return
    assert caller.take().startswith(b"HTTP/1.1 400 ")
    assert caller.ended
    assert sidekey.upstreams == []
    assert sidekey.metrics.in_flight == 0
