"""Where a grant tells the base URL: targets are judged before it, and again by what it brought."""

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
from support.scripted import Awaited, Certificate, Scripted, settle
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


async def heads(sidekey: Scripted) -> list[bytes]:
    """Request line and Host of what each upstream connection was written."""
    await settle()
    return [b"\n".join(each.take().split(b"\r\n")[:2]) for each in sidekey.upstreams]


@pytest.mark.parametrize("door", ["reverse", "forward", "forward http", "forward to the endpoint"])
async def test_the_first_request_goes_where_the_login_says(door: str) -> None:
    """Cold or warm, by either door: the origin is replaced, path and query are those that were sent."""
    requests = {
        "reverse": get("/campaigns?a=1"),
        "forward": forward("https://login2.responsys.net/rest/api/v1.3/campaigns?a=1"),
        "forward http": forward("http://login2.responsys.net/rest/api/v1.3/campaigns?a=1"),
        "forward to the endpoint": forward("https://api5.responsys.net/rest/api/v1.3/campaigns?a=1"),
    }
    source = Awaited(grant("https://api5.responsys.net/rest/api/v1.3"))
    sidekey = Scripted(learning(RESPONSYS, str(LOGIN)), sources={"h": source})
    caller = sidekey.caller()
    caller.feed(requests[door])
    await settle()
    assert (sidekey.upstreams, source.asked) == ([], 1)
    source.go.set()
    wanted = b"GET /rest/api/v1.3/campaigns?a=1 HTTP/1.1\nHost: api5.responsys.net"
    assert await heads(sidekey) == [wanted]
    sidekey.upstreams[0].feed(OK)
    caller.feed(requests[door])
    assert await heads(sidekey) == [wanted]


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
async def test_what_can_never_be_allowed_fetches_no_token(request_bytes: bytes) -> None:
    """Paths are judged before the grant."""
    source = Awaited(grant("https://api5.responsys.net/rest/api/v1.3"))
    async with running(learning(RESPONSYS, str(LOGIN)), sources={"h": source}) as sidekey:
        answer = await sidekey.ask(request_bytes)
        assert problem(answer)["code"] in ("target_denied", "request_invalid")
        assert source.asked == 0


async def test_a_target_that_is_not_the_learnt_host_is_denied_after_all() -> None:
    """It might have been; the response of the login decides."""
    source = Awaited(grant("https://api5.responsys.net/rest/api/v1.3"))
    source.go.set()
    async with running(learning(RESPONSYS, str(LOGIN)), sources={"h": source}) as sidekey:
        for _ in range(2):
            answer = await sidekey.ask(forward("https://api6.responsys.net/rest/api/v1.3/x"))
            assert (problem(answer)["code"], problem(answer)["sent"]) == ("target_denied", "no")
        assert source.asked == 1


async def test_a_new_base_moves_every_target_from_then_on() -> None:
    """What was remembered of targets goes with the old one."""
    source = FixedSource(grant("https://a.rest.example/v1"))
    sidekey = Scripted(learning(MARKETING, "https://auth.example"), sources={"h": source})
    caller = sidekey.caller()
    for number, base in enumerate(("a.rest.example/v1", "b.rest.example", "a.rest.example/v1")):
        source.grant = grant(f"https://{base}", f"t{number}")
        for _ in range(2):
            caller.feed(get("/x"))
            await settle()
            ((upstream, written),) = [(each, data) for each in sidekey.upstreams if (data := each.take())]
            host, _, path = base.partition("/")
            assert written.startswith(f"GET {path and '/'}{path}/x HTTP/1.1\r\nHost: {host}\r\n".encode())
            assert b"\r\nAuthorization: t%d\r\n" % number in written
            upstream.feed(OK)


async def test_a_forbidden_path_is_denied_under_a_learnt_base_too() -> None:
    """By the quick reading and the exact one alike."""
    source = FixedSource(grant("https://auth.example"))
    async with running(learning(MARKETING, "https://auth.example"), sources={"h": source}) as sidekey:
        for path in ("/v2/token", "/v2/Token?x", "/v2/%74oken"):
            assert problem(await sidekey.ask(get(path)))["code"] == "target_denied"
        for path in ("/x/../v2/token", "/v2/token;x"):
            assert problem(await sidekey.ask(get(path)))["code"] == "request_invalid"


async def test_every_request_that_waited_is_judged_by_what_the_login_told() -> None:
    """Not only the one that heard it first: a host that was allowed until then gets nothing."""
    source = Awaited(grant("https://api5.responsys.net/rest/api/v1.3"))
    sidekey = Scripted(learning(RESPONSYS, str(LOGIN)), sources={"h": source})
    callers = [sidekey.caller() for _ in range(3)]
    for caller, raw in zip(
        callers,
        (get("/x"), get("/y"), forward("https://api6.responsys.net/rest/api/v1.3/z")),
        strict=True,
    ):
        caller.feed(raw)
    await settle()
    assert (sidekey.upstreams, source.asked) == ([], 3)
    source.go.set()
    assert sorted(await heads(sidekey)) == [
        b"GET /rest/api/v1.3/%b HTTP/1.1\nHost: api5.responsys.net" % path for path in (b"x", b"y")
    ]
    assert callers[2].take().startswith(b"HTTP/1.1 403 ")


async def test_every_request_that_is_replayed_goes_where_the_newer_grant_says() -> None:
    """Not only the one that heard it first: no other may take the new credential to the old host."""
    source = Awaited(grant("https://a.rest.example"), there=True)
    source.refreshed = grant("https://b.rest.example", "t2")
    sidekey = Scripted(learning(MARKETING, "https://auth.example"), sources={"h": source})
    for path in ("/x", "/y"):
        sidekey.caller().feed(get(path))
    assert len(await heads(sidekey)) == 2
    for upstream in sidekey.upstreams:
        upstream.feed(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    await settle()
    source.go.set()
    _, _, *new = await heads(sidekey)
    assert sorted(new) == [b"GET /%b HTTP/1.1\nHost: b.rest.example" % path for path in (b"x", b"y")]


async def test_a_request_that_waited_for_its_certificate_goes_where_the_newest_grant_says() -> None:
    """Another request has heard of the new base meanwhile: the new credential must not go to the old one."""
    source = FixedSource(grant("https://a.rest.example", "t1"))
    certificate = Certificate(later="late")
    sidekey = Scripted(
        learning(MARKETING, "https://auth.example"), sources={"h": source}, identities={"h": certificate}
    )
    sidekey.caller().feed(get("/x"))
    await settle()
    source.grant = grant("https://b.rest.example", "t2")
    sidekey.caller().feed(get("/y"))
    await settle()
    assert (sidekey.upstreams, certificate.asked) == ([], 2)
    certificate.go.set()
    assert sorted(await heads(sidekey)) == [b"GET /%b HTTP/1.1\nHost: b.rest.example" % path for path in (b"x", b"y")]


async def test_a_request_that_waited_for_its_connection_goes_where_the_newest_grant_says() -> None:
    """Likewise: the connection to the old one is declined, and gets nothing."""
    source = FixedSource(grant("https://a.rest.example", "t1"))
    sidekey = Scripted(learning(MARKETING, "https://auth.example"), sources={"h": source})
    made = asyncio.get_running_loop().create_future()
    sidekey.dialer.turns.append(made)
    sidekey.caller().feed(get("/x"))
    await settle()
    source.grant = grant("https://b.rest.example", "t2")
    sidekey.caller().feed(get("/y"))
    assert await heads(sidekey) == [b"GET /y HTTP/1.1\nHost: b.rest.example"]
    made.set_result(None)
    assert await heads(sidekey) == [b"", b"", b"GET /x HTTP/1.1\nHost: b.rest.example"]


async def test_a_defect_of_a_newer_grant_concerns_only_the_request_that_takes_it() -> None:
    """A connection was offered to it, since it waited; the exchange that gave it back knows nothing of that."""
    source = FixedSource(grant("https://a.rest.example"))
    sidekey = Scripted(learning(MARKETING, "https://auth.example"), sources={"h": source})
    first, waiting = sidekey.caller(), sidekey.caller()
    first.feed(get())
    upstream = await sidekey.upstream()
    sidekey.dialer.go.clear()
    waiting.feed(get())
    await settle()
    source.grant = grant("https://another.example")
    upstream.feed(OK)
    assert first.take().endswith(b"ok")
    await settle()
    assert waiting.take().startswith(b"HTTP/1.1 500 ")
    assert [each.transport for each in sidekey.pooled()] == [upstream]
    assert sidekey.metrics.in_flight == 0
    assert [type(defect) for defect in sidekey.defects] == [ValueError]
    sidekey.defects.clear()


class Unissued(NoLeaves):
    """A context without a certificate, for tunnels that carry plain HTTP."""

    def context_for(self, host: str) -> ssl.SSLContext | None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize("tokens", [{}, {"token": None}], ids=["no callers", "a caller"])
async def test_a_known_target_in_a_tunnel_is_judged_by_its_whole_url_once_a_grant_moves_the_base(
    tokens: dict[str, frozenset[str] | None],
) -> None:
    """The host of the tunnel is not the learnt one any more: no other URL may be made of the path."""
    source = FixedSource(grant("https://api5.responsys.net/rest/api/v1.3"))
    integration = learning(RESPONSYS, str(LOGIN))
    sidekey = Scripted(integration, sources={"h": source}, tokens=tokens, leaves=Unissued())
    caller = sidekey.caller()
    caller.feed(
        b"CONNECT api5.responsys.net:80 HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\nSidekey-Token: token\r\n\r\n"
    )
    await settle()
    assert caller.take().startswith(b"HTTP/1.1 200 ")
    target = b"GET /rest/api/v1.3/lists HTTP/1.1\r\nHost: api5.responsys.net\r\n\r\n"
    for _ in range(2):
        caller.feed(target)
        assert await heads(sidekey) == [b"GET /rest/api/v1.3/lists HTTP/1.1\nHost: api5.responsys.net"]
        sidekey.upstreams[0].feed(OK)
        assert caller.take().endswith(b"ok")
    source.grant = grant("https://api6.responsys.net/rest/api/v1.3", "t2")
    caller.feed(target)
    assert await heads(sidekey) == [b""]
    answer = caller.take()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b'"target_denied"' in answer
