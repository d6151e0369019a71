"""Compiled integrations of the hot path."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.policy.headers import TARGET_FIELDS
from sidekey.policy.targets import Forbidden, Policy, parse_domain, parse_prefix
from sidekey.policy.urls import Origin, Target
from sidekey.proxy.routing.compiled import CompiledIntegration, fast_base, forbidden_segments
from support.memory import MemoryUpstream, running
from support.plane import FixedSource, base_url, get, integration, request
from support.scripted import ScriptedPlane, settle

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
        (Policy(prefixes=(BASE,), forbidden=(Forbidden(BASE.origin, "/token"),)), BASE, True),
        (Policy(domains=(parse_domain("https://a.test"),), path="/api"), BASE, True),
        (Policy(domains=(parse_domain("https://a.test"),), path="/api/v1"), BASE, False),
        (Policy(prefixes=(parse_prefix("https://a.test/a%20b"),)), parse_prefix("https://a.test/a%20b"), False),
        (Policy(prefixes=(parse_prefix("https://a.test/a;b"),)), parse_prefix("https://a.test/a;b"), False),
        (Policy(prefixes=(parse_prefix("https://a.test/other"),)), BASE, False),
        (Policy(), BASE, False),
    ],
)
def test_fast_parser_serves_only_plain_prefixes(policy: Policy, base: object, quick: bool) -> None:
    """Other rules need the full parser."""
    assert fast_base(policy, base) is quick  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paths", "marks"),
    [
        ([], ()),
        (["/oauth2/Token"], (b"/token",)),
        (["/oauth2/token/", "/rest/api/*/auth"], (b"/token", b"/auth")),
        (["/"], None),
        (["/a/*"], None),
        (["/to%6ben"], None),
        (["/a;b/token"], None),
    ],
)
def test_plain_path_without_a_forbidden_segment_is_allowed(paths: list[str], marks: object) -> None:
    """The last segment decides, in any case. If a forbidden path is not plain, only the full parser decides."""
    assert forbidden_segments(Policy(forbidden=tuple(Forbidden(BASE.origin, path) for path in paths))) == marks


def test_forbidden_path_of_an_unrelated_host_is_ignored() -> None:
    """Unless grants set the host."""
    policy = Policy(prefixes=(BASE,), forbidden=(Forbidden(Origin("https", "sts.test", 443), "/", below=True),))
    assert forbidden_segments(policy) == ()
    assert forbidden_segments(replace(policy, placeholder_origin=BASE.origin)) is None
    assert forbidden_segments(replace(policy, forbidden=(Forbidden(None, "/"),))) is None


async def test_a_grant_is_compiled_for_the_origin_of_a_route() -> None:
    """Host and fields byte for byte, and the normalized names that no field of the caller may have."""
    grant = Grant(headers=(("X_Key", "1"), ("X-Other", "\xe9")))
    async with running(integration("h", "https://a.test/api", headers=grant.headers)) as sidekey:
        served = sidekey.plane.router.find(b"h")
        assert served is not None
        route = served.route(Origin("https", "b.test", 8443))
        route.compile(grant, None)
        assert served.removed_headers == {b"x-key", b"x-other", *TARGET_FIELDS}
        assert route.injected == b"\r\nHost: b.test:8443\r\nX_Key: 1\r\nX-Other: \xe9"


async def test_a_new_grant_replaces_the_old_one_on_every_route() -> None:
    """From the next request on, at both proxies."""
    source = FixedSource(Grant(headers=(("X-Key", "1"),)))
    async with MemoryUpstream() as upstream, MemoryUpstream() as other:
        urls = [base_url(upstream.port), base_url(other.port)]
        configured = integration("h", *urls, headers=(("X-Key", ""),))
        async with running(configured, sources={"h": source}) as sidekey:
            for _ in range(2):
                await sidekey.send(get("/a", "X-Key: mine"))
                await sidekey.send(f"GET {urls[1]}/a HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n".encode())
                source.grant = Grant(headers=(("X-Key", "2"),))
    for received in (upstream.requests, other.requests):
        assert [message.values(b"x-key") for message in received] == [[b"1"], [b"2"]]


async def test_routes_are_bounded() -> None:
    """A wildcard domain allows any number of hosts."""
    async with running(integration("h", "https://a.test/api")) as sidekey:
        served = sidekey.plane.router.find(b"h")
        assert served is not None
        for number in range(3 * CompiledIntegration.ROUTES):
            served.route(Origin("https", f"h{number}.a.test", 443))
        assert len(served.routes) <= CompiledIntegration.ROUTES


async def test_routes_of_the_config_are_never_evicted() -> None:
    prefixes = [f"https://h{number}.a.test/api" for number in range(CompiledIntegration.ROUTES + 50)]
    async with running(integration("h", *prefixes)) as sidekey:
        served = sidekey.plane.router.find(b"h")
        assert served is not None
        compiled = {route.origin: route for route, _ in served._fast_entries.values()}
        assert served._base_route is compiled[served._base_route.origin] if served._base_route else False
        for number in range(3):
            served.route(Origin("https", f"h{number}.b.test", 443))
        assert compiled.items() <= {route.origin: route for route in served.routes}.items()
        assert len(compiled) == len(prefixes)


@pytest.mark.parametrize("method", ["M-SEARCH", "PROPFIND", "QUERY", "REPORT", "SOURCE", "LINK"])
async def test_every_method_passes_without_methods(method: str) -> None:
    """Except TRACE and CONNECT."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).status == 200
        assert (await sidekey.send(request(method))).status == 200
        assert upstream.requests[1].method == method.encode()


@pytest.mark.parametrize(
    ("prefix", "authority", "quick"),
    [
        ("https://a.test/api", "https://a.test", True),
        ("https://a.test/api", "http://a.test", True),
        ("https://a.test/api", "http://a.test:80", True),
        ("https://a.test/api", "http://a.test:443", False),
        ("https://a.test/api", "http://a.test:81", False),
        ("https://a.test:8443/api", "https://a.test:8443", True),
        ("https://a.test:8443/api", "http://a.test", False),
        ("http://a.test/api", "http://a.test", True),
        ("http://a.test/api", "https://a.test", False),
    ],
)
async def test_fast_parser_serves_forward_targets(prefix: str, authority: str, quick: bool) -> None:
    """Also upgraded `http://` targets. Others need the full parser."""
    async with running(integration("h", prefix)) as sidekey:
        served = sidekey.plane.router.find(b"h")
        assert served is not None
        target = served.match_fast(authority.encode() + b"/api/x?y", forward=True)
        origin = parse_prefix(prefix).origin
        assert target == (Target(origin, "/api/x", "y") if quick else None)


@pytest.mark.parametrize(
    ("domain", "authority", "quick"),
    [
        ("https://a.test", "https://a.test", True),
        ("https://a.test", "http://a.test", True),
        ("https://*.a.test", "https://b.a.test", False),
        ("https://*.a.test", "https://a.test", False),
        ("https://*.a.test", "https://*.a.test", False),
    ],
)
async def test_fast_parser_serves_an_allowed_domain_of_one_host(domain: str, authority: str, quick: bool) -> None:
    """The hosts of a wildcard are not known in advance."""
    async with running(integration("h", domains=[domain])) as sidekey:
        served = sidekey.plane.router.find(b"h")
        assert served is not None
        target = served.match_fast(authority.encode() + b"/x", forward=True)
        assert target == (Target(Origin("https", "a.test", 443), "/x", None) if quick else None)


UNWRITABLE = Grant(headers=(("Authorization", "\u2603"),))
"""Text of a grant is latin-1."""
ELSEWHERE = Grant(base_url="https://elsewhere.test/api")
"""No allowed domain covers it."""


@pytest.mark.parametrize(
    ("traits", "grant", "error"),
    [
        (CredentialTraits(InjectionPoints(headers=("Authorization",))), UNWRITABLE, UnicodeEncodeError),
        (CredentialTraits(InjectionPoints(headers=("Authorization",)), discovers_base_url=True), ELSEWHERE, ValueError),
    ],
    ids=["header", "base URL"],
)
async def test_unusable_grant_is_a_defect_in_every_request(
    traits: CredentialTraits, grant: Grant, error: type[Exception]
) -> None:
    unusable = integration("h", base_url(1), traits=traits)
    if traits.discovers_base_url:
        unusable = integration("h", domains=("https://up.test",), traits=traits)
    sidekey = ScriptedPlane(unusable, sources={"h": FixedSource(grant)})
    for _ in range(3):
        caller = sidekey.caller()
        caller.feed(get())
        await settle()
        assert caller.read().startswith(b"HTTP/1.1 500 ")
    assert all(not upstream.written for upstream in sidekey.upstreams)
    assert [type(defect) for defect in sidekey.defects] == [error] * 3
    assert sidekey.metrics.in_flight == 0
