"""CONNECT and its response: error responses, and bytes after them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sidekey.errors import RESPONSE_KINDS
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.request_rules import Timeouts
from support.leaves import IssuedLeaves, NoLeaves
from support.plane import UPSTREAM, base_url, eventually, integration, running
from support.private_ca import Authority
from support.scripted import ScriptedDialer, ScriptedPlane, settle
from support.tunnels import connect_request, problem_of, tunnel, tunnel_get
from support.upstream import RawUpstream
from support.wire import first_response

P = TypeVar("P", bound=asyncio.Protocol)


REFUSED = {
    "a path": (b"CONNECT up.test:443/x HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "a scheme": (b"CONNECT https://up.test:443 HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "userinfo": (b"CONNECT a@up.test:443 HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "no port": (b"CONNECT up.test HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "an empty port": (b"CONNECT up.test: HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "port 0": (b"CONNECT up.test:0 HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "a body": (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n", 400, "request_invalid"),
    "an empty body": (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n", 400, "request_invalid"),
    "chunks": (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", 400, "request_invalid"),
    "no ID": (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\n", 407, "integration_required"),
    "nobody": (b"CONNECT up.test:443 HTTP/1.1\r\nProxy-Authorization: Basic LTp4\r\n", 407, "integration_required"),
    "an unknown ID": (b"CONNECT up.test:443 HTTP/1.1\r\nX-Integration-Id: z\r\n", 403, "integration_denied"),
    "two IDs": (
        b"CONNECT up.test:443 HTTP/1.1\r\nX-Integration-Id: z\r\nProxy-Authorization: Basic aDp4\r\n",
        400,
        "request_invalid",
    ),
    "another host": (b"CONNECT evil.test:443 HTTP/1.1\r\nX-Integration-Id: h\r\n", 403, "target_denied"),
    "another port": (b"CONNECT up.test:444 HTTP/1.1\r\nX-Integration-Id: h\r\n", 403, "target_denied"),
    "a trailing dot": (b"CONNECT up.test.:443 HTTP/1.1\r\nX-Integration-Id: h\r\n", 403, "target_denied"),
    "a loop": (b"CONNECT up.test:443 HTTP/1.1\r\nX-Integration-Id: h\r\nVia: 1.1 WORD\r\n", 502, "loop_detected"),
    "no CA": (b"CONNECT up.test:443 HTTP/1.1\r\nX-Integration-Id: h\r\n", 502, "ca_unavailable"),
    "HTTP/1.0": (b"CONNECT evil.test:443 HTTP/1.0\r\nX-Integration-Id: h\r\n", 403, "target_denied"),
    "two Hosts": (b"CONNECT up.test:443 HTTP/1.1\r\nHost: x\r\nHost: x\r\n", 400, "request_invalid"),
    "one ID twice": (b"CONNECT up.test:443 HTTP/1.1\r\n" + 2 * b"X-Integration-Id: h\r\n", 400, "request_invalid"),
    "two lengths": (b"CONNECT up.test:443 HTTP/1.1\r\n" + 2 * b"Content-Length: 0\r\n", 400, "request_invalid"),
    "a field without a name": (b"CONNECT up.test:443 HTTP/1.1\r\n: x\r\n", 400, "request_invalid"),
    "a character that no target has": (b"CONNECT up.test:443\\ HTTP/1.1\r\nHost: x\r\n", 400, "request_invalid"),
    "another protocol": (b"CONNECT up.test:443 RTSP/1.0\r\nHost: x\r\n", 400, "request_invalid"),
    "too many members": (b"CONNECT up.test:443 HTTP/1.1\r\nVia: %b\r\n" % (b"a," * 300), 431, "request_too_large"),
    "too long a target": (b"CONNECT %b:443 HTTP/1.1\r\n" % (b"a" * 20_000), 414, "request_too_large"),
    "HTTP/2.0": (b"CONNECT up.test:443 HTTP/2.0\r\nX-Integration-Id: h\r\n", 505, "not_implemented"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("earlier", [False, True])
async def test_status_line_of_a_refused_connect_has_the_reason(case: str, tmp_path: Path, *, earlier: bool) -> None:
    """Sidekey contacts nobody, and closes the connection after it has read the caller's bytes.

    Also after an error of the parser, and after another request on the connection.
    """
    head, status, code = REFUSED[case]
    async with running(integration("h", "https://up.test/api"), log=tmp_path / "log") as sidekey:
        async with sidekey.connect() as raw:
            if earlier:
                await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await raw.response()).status == 404
                raw.received.clear()
                raw.consumed = 0
            await raw.send(head.replace(b"WORD", b"sidekey (%b)" % sidekey.plane.worker.instance) + b"\r\n")
            response = await raw.response()
            assert response.status == status
            error = problem_of(response)
            assert error["code"] == code
            assert raw.received.startswith(f"HTTP/1.1 {status} {code}: {error['title']}\r\n".encode())
            assert response.values(b"proxy-authenticate") == ([b'Basic realm="sidekey"'] if status == 407 else [])
            assert response.values(b"connection") == [b"close"]
            await raw.until_ended()
        assert sidekey.metrics.tunnel_outcomes == {}


async def test_a_refused_connect_is_counted_and_logged_with_host_and_id(tmp_path: Path) -> None:
    async with running(integration("h", "https://up.test/api"), log=tmp_path / "log", access="errors") as sidekey:
        async with sidekey.connect() as raw:
            await raw.send(connect_request("evil.test:443"))
            await raw.until_ended()
        await sidekey.wait_for_outcomes("h", target_denied=1)
        assert not any(sidekey.metrics.connections.buckets)
    await eventually((tmp_path / "log").read_text)
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    expected = {"door": "tunnel", "method": "CONNECT", "host": "evil.test", "integration": "h", "code": "target_denied"}
    assert {**expected, "port": 443, "error": "http_request_denied"}.items() <= line.items()
    assert line["reason"] == "no target at this host and port is inside the integration's policy"
    assert line["bytes_in"] == 0
    assert line["bytes_out"] > 0
    assert line["connect"] is None


async def test_bytes_after_a_refused_connect_are_never_a_request(ca: Authority) -> None:
    """The client meant them for the host of the tunnel."""
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as raw:
            inside = b"GET /i/h/a HTTP/1.1\r\nHost: h.test\r\n\r\n"
            await raw.send(connect_request("evil.test:443") + inside)
            assert (await raw.response()).status == 403
            await raw.until_ended()
            assert raw.received.count(b"HTTP/1.1") == 1
        assert upstream.received == []


async def test_refusal_reaches_a_caller_that_keeps_sending() -> None:
    async with running(integration("h", "https://up.test/api")) as sidekey:
        for number in range(1, 5):
            async with sidekey.connect() as raw:
                raw.transport.pause_reading()
                await raw.send(connect_request("evil.test:443"))
                await sidekey.wait_for_outcomes("h", target_denied=number)
                for _ in range(20):
                    await raw.send(bytes(1 << 20))
                raw.transport.resume_reading()
                assert (await raw.response()).status == 403


async def test_password_identifies_the_caller(ca: Authority) -> None:
    """Before the ID. Inside the tunnel the token of the CONNECT applies, and another one is an error."""
    async with running(
        integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), tokens={"one": frozenset({"h"}), "two": None}
    ) as sidekey:
        refused = await sidekey.send(connect_request("up.test:443", user="h:x"))
        assert (refused.status, problem_of(refused)["code"]) == (407, "caller_denied")
        async with tunnel(sidekey, ca, "up.test:443", user="h:one") as caller:
            await caller.send(tunnel_get(443, "/x", host="up.test"))
            assert problem_of(await caller.response())["code"] == "target_denied"
            await caller.send(tunnel_get(443, "/x", "Sidekey-Token: two", host="up.test"))
            assert problem_of(await caller.response())["code"] == "request_invalid"


class SlowLeaves(IssuedLeaves):
    """Issues leaves on command."""

    def __init__(self, ca: Authority) -> None:
        super().__init__(ca)
        self.go = asyncio.Event()

    async def obtain(self, host: str) -> ssl.SSLContext:
        self.hosts.append(host)
        await self.go.wait()
        return await super().obtain(host)


async def test_leaf_is_issued_before_200(ca: Authority) -> None:
    """And only once."""
    leaves = SlowLeaves(ca)
    async with running(integration("h", "https://up.test/api"), leaves=leaves) as sidekey, sidekey.connect() as raw:
        await raw.send(connect_request("up.test:443"))
        await eventually(lambda: leaves.hosts)
        assert not raw.received
        leaves.go.set()
        assert (await raw.response(to_head=True)).status == 200
        async with tunnel(sidekey, ca, "up.test:443"):
            assert leaves.hosts == ["up.test"] * 2


async def test_leaf_that_takes_longer_than_timeouts_connect_is_503(ca: Authority) -> None:
    """Later tunnels get the leaf."""
    leaves = SlowLeaves(ca)
    async with running(integration("h", "https://up.test/api"), leaves=leaves, timeouts=Timeouts(connect=1)) as sidekey:
        refused = await sidekey.send(connect_request("up.test:443"))
        assert (refused.status, refused.values(b"retry-after")) == (503, [b"1"])
        error = problem_of(refused)
        assert (error["code"], error["detail"]) == (
            "overloaded",
            "the certificate for the host was not signed within timeouts.connect",
        )
        assert sidekey.plane.worker.tunnel_count == 0
        leaves.go.set()
        async with tunnel(sidekey, ca, "up.test:443"):
            pass


async def test_caller_that_leaves_before_the_leaf_is_counted(ca: Authority) -> None:
    """Sidekey does not read meanwhile, and finds the reset when it writes 200."""
    leaves = SlowLeaves(ca)
    async with running(integration("h", "https://up.test/api"), leaves=leaves) as sidekey:
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:443"))
            await eventually(lambda: leaves.hosts)
            raw.reset()
        leaves.go.set()
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert sidekey.metrics.tunnel_outcomes == {("h", "caller_gone"): 1}
        assert not any(sidekey.metrics.tunnels.values())


async def test_requests_before_a_connect_are_answered_first(ca: Authority) -> None:
    """In order. Bytes after the CONNECT belong to the tunnel."""
    async with RawUpstream() as upstream:
        authority = f"{UPSTREAM}:{upstream.port}"
        async with (
            running(integration("h", base_url(upstream.port)), leaves=IssuedLeaves(ca)) as sidekey,
            sidekey.connect() as raw,
        ):
            first = b"GET /i/h/first HTTP/1.1\r\nHost: h.test\r\n\r\n"
            await raw.send(first * 20 + connect_request(authority) + tunnel_get(upstream.port))
            for _ in range(20):
                assert (await raw.response()).body == b"ok"
            assert (await raw.response(to_head=True)).status == 200
            assert (await raw.response()).body == b"ok"
        assert [message.target for message in upstream.requests] == [b"/api/first"] * 20 + [b"/api/a"]


def test_every_code_has_a_phrase_of_its_own() -> None:
    """Visible ASCII and spaces (RFC 9112 4)."""
    for kind in RESPONSE_KINDS.values():
        assert f"{kind.code}: {kind.title}".isascii()
        assert f"{kind.code}: {kind.title}".isprintable()


class ClosingDialer(ScriptedDialer):
    """Connects, and closes at once."""

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, **given: Any) -> P:
        protocol = await super().connect(factory, origin, egress, **given)
        self.transports[-1].fail(ConnectionResetError())
        await settle()
        return protocol


async def test_target_that_closes_at_once_is_502() -> None:
    """No tunnel is counted as open."""
    sidekey = ScriptedPlane(passing=True, dialer=ClosingDialer())
    caller = sidekey.caller()
    caller.feed(connect_request("other.test:443", user=""))
    await eventually(lambda: caller.written)
    response = first_response(caller.read())
    assert response is not None
    error = problem_of(response)
    assert (response.status, error["code"]) == (502, "upstream_unreachable")
    assert error["detail"] == "the upstream closed the connection at once"
    assert sidekey.upstreams[0].aborted
    assert sidekey.metrics.tunnel_outcomes == {}
    assert not any(sidekey.metrics.tunnels.values())


async def test_a_connect_that_waits_for_its_leaf_when_the_drain_begins_is_refused(ca: Authority) -> None:
    """The caller can retry elsewhere at once, and the drain need not wait for the first byte."""
    leaves = SlowLeaves(ca)
    async with running(integration("h", "https://up.test/api"), leaves=leaves) as sidekey, sidekey.connect() as raw:
        await raw.send(connect_request("up.test:443"))
        await eventually(lambda: leaves.hosts)
        sidekey.plane.drain()
        finished = asyncio.ensure_future(sidekey.plane.finish(5))
        leaves.go.set()
        response = await raw.response()
        assert (response.status, problem_of(response)["detail"]) == (503, "Sidekey is stopping")
        await raw.until_ended()
        raw.close()
        assert await finished
        assert sidekey.metrics.tunnel_outcomes == {}


class SlowDialer(ScriptedDialer):
    """Connects on command."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, **given: Any) -> P:
        protocol = await super().connect(factory, origin, egress, **given)
        await self.released.wait()
        return protocol


@pytest.mark.parametrize("left", [False, True])
async def test_connect_that_waits_for_its_target_fails_in_a_drain_or_without_its_caller(*, left: bool) -> None:
    """Sidekey closes the connection to the target."""
    dialer = SlowDialer()
    sidekey = ScriptedPlane(passing=True, dialer=dialer)
    worker = sidekey.plane.worker
    caller = sidekey.caller()
    caller.feed(connect_request("other.test:443", user=""))
    await eventually(lambda: sidekey.upstreams)
    if left:
        caller.fail(ConnectionResetError())
    else:
        sidekey.plane.drain()
        await worker.finish(0)
    dialer.released.set()
    await eventually(lambda: sidekey.upstreams[0].aborted)
    await settle()
    assert bytes(caller.written).startswith(b"" if left else b"HTTP/1.1 503 overloaded: ")
    assert (len(worker._passthroughs), sidekey.plane.worker.tunnel_count) == (0, 0)
    assert sidekey.metrics.passed.outcomes == {"caller_gone" if left else "overloaded": 1}
    assert sum(sidekey.metrics.connections.buckets) == 1, "one CONNECT has waited, once"


class FailingLeaves(NoLeaves):
    """Raises a defect, before or after a wait."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once

    def context_for(self, host: str) -> ssl.SSLContext | None:
        if self.at_once:
            raise LookupError(host)
        return None

    async def obtain(self, host: str) -> ssl.SSLContext:
        raise LookupError(host)


@pytest.mark.parametrize("at_once", [True, False])
async def test_defect_is_reported_and_500(*, at_once: bool) -> None:
    """The tunnel is no longer counted."""
    sidekey = ScriptedPlane(integration("h", "https://up.test/api"), leaves=FailingLeaves(at_once=at_once))
    caller = sidekey.caller()
    caller.feed(connect_request("up.test:443"))
    await eventually(lambda: caller.written)
    response = first_response(caller.read())
    assert response is not None
    error = problem_of(response)
    assert (response.status, error["code"]) == (500, "internal_error")
    assert error["detail"] == f"a defect of Sidekey, logged as {sidekey.plane.worker.instance.decode()}-1"
    assert [type(item) for item in sidekey.defects] == [LookupError]
    assert sidekey.plane.worker.tunnel_count == 0
