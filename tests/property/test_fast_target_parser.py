"""The fast parser of targets agrees with the exact one, and neither admits a path that a server reads as outside."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from sidekey.credentials.base import CredentialTraits, InjectionPoints
from sidekey.errors import Problem
from sidekey.policy import paths
from sidekey.policy.canonical import CanonicalForm
from sidekey.policy.paths import UnreadablePath
from sidekey.policy.targets import Forbidden, Prefix, judge_target, judge_url, upgrade
from sidekey.policy.urls import InvalidTarget, Origin, parse_target
from sidekey.snapshot.snapshot import Integration
from support.admission import admit, head_of
from support.http_strategies import soup
from support.plane import integration
from support.scripted import ScriptedPlane


def under(base: Integration, path: str) -> Integration:
    """Build the integration with a path over all targets, and everything under /api/*/a forbidden."""
    policy = replace(base.policy, path=path, forbidden=(Forbidden(None, "/api/*/a", below=True),))
    return replace(base, policy=policy, base=Prefix(policy.domains[0].origin, path))


INTEGRATIONS = [
    integration("h", "https://up.test/api"),
    integration("h", "https://up.test/api/v1.3/x~y", "https://up.test/other"),
    integration("h", "https://up.test"),
    integration("h", "https://up.test/a%20b"),
    integration("h", domains=["https://up.test"]),
    integration("h", "https://a.up.test/api", domains=["https://*.up.test"]),
    integration("h", "https://up.test/api", forbidden=[("https://up.test", "/api/a")]),
    integration("h", "https://up.test/api", forbidden=[("https://other.test", "/api/a")]),
    integration("h", domains=["https://up.test"], forbidden=[("https://up.test", "/a"), ("https://up.test", "/b/A")]),
    integration("h", domains=["https://up.test"], forbidden=[("https://up.test", "/%61")]),
    integration("h", domains=["https://up.test"], forbidden=[("https://up.test", "/")]),
    under(integration("h", domains=["https://up.test", "https://*.up.test"]), "/api/v1"),
    under(integration("h", domains=["https://up.test"]), "/api/v1/a"),
    integration("h", "https://up.test/oauth2/a", forbidden=[("https://up.test", "/oauth2/a")]),
]


def admitted(served: Integration, rest: str) -> bytes | None:
    """Return the path that would go to the upstream, or None if the request is refused."""

    async def main() -> bytes | None:
        sidekey = ScriptedPlane(served)
        # The integration and the host are known from an earlier request: what the quick reading asks for.
        sidekey.plane.router.find(b"h")
        sidekey.plane.router.is_listener_host(b"h.test")
        result = admit(sidekey.plane, head_of(f"/i/h{rest}"))
        return None if isinstance(result, Problem) else result.path

    return asyncio.run(main())


@given(st.sampled_from(INTEGRATIONS), soup())
@example(INTEGRATIONS[0], "/a/../..")
@example(INTEGRATIONS[2], "//a")
@example(INTEGRATIONS[6], "/a")
@example(INTEGRATIONS[6], "/a/")
@example(INTEGRATIONS[8], "/B/a")
@example(INTEGRATIONS[9], "/a?b")
@example(INTEGRATIONS[10], "/?b")
@example(INTEGRATIONS[11], "/A/a")
@example(INTEGRATIONS[11], "/b")
@example(INTEGRATIONS[12], "/b")
@example(INTEGRATIONS[13], "/")
@example(INTEGRATIONS[13], "/?b")
@example(INTEGRATIONS[13], "")
def test_admission_equals_the_decision_of_the_policy(served: Integration, rest: str) -> None:
    """By either parser, with equal bytes."""
    base = served.base
    assert base is not None
    verdict = judge_url(served.policy, "GET", f"{base}{rest}")
    path = admitted(served, rest)
    assert (path is not None) == verdict.allowed
    if path is not None:
        assert verdict.target is not None
        assert path == verdict.target.request_target.encode("latin-1") == f"{base.path}{rest}".encode("latin-1")
    elif paths.PLAIN_TARGET.fullmatch(rest.encode("latin-1")):
        assert served in INTEGRATIONS[3:]


SPELLING = CanonicalForm("x-amz-")
SPELLED = [
    integration("h", *prefixes, traits=CredentialTraits(InjectionPoints(), canonical_form=SPELLING))
    for prefixes in (["https://up.test/api"], ["https://up.test"], ["https://up.test/a%20b"], ["https://up.test/a~b/"])
]


@given(st.sampled_from(SPELLED), soup())
@example(SPELLED[0], "/a@b")
@example(SPELLED[0], "/a-b/C.d~")
@example(SPELLED[0], "/a?b=c+d")
@example(SPELLED[0], "/a?")
@example(SPELLED[0], "/%2e%2e/b")
@example(SPELLED[1], "/a?x-amz-date=1")
@example(SPELLED[2], "/c=d")
@example(SPELLED[3], "")
def test_canonical_targets_are_admitted_in_canonical_form(served: Integration, rest: str) -> None:
    """At both proxies, byte for byte."""
    base = served.base
    assert base is not None
    verdict = judge_url(served.policy, "GET", f"{base}{rest}", SPELLING.canonicalize)
    expected = None
    if verdict.allowed and verdict.target is not None and not SPELLING.contains_reserved(verdict.target.query or ""):
        expected = verdict.target.request_target.encode("latin-1")
    assert admitted(served, rest) == expected
    result = forwarded(served, f"{base}{rest}")
    assert (None if result is None else result[1]) == expected


AUTHORITIES = [
    "http://up.test",
    "http://up.test:80",
    "https://up.test",
    "https://up.test:443",
    "HTTP://UP.TEST",
    "http://a.up.test",
    "http://evil.test",
    "http://up.test@evil.test",
    "http://up.test.",
]


def forwarded(served: Integration, target: str) -> tuple[Origin, bytes] | None:
    """Return the URL that a forward-proxy request would go to, or None if it is refused."""

    async def main() -> tuple[Origin, bytes] | None:
        sidekey = ScriptedPlane(served)
        result = admit(sidekey.plane, head_of(target, host=b"any", integration_id=b"h"))
        return None if isinstance(result, Problem) else (result.route.origin, result.path)

    return asyncio.run(main())


@given(st.sampled_from(INTEGRATIONS), st.sampled_from(AUTHORITIES), soup())
@example(INTEGRATIONS[0], "http://up.test", "/api")
@example(INTEGRATIONS[0], "http://up.test", "/apix")
@example(INTEGRATIONS[1], "http://up.test:80", "/other/a?b")
@example(INTEGRATIONS[2], "https://up.test", "")
@example(INTEGRATIONS[6], "http://up.test", "/api/a")
@example(INTEGRATIONS[8], "http://up.test", "/b/a")
@example(INTEGRATIONS[11], "https://a.up.test", "/api/v1/x")
@example(INTEGRATIONS[11], "https://up.test", "/api/v1/a")
def test_forward_proxy_admits_as_the_policy_decides(served: Integration, authority: str, rest: str) -> None:
    """After the upgrade to https, with equal origins and bytes."""
    try:
        target = upgrade(served.policy, parse_target(authority + rest))
        verdict = judge_target(served.policy, target)
    except (InvalidTarget, UnreadablePath):
        assert forwarded(served, authority + rest) is None
        return
    expected = (target.origin, target.request_target.encode("latin-1")) if verdict.allowed else None
    assert forwarded(served, authority + rest) == expected


def rewrite(path: str, way: int) -> str:
    """Rewrite a path as a server may do before or after it decodes. Each bit of `way` is a habit."""
    if way & 1:
        path = path.replace("\\", "/")
    if way & 2:
        path = re.sub(";[^/]*", "", path)
    if way & 4:
        path = re.sub("/+", "/", path)
    if way & 8:
        kept: list[str] = []
        for segment in path.split("/")[1:]:
            if segment == "..":
                kept = kept[:-1]
            elif segment != ".":
                kept.append(segment)
        path = "/" + "/".join(kept)
    return path


def read(path: str, ways: list[int]) -> str:
    """Rewrite the path, then decode and rewrite it again for each further way."""
    path = rewrite(path, ways[0])
    for way in ways[1:]:
        path = rewrite(unquote_to_bytes(path.encode("latin-1")).decode("latin-1"), way)
    return path


@given(soup(), st.lists(st.integers(0, 15), min_size=1, max_size=3))
def test_target_that_some_server_reads_as_outside_is_never_admitted(rest: str, ways: list[int]) -> None:
    """An independent parser keeps each admitted path under the prefix."""
    path = admitted(INTEGRATIONS[0], rest)
    if path is not None:
        seen = read(path.decode("latin-1").partition("?")[0], ways)
        assert seen == "/api" or seen.startswith("/api/")
