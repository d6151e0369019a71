"""Metrics by integration: connection attempts, and denials by reason."""

from __future__ import annotations

from typing import Any

from sidekey.errors import Problem, ProblemError
from support.leaves import IssuedLeaves
from support.memory import MemoryUpstream, running
from support.plane import base_url, denied, eventually, get, integration, problem, request
from support.presets import post, preset
from support.private_ca import Authority
from support.scripted import ScriptedPlane, settle
from support.tunnels import connect_request
from support.upstream import OK


def connects(sidekey: Any) -> dict[str, dict[str, int]]:
    """Return the outcomes of connection attempts by integration."""
    return {item.integration: item.connects for item in sidekey.metrics.all_stats() if item.connects}


def denials(sidekey: Any) -> dict[str, dict[str, int]]:
    """Return denied requests by integration and reason."""
    return {item.integration: item.denials for item in sidekey.metrics.all_stats() if item.denials}


async def test_connection_attempt_counts_for_the_integration_that_started_it() -> None:
    """Even if another integration of the pool uses the connection."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("k", url)) as sidekey:
            await sidekey.send(get("/a"))
            await eventually(lambda: sidekey.metrics.upstream_idle == 1)
            await sidekey.send(get("/b", name="k"))
            assert [message.target for message in upstream.requests] == [b"/api/a", b"/api/b"]
            assert connects(sidekey) == {"h": {"ok": 1}}


async def test_retry_counts_its_connection() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get("/0"))
    (await sidekey.upstream()).feed(OK)
    caller.feed(get("/1"))
    sidekey.upstreams[0].finish()
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 2}
    assert connects(sidekey) == {"h": {"ok": 2}}


async def test_passthrough_tunnels_count_for_no_integration() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)), passing=True)
    for user in ("", "h:x"):
        sidekey.caller().feed(connect_request("other.test:443", user=user))
        await settle()
    assert connects(sidekey) == {"-": {"ok": 2}}
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "refused"))
    sidekey.caller().feed(connect_request("other.test:443", user=""))
    await settle()
    assert connects(sidekey) == {"-": {"ok": 2, "connection_refused": 1}}


async def test_denials_count_by_integration_and_reason() -> None:
    """Without an integration if the request names none of the caller's. Other errors do not count."""
    h = integration("h", base_url(1), methods=["GET", "POST"])
    async with running(h, tokens={"t": frozenset({"h"})}, presets=[preset()]) as sidekey:
        token = "Sidekey-Token: t"
        for sent in (
            denied(token),
            denied(token),
            get("/%2e%2e/x", token),
            get("/%00", token),
            request("DELETE", "/a", token),
            get("/x", token, name="k"),
            get("/a"),
            get("/nowhere", token),
            post(b"{}", token),
        ):
            await sidekey.send(sent)
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:444", user="h:t"))
            assert (await raw.response()).status == 403
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:444"))
            assert (await raw.response()).status == 407
        assert denials(sidekey) == {
            "h": {"outside_prefix": 2, "path_ambiguous": 2, "method_not_allowed": 1, "outside_policy": 1},
            "unknown": {"integration_unlisted": 1, "token_missing": 1, "preset_unlisted": 1, "token_unknown": 1},
        }


async def test_denied_address_counts_for_the_integration() -> None:
    async with running(integration("h", "http://10.0.0.1/api"), allow_private=()) as sidekey:
        assert problem(await sidekey.send(get()))["code"] == "destination_denied"
        assert denials(sidekey) == {"h": {"private_address": 1}}
        assert connects(sidekey) == {"h": {"destination_ip_prohibited": 1}}


async def test_requests_count_by_caller_and_outcome() -> None:
    """Denied requests and CONNECT count too. Requests that name no valid caller, or two integrations, do not."""
    tokens = {"t": frozenset({"h"}), "u": None}
    async with (
        MemoryUpstream() as upstream,
        running(integration("h", base_url(upstream.port)), tokens=tokens) as sidekey,
    ):
        for sent in (
            get("/a", "Sidekey-Token: t"),
            get("/a", "Sidekey-Token: u"),
            get("/a", "Sidekey-Token: u"),
            denied("Sidekey-Token: t"),
            get("/a", "Sidekey-Token: t", name="k"),
            get("/a", "Sidekey-Token: t", "X-Integration-Id: k"),
            get("/a", "Sidekey-Token: wrong"),
            get("/a"),
        ):
            await sidekey.send(sent)
        for user in ("h:t", "k:t", "h:wrong"):
            async with sidekey.connect() as raw:
                await raw.send(connect_request("evil.test:444", user=user))
                await raw.until_ended()
        assert sidekey.metrics.callers == {
            "caller0": {"2xx": 1, "target_denied": 2, "integration_denied": 2},
            "caller1": {"2xx": 2},
        }


async def test_request_in_a_tunnel_counts_for_the_caller_of_the_connect(ca: Authority) -> None:
    """The CONNECT counts as a tunnel."""
    sidekey = ScriptedPlane(integration("h", base_url(80, "/api")), tokens={"t": None}, leaves=IssuedLeaves(ca))
    caller = sidekey.caller()
    caller.feed(connect_request("up.test:80", user="h:t"))
    await settle()
    assert caller.written.startswith(b"HTTP/1.1 200 ")
    caller.feed(b"GET /api/a HTTP/1.1\r\nHost: up.test:80\r\n\r\n")
    (await sidekey.upstream()).feed(OK)
    assert sidekey.metrics.callers == {"caller0": {"2xx": 1}}


async def test_without_callers_no_caller_is_counted() -> None:
    """Even if the request has a token."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.send(get("/a", "Sidekey-Token: t"))
        assert sidekey.metrics.callers == {}
