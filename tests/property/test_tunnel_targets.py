"""The decision about a target in a tunnel equals that about its absolute URL."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.errors import Problem
from sidekey.policy.tunnel import TunnelContext
from sidekey.policy.urls import Origin
from support.admission import admit, head_of
from support.http_strategies import soup
from support.plane import integration
from support.scripted import ScriptedPlane

INTEGRATIONS = (
    integration("h", "https://up.test/api", "http://127.0.0.1:8080/v1"),
    integration("k", domains=["https://b.test:8443", "https://*.wild.test"], methods=["GET"]),
    integration("h2", "https://up.test/other"),
    integration("v6", "https://[2001:db8::1]/x", forbidden=[("https://[2001:db8::1]", "/x/token")]),
)
ORIGINS = [
    Origin(scheme, host, port)
    for scheme in ("https", "http")
    for host, port in (
        ("up.test", 443),
        ("up.test", 80),
        ("127.0.0.1", 8080),
        ("b.test", 8443),
        ("a.wild.test", 443),
        ("2001:db8::1", 443),
        ("free.test", 443),
    )
]


def outcome(
    sidekey: ScriptedPlane, target: str, name: str | None, method: bytes, tunnel: TunnelContext | None
) -> object:
    """Return target and integration of the request, or the problem."""
    integration_id = None if name is None else name.encode()
    host = b"any" if tunnel is None else tunnel.origin.authority.encode()
    head = head_of(target, method=method, host=host, integration_id=integration_id)
    result = admit(sidekey.plane, head, tunnel)
    if isinstance(result, Problem):
        return result.code, result.detail
    return result.integration.name, result.route.origin, result.path


@pytest.mark.parametrize(("passing", "matching"), [(False, False), (True, False), (False, True), (True, True)])
@given(
    st.sampled_from(ORIGINS),
    soup(),
    st.sampled_from([None, "h", "k", "v6", "z"]),
    st.booleans(),
    st.sampled_from([b"GET", b"POST", b"TRACE"]),
)
@example(ORIGINS[0], "/api/%2e%2e/x", "h", True, b"GET")
@example(ORIGINS[0], "//evil.test/api", "h", True, b"GET")
@example(ORIGINS[1], "/api/a", "h", True, b"GET")
@example(ORIGINS[0], "/other/a", None, True, b"GET")
@example(ORIGINS[1], "/api/%2e%2e/other", None, True, b"GET")
def test_target_in_a_tunnel_equals_its_absolute_form(
    passing: bool, matching: bool, origin: Origin, path: str, name: str | None, at_connect: bool, method: bytes
) -> None:
    """With an ID in the CONNECT, in the request, or in neither."""

    async def main() -> None:
        sidekey = ScriptedPlane(*INTEGRATIONS, passing=passing, matching=matching)
        sent_name = None if name is None else name.encode()
        tunnel = TunnelContext(origin, sent_name if at_connect else None, None)
        own = None if at_connect else name
        inside = outcome(sidekey, path, own, method, tunnel)
        assert inside == outcome(sidekey, path, own, method, tunnel), "the fast parser decides the same"
        assert inside == outcome(sidekey, f"{origin}{path}", name, method, None)
        assert outcome(sidekey, f"{origin}{path}", name, method, tunnel) == inside

    asyncio.run(main())
