"""Tunnels that Sidekey terminates, with TLS or plain HTTP, over sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidekey.network.tls_transport import TlsTransport
from sidekey.policy.decision import TunnelAdmitted
from sidekey.policy.urls import Authority as Target
from sidekey.proxy import states
from sidekey.proxy.tunnel.connect import ConnectHandler
from sidekey.proxy.tunnel.registry import Tunnels
from sidekey.proxy.tunnel.tunnel import ConnectInfo, Tunnel, TunnelledConnection, TunnelRecord
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.leaves import IssuedLeaves
from support.plane import CREDENTIAL, UPSTREAM, base_url, eventually, https_integration, integration, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane
from support.tunnels import TlsCaller, client_context, connect_request, problem_of, tunnel, tunnel_get
from support.upstream import RawUpstream, always_ok
from support.websocket import HANDSHAKE

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@VERSIONS
async def test_a_request_in_a_tunnel_arrives_with_the_credential(ca: Authority, version: ssl.TLSVersion) -> None:
    """Byte for byte as without a tunnel."""
    async with (
        RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(https_integration(upstream.port, ca), leaves=IssuedLeaves(ca)) as sidekey,
    ):
        async with tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}", version=version) as caller:
            assert caller.tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            assert caller.tls.selected_alpn_protocol() is None
            for _ in range(2):
                await caller.send(tunnel_get(upstream.port, "/api/a?b=c", "X-Own: 1"))
                response = await caller.response()
                assert (response.status, response.body) == (200, b"ok")
            assert sidekey.metrics.tunnels == {"terminated": 1, "plain": 0, "passed": 0, "websocket": 0}
        await sidekey.wait_for_outcomes("h", c2xx=2)
        await eventually(lambda: sidekey.metrics.tunnels["terminated"] == 0)
        word = sidekey.plane.worker.instance
        assert upstream.received == [
            2
            * (
                b"GET /api/a?b=c HTTP/1.1\r\nHost: up.test:%d\r\nAuthorization: %b\r\nX-Own: 1\r\n"
                b"Via: 1.1 sidekey (%b)\r\n\r\n" % (upstream.port, CREDENTIAL, word)
            )
        ]
        assert sidekey.metrics.tunnel_outcomes == {("h", "opened"): 1}


@VERSIONS
async def test_a_hello_in_the_segment_of_the_connect_is_read(ca: Authority, version: ssl.TLSVersion) -> None:
    """Some clients send it before the 200. Sidekey parses none of it as HTTP."""
    async with (
        RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(https_integration(upstream.port, ca), leaves=IssuedLeaves(ca)) as sidekey,
        sidekey.connect() as raw,
    ):
        caller = TlsCaller(raw, client_context(ca, version), UPSTREAM)
        await raw.send(connect_request(f"{UPSTREAM}:{upstream.port}") + caller.hello())
        assert (await raw.response(to_head=True)).status == 200
        await caller.handshake()
        await caller.send(tunnel_get(upstream.port))
        assert (await caller.response()).body == b"ok"


@pytest.mark.parametrize("together", [True, False])
async def test_bytes_other_than_tls_are_plain_http(ca: Authority, together: bool) -> None:
    """undici and Node send http:// URLs in a tunnel, with a Host that may lack the port."""
    async with RawUpstream() as upstream:
        authority = f"{UPSTREAM}:{upstream.port}"
        async with (
            running(integration("h", base_url(upstream.port)), leaves=IssuedLeaves(ca)) as sidekey,
            sidekey.connect() as raw,
        ):
            request = tunnel_get(upstream.port)
            await raw.send(connect_request(authority) + (request if together else b""))
            assert (await raw.response(to_head=True)).status == 200
            if not together:
                await raw.send(request)
            assert (await raw.response()).body == b"ok"
            await raw.send(request)
            assert (await raw.response()).body == b"ok"
            assert sidekey.metrics.tunnels["plain"] == 1
        assert [message.target for message in upstream.requests] == [b"/api/a", b"/api/a"]
        assert all(message.values(b"authorization") == [CREDENTIAL] for message in upstream.requests)


@VERSIONS
@pytest.mark.parametrize(
    ("target", "fields", "host", "status", "code"),
    [
        ("/api/a", (), "evil.test", 421, "misdirected"),
        ("/api/a", (), f"{UPSTREAM}:1", 421, "misdirected"),
        ("/api/a", (), UPSTREAM, 421, "misdirected"),
        ("https://evil.test/api/a", (), None, 421, "misdirected"),
        ("http://up.test:PORT/api/a", (), None, 421, "misdirected"),
        ("https://up.test:PORT/api/a", (), "evil.test", 421, "misdirected"),
        ("/i/h/a", (), None, 403, "target_denied"),
        ("/apix", (), None, 403, "target_denied"),
        ("/api/%2e%2e/x", (), None, 400, "request_invalid"),
        ("*", (), None, 400, "request_invalid"),
        ("/api/a", ("X-Integration-Id: other",), None, 400, "request_invalid"),
        ("/api/a", HANDSHAKE, None, 501, "not_implemented"),
        ("/api/a", ("Upgrade: websocket", "Connection: upgrade"), None, 400, "request_invalid"),
    ],
)
async def test_denied_request_in_a_tunnel(
    ca: Authority,
    version: ssl.TLSVersion,
    target: str,
    fields: tuple[str, ...],
    host: str | None,
    status: int,
    code: str,
) -> None:
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", version=version) as caller,
        ):
            await caller.send(tunnel_get(port, target.replace("PORT", str(port)), *fields, host=host))
            response = await caller.response()
            assert (response.status, problem_of(response)["code"]) == (status, code)
        assert upstream.requests == []


@pytest.mark.parametrize("target", ["/api/a", "https://UP.test:PORT/api/a"])
@pytest.mark.parametrize("host", ["UP.test:PORT", None])
async def test_host_of_a_tunnel_is_case_insensitive(ca: Authority, target: str, host: str | None) -> None:
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = str(upstream.port)
        async with (
            running(https_integration(upstream.port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"Up.Test:{port}") as caller,
        ):
            shown = None if host is None else host.replace("PORT", port)
            await caller.send(tunnel_get(upstream.port, target.replace("PORT", port), host=shown))
            assert (await caller.response()).status == 200
        assert [message.target for message in upstream.requests] == [b"/api/a"]


@VERSIONS
async def test_a_connect_inside_a_tunnel_is_refused(ca: Authority, version: ssl.TLSVersion) -> None:
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey,
        tunnel(sidekey, ca, "up.test:443", version=version) as caller,
    ):
        await caller.send(connect_request("up.test:443"))
        assert (await caller.response()).status == 400
        assert await caller.until_closed()


@VERSIONS
async def test_another_server_name_is_refused_with_an_alert(ca: Authority, version: ssl.TLSVersion) -> None:
    async with running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey:
        with pytest.raises(ssl.SSLError) as raised:
            async with tunnel(sidekey, ca, "up.test:443", server_name="evil.test", version=version):
                pass
        assert "UNRECOGNIZED_NAME" in (raised.value.reason or "")
        await eventually(lambda: sidekey.metrics.tunnel_outcomes == {("h", "sni"): 1})


@VERSIONS
async def test_a_caller_that_leaves_after_the_certificate_is_taken_for_one_that_does_not_trust_it(
    ca: Authority, version: ssl.TLSVersion
) -> None:
    """Git, wget, Node and Java close without an alert."""
    async with running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey:
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:443"))
            size = len(await raw.until_contains(b"\r\n\r\n"))
            await raw.send(TlsCaller(raw, client_context(ca, version), UPSTREAM).hello())
            await raw.until_received(size + 100)
            raw.reset()
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert sidekey.metrics.tunnel_outcomes == {("h", "ca_untrusted"): 1}
        assert not any(sidekey.metrics.tunnels.values())


@VERSIONS
async def test_an_early_refusal_reaches_a_caller_that_is_still_uploading(
    ca: Authority, version: ssl.TLSVersion
) -> None:
    """No reset overtakes the response, over TLS either."""
    limits = Limits(request_body=1000)
    async with running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), limits=limits) as sidekey:
        for _ in range(4):
            async with tunnel(sidekey, ca, "up.test:443", version=version) as caller:
                head = b"POST /api/a HTTP/1.1\r\nHost: up.test\r\nContent-Length: 20971520\r\n\r\n"
                # It reads nothing until it has sent everything: a reset would take the response from it.
                caller.raw.transport.pause_reading()
                await caller.send(head)
                for _ in range(20):
                    await caller.send(bytes(1 << 20))
                caller.raw.transport.resume_reading()
                assert (await caller.response()).status == 413
                assert await caller.until_closed()


@VERSIONS
async def test_a_drain_ends_idle_tunnels_with_close_notify(ca: Authority, version: ssl.TLSVersion) -> None:
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey,
        tunnel(sidekey, ca, "up.test:443", version=version) as caller,
        sidekey.connect() as raw,
    ):
        await caller.send(tunnel_get(443, "/x", host="up.test"))
        assert (await caller.response()).status == 403
        sidekey.plane.drain()
        finished = asyncio.ensure_future(sidekey.plane.finish(5))
        await eventually(lambda: sidekey.plane.worker.finishing)
        await raw.send(connect_request("up.test:443"))
        assert (await raw.response()).status == 503
        raw.close()
        assert await caller.until_closed()
        caller.raw.close()
        assert await finished


async def test_drain_waits_for_the_first_request_after_a_handshake(ca: Authority) -> None:
    """In TLS 1.2, it arrives a round trip after the handshake."""
    async with (
        RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(https_integration(upstream.port, ca), leaves=IssuedLeaves(ca)) as sidekey,
        tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}", version=ssl.TLSVersion.TLSv1_2) as caller,
    ):
        sidekey.plane.drain()
        (connection,) = sidekey.plane.worker.connections
        assert not connection.wind_down(patient=False)
        await caller.send(tunnel_get(upstream.port))
        assert (await caller.response()).status == 200
        assert await caller.until_closed()


@pytest.mark.parametrize("opened", ["before", "meanwhile"])
async def test_a_response_in_a_draining_tunnel_says_close(opened: str, ca: Authority) -> None:
    """Also in a tunnel that was opened during `drain_delay`."""
    async with (
        RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(https_integration(upstream.port, ca), leaves=IssuedLeaves(ca)) as sidekey,
    ):
        if opened == "meanwhile":
            sidekey.plane.drain()
        async with tunnel(sidekey, ca, f"{UPSTREAM}:{upstream.port}") as caller:
            sidekey.plane.drain()
            await caller.send(tunnel_get(upstream.port))
            response = await caller.response()
            assert (response.status, response.values(b"connection")) == (200, [b"close"])
            assert await caller.until_closed()


async def test_expired_keep_alive_closes_the_tunnel_with_close_notify(ca: Authority) -> None:
    timeouts = Timeouts(keep_alive=5)
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), timeouts=timeouts) as sidekey,
        tunnel(sidekey, ca, "up.test:443") as caller,
    ):
        await caller.send(tunnel_get(443, "/x", host="up.test"))
        await caller.response()
        await sidekey.wait_until_idle()
        sidekey.advance(6)
        assert await caller.until_closed()


async def test_a_response_streams_and_an_upload_waits_for_100(ca: Authority) -> None:
    """The upstream gets Expect, as without a tunnel."""

    async def events(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        assert b"Expect: 100-continue" in connection.received
        assert not connection.received.endswith(b"abc")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.until_contains(b"\r\n\r\nabc")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    async with RawUpstream(events, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller,
        ):
            head = (
                f"POST /api/a HTTP/1.1\r\nHost: {UPSTREAM}:{port}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            await caller.send(head.encode())
            await caller.until_contains(b"HTTP/1.1 100 Continue\r\n\r\n")
            await caller.send(b"abc")
            await caller.until_contains(b"data: 1\n\n")
            await upstream.connections[0].send(b"data: 2\n\n")
            await caller.until_contains(b"data: 2\n\n")
            upstream.connections[0].close()
            await caller.until_contains(b"0\r\n\r\n")


@VERSIONS
async def test_http_2_is_refused_inside(ca: Authority, version: ssl.TLSVersion) -> None:
    """A gRPC client uses it without ALPN (prior knowledge)."""
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey,
        tunnel(sidekey, ca, "up.test:443", version=version) as caller,
    ):
        await caller.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await caller.response()).status == 505
        assert await caller.until_closed()


async def test_request_in_a_tunnel_is_logged_with_its_host(ca: Authority, tmp_path: Path) -> None:
    """Also if it is denied."""
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), log=tmp_path / "log") as sidekey,
        tunnel(sidekey, ca, "up.test:443") as caller,
    ):
        await caller.send(tunnel_get(443, "/x", host="up.test"))
        await caller.response()
        await eventually((tmp_path / "log").read_text)
    line, tunnels = map(json.loads, (tmp_path / "log").read_text().splitlines())
    expected = {"door": "tunnel", "method": "GET", "host": "up.test", "port": 443, "integration": "h"}
    assert {**expected, "code": "target_denied"}.items() <= line.items()
    assert {**expected, "method": "CONNECT", "status": 200, "code": None}.items() <= tunnels.items()
    assert line["request_id"] != tunnels["request_id"]


async def test_tunnels_leave_no_object_behind(ca: Authority) -> None:
    """A tunnel knows its integration by name, and keeps no snapshot."""
    kinds = (Tunnel, TunnelledConnection, TunnelRecord, ConnectHandler, TlsTransport)

    def alive() -> int:
        gc.collect()
        return sum(isinstance(item, kinds) for item in gc.get_objects())

    async with running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca)) as sidekey:
        before = alive()
        for _ in range(20):
            async with tunnel(sidekey, ca, "up.test:443") as caller:
                await caller.send(tunnel_get(443, "/x", host="up.test"))
                await caller.response()
        async with sidekey.connect() as raw:
            await raw.send(connect_request("up.test:443") + b"\x16\x03\x01\x00\x04nope")
            await raw.until_ended()
        await eventually(lambda: not sidekey.plane.worker.connections)
        await eventually(lambda: alive() == before)


class ReadableTransport(RecordingTransport):
    """A transport whose descriptor may have unread bytes."""

    def __init__(self, protocol: asyncio.Protocol, descriptor: object) -> None:
        super().__init__(protocol)
        self.descriptor = descriptor

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.descriptor if name == "socket" else default


def waiting_tunnel(sidekey: ScriptedPlane) -> tuple[Tunnel, TunnelRecord]:
    """Build a tunnel to up.test without a transport."""
    worker = sidekey.plane.worker
    opened: TunnelAdmitted[Any] = TunnelAdmitted(
        Target("up.test", 443), None, passes=False, name=None, token=None, caller=None
    )
    assert worker.enter_tunnel("", worker.rules) is None
    lifetime = TunnelRecord(worker, Tunnels(worker), opened, ConnectInfo("w-1", "", 0.0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return Tunnel(worker, sidekey.plane.router, lifetime, opened, context, certified=None), lifetime


@pytest.mark.parametrize("received", [True, False])
async def test_a_first_byte_that_has_arrived_is_read_before_the_tunnel_is_closed(*, received: bool) -> None:
    """Eviction and drain do not close such a tunnel."""
    sidekey = ScriptedPlane()
    worker = sidekey.plane.worker
    waiting, lifetime = waiting_tunnel(sidekey)
    ours, other = socket.socketpair()
    with ours, other:
        transport = ReadableTransport(asyncio.Protocol(), ours)
        waiting.begin(transport, b"", full=False)
        if received:
            other.sendall(b"\x16")
        assert waiting.idle_since == worker.deadlines.now
        waiting.wind_down(patient=True)
        assert not transport.is_closing()
        waiting.wind_down(patient=False)
        assert transport.is_closing() is not received
        assert lifetime.phase == (states.WAITING if received else states.ENDED)
    assert worker.tunnel_count == int(received)


async def test_reload_keeps_the_wait_time_for_the_first_byte() -> None:
    """The tunnels that have waited longest are evicted first."""
    sidekey = ScriptedPlane()
    waiting, _ = waiting_tunnel(sidekey)
    transport = RecordingTransport(asyncio.Protocol())
    waiting.begin(transport, b"", full=False)
    sidekey.plane.prepare(replace(sidekey.snapshot, timeouts=Timeouts(request_head=1000)))()
    assert waiting.idle_since == sidekey.plane.worker.deadlines.now
    waiting.end()


async def test_closed_socket_has_no_unread_bytes() -> None:
    sidekey = ScriptedPlane()
    waiting, lifetime = waiting_tunnel(sidekey)
    closed = socket.socket()
    closed.close()
    waiting.begin(ReadableTransport(asyncio.Protocol(), closed), b"", full=False)
    assert waiting.close_if_idle()
    assert (lifetime.phase, sidekey.plane.worker.tunnel_count) == (states.ENDED, 0)


async def test_tls_takes_over_a_paused_transport() -> None:
    """A loop checks the type of the protocol when it starts to read."""

    class Switched(RecordingTransport):
        reading_then = True

        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
            super().set_protocol(protocol)
            if isinstance(protocol, TlsTransport):
                self.reading_then = self.reading

    waiting, lifetime = waiting_tunnel(ScriptedPlane())
    transport = Switched(asyncio.Protocol())
    waiting.begin(transport, b"", full=False)
    assert transport.reading
    transport.feed(b"\x16")
    assert not transport.reading_then
    assert transport.reading
    assert lifetime.phase == states.HANDSHAKE
    waiting.end()
