"""What is counted by integration: attempts to connect, and denials by their reason."""

from __future__ import annotations

from typing import Any

from sidekey.errors import Problem, ProblemError
from support.leaves import IssuedLeaves
from support.memory import Upstream, running
from support.plane import base_url, denied, eventually, get, integration, problem, request
from support.presets import post, preset
from support.private_ca import Authority
from support.scripted import Scripted, settle
from support.tunnels import connect_request
from support.upstream import OK


def connects(sidekey: Any) -> dict[str, dict[str, int]]:
    """What came of attempts to connect, by integration."""
    return {each.integration: each.connects for each in sidekey.metrics.all_stats() if each.connects}


def denials(sidekey: Any) -> dict[str, dict[str, int]]:
    """Denied requests by integration and reason."""
    return {each.integration: each.denials for each in sidekey.metrics.all_stats() if each.denials}


async def test_an_attempt_to_connect_counts_for_whose_request_began_it() -> None:
    """Also where another one, with which it shares the pool, comes to use the connection."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("k", url)) as sidekey:
            await sidekey.ask(get("/a"))
            await eventually(lambda: sidekey.metrics.upstream_idle == 1)
            await sidekey.ask(get("/b", name="k"))
            assert [message.target for message in upstream.requests] == [b"/api/a", b"/api/b"]
            assert connects(sidekey) == {"h": {"ok": 1}}


async def test_a_request_that_is_sent_again_counts_its_second_connection() -> None:
    """A kept connection had closed."""
    sidekey = Scripted(integration("h", base_url(1)))
    caller = sidekey.caller()
    caller.feed(get("/0"))
    (await sidekey.upstream()).feed(OK)
    caller.feed(get("/1"))
    sidekey.upstreams[0].finish()
    (await sidekey.upstream(1)).feed(OK)
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 2}
    assert connects(sidekey) == {"h": {"ok": 2}}


async def test_tunnels_whose_bytes_pass_count_for_nobody() -> None:
    """As their requests do that pass without an integration."""
    sidekey = Scripted(integration("h", base_url(1)), passing=True)
    for user in ("", "h:x"):
        sidekey.caller().feed(connect_request("other.test:443", user=user))
        await settle()
    assert connects(sidekey) == {"-": {"ok": 2}}
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "refused"))
    sidekey.caller().feed(connect_request("other.test:443", user=""))
    await settle()
    assert connects(sidekey) == {"-": {"ok": 2, "connection_refused": 1}}


async def test_denials_count_by_integration_and_reason() -> None:
    """Of no integration where none was named that the caller may use; what is no denial counts as none."""
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
            await sidekey.ask(sent)
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


async def test_an_address_that_may_not_be_dialled_counts_for_the_integration() -> None:
    """Which is known only once its name was looked up."""
    async with running(integration("h", "http://10.0.0.1/api"), allow_private=()) as sidekey:
        assert problem(await sidekey.ask(get()))["code"] == "destination_denied"
        assert denials(sidekey) == {"h": {"private_address": 1}}
        assert connects(sidekey) == {"h": {"destination_ip_prohibited": 1}}


async def test_requests_count_by_caller_and_outcome() -> None:
    """Denied requests and CONNECT count too. Requests that name no valid caller, or two integrations, do not."""
    tokens = {"t": frozenset({"h"}), "u": None}
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port)), tokens=tokens) as sidekey:
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
            await sidekey.ask(sent)
        for user in ("h:t", "k:t", "h:wrong"):
            async with sidekey.connect() as raw:
                await raw.send(connect_request("evil.test:444", user=user))
                await raw.until_ended()
        assert sidekey.metrics.callers == {
            "caller0": {"2xx": 1, "target_denied": 2, "integration_denied": 2},
            "caller1": {"2xx": 2},
        }


async def test_a_request_in_a_tunnel_counts_for_the_caller_that_opened_it(ca: Authority) -> None:
    """Whose token it was opened with; the tunnel itself counts as a tunnel."""
    sidekey = Scripted(integration("h", base_url(80, "/api")), tokens={"t": None}, leaves=IssuedLeaves(ca))
    caller = sidekey.caller()
    caller.feed(connect_request("up.test:80", user="h:t"))
    await settle()
    assert caller.written.startswith(b"HTTP/1.1 200 ")
    caller.feed(b"GET /api/a HTTP/1.1\r\nHost: up.test:80\r\n\r\n")
    (await sidekey.upstream()).feed(OK)
    assert sidekey.metrics.callers == {"caller0": {"2xx": 1}}


async def test_without_callers_none_is_counted() -> None:
    """A token that is sent all the same says nothing."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.ask(get("/a", "Sidekey-Token: t"))
        assert sidekey.metrics.callers == {}
