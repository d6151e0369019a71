"""An integration as the hot path sees it."""

from __future__ import annotations

import pytest

from sidekey.core.policy import Forbidden, Policy, parse_domain, parse_prefix
from sidekey.core.urls import Origin
from sidekey.credentials.base import Grant
from sidekey.dataplane.lane import Lane, quick_base
from support.plane import base_url, get, integration, request, running
from support.upstream import RawUpstream

BASE = parse_prefix("https://a.test/api")


@pytest.mark.parametrize(
    ("policy", "base", "quick"),
    [
        (Policy(prefixes=(BASE,)), BASE, True),
        (Policy(prefixes=(parse_prefix("https://a.test"),)), parse_prefix("https://a.test"), True),
        (Policy(prefixes=(BASE, parse_prefix("https://b.test/x"))), BASE, True),
        (Policy(domains=(parse_domain("https://a.test"),)), parse_prefix("https://a.test"), True),
        (Policy(prefixes=(BASE,), domains=(parse_domain("https://a.test"),)), BASE, True),
        (Policy(prefixes=(BASE,), domains=(parse_domain("https://*.a.test"),)), BASE, False),
        (Policy(prefixes=(BASE,), domains=(parse_domain("https://b.test"),)), BASE, False),
        (Policy(prefixes=(BASE,), forbidden=(Forbidden(BASE.origin, "/token"),)), BASE, False),
        (Policy(prefixes=(BASE,), forbidden=(Forbidden(parse_prefix("https://b.test").origin, "/t"),)), BASE, True),
        (Policy(prefixes=(parse_prefix("https://a.test/a%20b"),)), parse_prefix("https://a.test/a%20b"), False),
        (Policy(prefixes=(parse_prefix("https://a.test/a;b"),)), parse_prefix("https://a.test/a;b"), False),
        (Policy(prefixes=(parse_prefix("https://a.test/other"),)), BASE, False),
        (Policy(), BASE, False),
    ],
)
def test_the_quick_reading_serves_plain_bases_only(policy: Policy, base: object, quick: bool) -> None:
    """Where a rule needs the exact reading, there is no quick one."""
    assert quick_base(policy, base) is quick  # type: ignore[arg-type]


async def test_a_grant_is_compiled_into_every_route() -> None:
    """A new grant replaces the old lines, and its names are those that nothing may double."""
    async with running(integration("h", "https://a.test/api", "https://b.test")) as sidekey:
        lane = sidekey.plane.lane(b"h")
        assert lane is not None
        other = lane.route(Origin("https", "b.test", 443))
        lane.adopt(Grant(headers=(("X_Key", "1"), ("X-Other", "\xe9"))))
        assert lane.strip == {b"x-key", b"x-other"}
        assert lane.base_route is not None
        assert lane.base_route.injected == b"\r\nHost: a.test\r\nX_Key: 1\r\nX-Other: \xe9"
        assert other.injected == b"\r\nHost: b.test\r\nX_Key: 1\r\nX-Other: \xe9"
        later = lane.route(Origin("https", "c.test", 8443))
        assert later.injected == b"\r\nHost: c.test:8443\r\nX_Key: 1\r\nX-Other: \xe9"


async def test_routes_are_bounded() -> None:
    """A wildcard domain allows any number of hosts; the base's route outlives the clearing."""
    async with running(integration("h", "https://a.test/api")) as sidekey:
        lane = sidekey.plane.lane(b"h")
        assert lane is not None
        for number in range(3 * Lane.ROUTES):
            lane.route(Origin("https", f"h{number}.a.test", 443))
        assert len(lane.routes) <= Lane.ROUTES
        lane.adopt(Grant(headers=(("X", "1"),)))
        assert lane.base_route is not None
        assert b"X: 1" in lane.base_route.injected


@pytest.mark.parametrize("method", ["M-SEARCH", "PROPFIND", "QUERY", "REPORT", "SOURCE", "LINK"])
async def test_every_method_that_parses_is_carried(method: str) -> None:
    """Where `methods` is not set, all but TRACE and CONNECT."""
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).status == 200
        assert (await sidekey.ask(request(method))).status == 200
        assert upstream.requests[1].method == method.encode()
