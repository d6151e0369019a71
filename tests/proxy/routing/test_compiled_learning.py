"""Base URLs in grants: Sidekey checks a target before it has the grant, and again with its base URL."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.targets import Forbidden, Policy, parse_domain, parse_prefix
from sidekey.snapshot.snapshot import Integration
from support.leaves import NoLeaves
from support.memory import running
from support.plane import FixedSource, get, problem, secrets_of
from support.scripted import GatedGrantSource, GatedIdentitySource, ScriptedPlane, settle
from support.upstream import OK

TRAITS = CredentialTraits(
    InjectionPoints(headers=("Authorization",)), calls=True, discovers_base_url=True, watched=frozenset({401, 500})
)
LOGIN = parse_prefix("https://login2.responsys.net/rest/api/v1.3")
RESPONSYS = Policy(
    domains=tuple(map(parse_domain, ("https://login2.responsys.net", "https://*.responsys.net"))),
    forbidden=(Forbidden(None, "/rest/api/*/auth", below=True),),
    path="/rest/api/v1.3",
    placeholder_origin=LOGIN.origin,
)
MARKETING = Policy(
    domains=tuple(map(parse_domain, ("https://*.rest.example", "https://auth.example"))),
    forbidden=(Forbidden(parse_prefix("https://auth.example").origin, "/v2/token"),),
)


def grant(base: str, token: str = "t1") -> Grant:
    return Grant(headers=(("Authorization", token),), base_url=base)


def learning(policy: Policy, base: str) -> Integration:
    return Integration("h", "responsys", policy, parse_prefix(base), secrets_of(Grant()), TRAITS)


def forward(url: str) -> bytes:
    return f"GET {url} HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n".encode()


async def heads(sidekey: ScriptedPlane) -> list[bytes]:
    """Return request line and Host of each upstream connection."""
    await settle()
    return [b"\n".join(item.read().split(b"\r\n")[:2]) for item in sidekey.upstreams]


@pytest.mark.parametrize("door", ["reverse", "forward", "forward http", "forward to the endpoint"])
async def test_first_request_uses_the_base_url_of_the_login(door: str) -> None:
    """With or without a token, at both proxies. Path and query stay."""
    requests = {
        "reverse": get("/campaigns?a=1"),
        "forward": forward("https://login2.responsys.net/rest/api/v1.3/campaigns?a=1"),
        "forward http": forward("http://login2.responsys.net/rest/api/v1.3/campaigns?a=1"),
        "forward to the endpoint": forward("https://api5.responsys.net/rest/api/v1.3/campaigns?a=1"),
    }
    source = GatedGrantSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    sidekey = ScriptedPlane(learning(RESPONSYS, str(LOGIN)), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(requests[door])
    await settle()
    assert (sidekey.upstreams, source.calls) == ([], 1)
    source.go.set()
    expected = b"GET /rest/api/v1.3/campaigns?a=1 HTTP/1.1\nHost: api5.responsys.net"
    assert await heads(sidekey) == [expected]
    sidekey.upstreams[0].feed(OK)
    caller.feed(requests[door])
    assert await heads(sidekey) == [expected]


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/x/../../v1.2/campaigns"),
        get("/auth/token"),
        get("/a%2f..%2fauth/token"),
        get("/a%00"),
        forward("https://login2.responsys.net/rest/api/v1.2/x"),
        forward("https://evil.example/rest/api/v1.3/x"),
    ],
)
async def test_forbidden_target_fetches_no_token(request_bytes: bytes) -> None:
    """Sidekey checks paths before it has the grant."""
    source = GatedGrantSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    async with running(learning(RESPONSYS, str(LOGIN)), sources={"h": source}) as sidekey:
        response = await sidekey.send(request_bytes)
        assert problem(response)["code"] in ("target_denied", "request_invalid")
        assert source.calls == 0


async def test_target_outside_the_learned_host_is_denied() -> None:
    """The response of the login decides."""
    source = GatedGrantSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    source.go.set()
    async with running(learning(RESPONSYS, str(LOGIN)), sources={"h": source}) as sidekey:
        for _ in range(2):
            response = await sidekey.send(forward("https://api6.responsys.net/rest/api/v1.3/x"))
            assert (problem(response)["code"], problem(response)["sent"]) == ("target_denied", "no")
        assert source.calls == 1


@pytest.mark.parametrize("is_current", [True, False])
async def test_request_may_name_the_host_of_a_renewed_base_url(is_current: bool) -> None:
    """Also if a background refresh has renewed the grant, or if the grant has expired: `obtain` returns the new one."""
    source = GatedGrantSource(grant("https://api5.responsys.net/rest/api/v1.3"), available=True)
    source.go.set()
    async with running(learning(RESPONSYS, str(LOGIN)), sources={"h": source}) as sidekey:
        await sidekey.send(get("/x"))
        source.ready = grant("https://api6.responsys.net/rest/api/v1.3")
        source.grant = source.ready if is_current else None
        for host, expected in ("api6", "upstream_unreachable"), ("api5", "target_denied"):
            response = await sidekey.send(forward(f"https://{host}.responsys.net/rest/api/v1.3/x"))
            assert problem(response)["code"] == expected


async def test_new_base_url_applies_to_every_later_target() -> None:
    """Sidekey drops cached targets."""
    source = FixedSource(grant("https://a.rest.example/v1"))
    sidekey = ScriptedPlane(learning(MARKETING, "https://auth.example"), sources={"h": source})
    caller = sidekey.caller()
    for number, base in enumerate(("a.rest.example/v1", "b.rest.example", "a.rest.example/v1")):
        source.grant = grant(f"https://{base}", f"t{number}")
        for _ in range(2):
            caller.feed(get("/x"))
            await settle()
            ((upstream, written),) = [(item, data) for item in sidekey.upstreams if (data := item.read())]
            host, _, path = base.partition("/")
            assert written.startswith(f"GET {path and '/'}{path}/x HTTP/1.1\r\nHost: {host}\r\n".encode())
            assert b"\r\nAuthorization: t%d\r\n" % number in written
            upstream.feed(OK)


async def test_forbidden_path_is_denied_under_a_learned_base() -> None:
    """By the fast and the full parser."""
    source = FixedSource(grant("https://auth.example"))
    async with running(learning(MARKETING, "https://auth.example"), sources={"h": source}) as sidekey:
        for path in ("/v2/token", "/v2/Token?x", "/v2/%74oken"):
            assert problem(await sidekey.send(get(path)))["code"] == "target_denied"
        for path in ("/x/../v2/token", "/v2/token;x"):
            assert problem(await sidekey.send(get(path)))["code"] == "request_invalid"


async def test_every_waiting_request_is_checked_with_the_learned_base() -> None:
    """Not only the first: a host that was allowed until then gets nothing."""
    source = GatedGrantSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    sidekey = ScriptedPlane(learning(RESPONSYS, str(LOGIN)), sources={"h": source})
    callers = [sidekey.caller() for _ in range(3)]
    for caller, raw in zip(
        callers,
        (get("/x"), get("/y"), forward("https://api6.responsys.net/rest/api/v1.3/z")),
        strict=True,
    ):
        caller.feed(raw)
    await settle()
    assert (sidekey.upstreams, source.calls) == ([], 3)
    source.go.set()
    assert sorted(await heads(sidekey)) == [
        b"GET /rest/api/v1.3/%b HTTP/1.1\nHost: api5.responsys.net" % path for path in (b"x", b"y")
    ]
    assert callers[2].read().startswith(b"HTTP/1.1 403 ")


async def test_every_replay_uses_the_base_url_of_the_newer_grant() -> None:
    """Not only the first: the old host must not get the new credential."""
    source = GatedGrantSource(grant("https://a.rest.example"), available=True)
    source.refreshed = grant("https://b.rest.example", "t2")
    sidekey = ScriptedPlane(learning(MARKETING, "https://auth.example"), sources={"h": source})
    for path in ("/x", "/y"):
        sidekey.caller().feed(get(path))
    assert len(await heads(sidekey)) == 2
    for upstream in sidekey.upstreams:
        upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    await settle()
    source.go.set()
    _, _, *new = await heads(sidekey)
    assert sorted(new) == [b"GET /%b HTTP/1.1\nHost: b.rest.example" % path for path in (b"x", b"y")]


async def test_request_that_waited_for_its_certificate_uses_the_newest_base_url() -> None:
    """Another request learned it meanwhile."""
    source = FixedSource(grant("https://a.rest.example", "t1"))
    certificate = GatedIdentitySource(later="late")
    sidekey = ScriptedPlane(
        learning(MARKETING, "https://auth.example"), sources={"h": source}, identities={"h": certificate}
    )
    sidekey.caller().feed(get("/x"))
    await settle()
    source.grant = grant("https://b.rest.example", "t2")
    sidekey.caller().feed(get("/y"))
    await settle()
    assert (sidekey.upstreams, certificate.calls) == ([], 2)
    certificate.go.set()
    assert sorted(await heads(sidekey)) == [b"GET /%b HTTP/1.1\nHost: b.rest.example" % path for path in (b"x", b"y")]


async def test_request_that_waited_for_its_connection_uses_the_newest_base_url() -> None:
    """The connection to the old host gets nothing."""
    source = FixedSource(grant("https://a.rest.example", "t1"))
    sidekey = ScriptedPlane(learning(MARKETING, "https://auth.example"), sources={"h": source})
    connected = asyncio.get_running_loop().create_future()
    sidekey.dialer.turns.append(connected)
    sidekey.caller().feed(get("/x"))
    await settle()
    source.grant = grant("https://b.rest.example", "t2")
    sidekey.caller().feed(get("/y"))
    assert await heads(sidekey) == [b"GET /y HTTP/1.1\nHost: b.rest.example"]
    connected.set_result(None)
    assert await heads(sidekey) == [b"", b"", b"GET /x HTTP/1.1\nHost: b.rest.example"]


async def test_defect_of_a_newer_grant_fails_only_one_request() -> None:
    """Another exchange offered it a connection."""
    source = FixedSource(grant("https://a.rest.example"))
    sidekey = ScriptedPlane(learning(MARKETING, "https://auth.example"), sources={"h": source})
    first, waiting = sidekey.caller(), sidekey.caller()
    first.feed(get())
    upstream = await sidekey.upstream()
    sidekey.dialer.go.clear()
    waiting.feed(get())
    await settle()
    source.grant = grant("https://another.example")
    upstream.feed(OK)
    assert first.read().endswith(b"ok")
    await settle()
    assert waiting.read().startswith(b"HTTP/1.1 500 ")
    assert [item.transport for item in sidekey.pooled()] == [upstream]
    assert sidekey.metrics.in_flight == 0
    assert [type(defect) for defect in sidekey.defects] == [ValueError]
    sidekey.defects.clear()


class NoCertificateContext(NoLeaves):
    """A context without a certificate, for tunnels with plain HTTP."""

    def context_for(self, host: str) -> ssl.SSLContext | None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize("tokens", [{}, {"token": None}], ids=["no callers", "a caller"])
async def test_known_target_in_a_tunnel_is_checked_after_the_base_url_moved(
    tokens: dict[str, frozenset[str] | None],
) -> None:
    """The host of the tunnel is no longer the learned one."""
    source = FixedSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    integration = learning(RESPONSYS, str(LOGIN))
    sidekey = ScriptedPlane(integration, sources={"h": source}, tokens=tokens, leaves=NoCertificateContext())
    caller = sidekey.caller()
    caller.feed(
        b"CONNECT api5.responsys.net:80 HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nSidekey-Token: token\r\n\r\n"
    )
    await settle()
    assert caller.read().startswith(b"HTTP/1.1 200 ")
    target = b"GET /rest/api/v1.3/lists HTTP/1.1\r\nHost: api5.responsys.net\r\n\r\n"
    for _ in range(2):
        caller.feed(target)
        assert await heads(sidekey) == [b"GET /rest/api/v1.3/lists HTTP/1.1\nHost: api5.responsys.net"]
        sidekey.upstreams[0].feed(OK)
        assert caller.read().endswith(b"ok")
    source.grant = grant("https://api6.responsys.net/rest/api/v1.3", "t2")
    caller.feed(target)
    assert await heads(sidekey) == [b""]
    response = caller.read()
    assert response.startswith(b"HTTP/1.1 403 ")
    assert b'"target_denied"' in response
