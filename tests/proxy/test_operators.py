"""Requests of operators need no token, and follow every other rule."""

from __future__ import annotations

from sidekey.diagnostics.probe import probe
from sidekey.proxy.operators import Operator
from sidekey.snapshot.snapshot import TestRequest as Request
from support.plane import AUTHORIZATION, base_url, get, integration, running
from support.presets import post, preset
from support.scripted import RecordingTransport, ScriptedPlane
from support.upstream import OK, RawUpstream


async def test_operator_needs_no_callers_token() -> None:
    async with RawUpstream() as upstream:
        served = integration("h", base_url(upstream.port))
        async with running(served, tokens={"a-token": frozenset()}) as plane:
            outcome = await probe(plane.plane, "h", Request("GET", "/a"))
            assert (outcome.ok, outcome.status) == (True, 200)
            assert (await plane.send(get())).status == 401
        (request,) = upstream.requests
        assert (request.method, request.target) == (b"GET", b"/api/a")
        assert request.values(b"authorization") == [AUTHORIZATION[0][1].encode()]


async def test_operator_obeys_policy_and_methods() -> None:
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port), methods=["GET"])) as plane:
            for name, request, code in (
                ("h", Request("GET", "/../x"), "request_invalid"),
                ("h", Request("POST", "/a"), "method_denied"),
                ("other", Request("GET", "/a"), "integration_denied"),
            ):
                outcome = await probe(plane.plane, name, request)
                assert (outcome.ok, outcome.code) == (False, code)
        assert upstream.requests == []


async def test_only_its_operator_uses_the_draft_of_a_preset() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    operator = RecordingTransport(sidekey.plane.connection(Operator(draft=preset().rules)))
    other = sidekey.caller()
    for caller in (operator, other):
        caller.feed(post(b"[1]", name="draft"))
    upstream = await sidekey.upstream()
    sent = upstream.read()
    assert sent.startswith(b"POST /api/hook HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\n[1]")
    upstream.feed(OK)
    assert operator.read().startswith(b"HTTP/1.1 200 ")
    assert other.read().startswith(b"HTTP/1.1 403 ")
    assert len(sidekey.upstreams) == 1
