"""The tls rows of tests/cases/faults.tsv."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import struct
import threading
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from sidekey.proxy.transport import descriptor_of
from sidekey.snapshot.request_rules import Timeouts
from support.plane import UPSTREAM, get, https_integration, problem, request, running
from support.ports import listening_socket
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import RawUpstream

NOW = datetime.now(UTC)


def context_with(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Build the context of a server with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def self_signed(folder: Path) -> ssl.SSLContext:
    """Build the context of a server with a self-signed certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "self.pem")
    ca.private_key_pem.write_to_path(folder / "self.key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "self.pem", folder / "self.key")
    return context


def failing(flaw: str, ca: Authority, folder: Path) -> ssl.SSLContext:
    """Build the context of a server whose certificate has this error."""
    if flaw == "expired":
        return context_with(ca.ca.issue_cert(UPSTREAM, not_after=NOW - timedelta(days=1)))
    if flaw == "not yet valid":
        return context_with(ca.ca.issue_cert(UPSTREAM, not_before=NOW + timedelta(days=1)))
    if flaw == "self-signed":
        return self_signed(folder)
    if flaw == "unknown CA":
        return context_with(trustme.CA().issue_cert(UPSTREAM))
    return context_with(ca.ca.issue_cert("other.test"))


@pytest.mark.parametrize("flaw", ["expired", "not yet valid", "self-signed", "unknown CA", "another host"])
async def test_a_certificate_that_does_not_verify_is_refused(flaw: str, ca: Authority, tmp_path: Path) -> None:
    """502 upstream_tls_failed, without a byte of HTTP."""
    async with RawUpstream(ssl_context=failing(flaw, ca, tmp_path)) as upstream:
        async with running(https_integration(upstream.port, ca)) as sidekey:
            error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["error"], error["sent"]) == (
            502,
            "upstream_tls_failed",
            "tls_certificate_error",
            "no",
        )
        assert b"".join(upstream.received) == b""


async def test_a_server_of_tls_1_1_is_refused(ca: Authority) -> None:
    """RFC 8996 deprecates TLS below 1.2."""
    context = ca.server_context(UPSTREAM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    async with RawUpstream(ssl_context=context) as upstream, running(https_integration(upstream.port, ca)) as sidekey:
        error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"]) == (502, "upstream_tls_failed")
        assert error["error"] in {"tls_protocol_error", "tls_alert_received"}


async def test_a_handshake_that_stalls_ends_at_the_connect_timeout(ca: Authority) -> None:
    """504. timeouts.connect includes the handshake."""

    async def silent(connection: RawConnection) -> None:
        await connection.until_received(1)

    async with RawUpstream(silent) as upstream:
        async with running(https_integration(upstream.port, ca), timeouts=Timeouts(connect=2)) as sidekey:
            error = problem(await sidekey.send(get()))
            assert (error["status"], error["code"], error["error"]) == (504, "upstream_timeout", "connection_timeout")
        assert upstream.received[0].startswith(b"\x16\x03")


async def test_server_without_tls_is_reported(ca: Authority) -> None:
    """Sidekey sends no request."""
    plain = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    async def script(connection: RawConnection) -> None:
        await connection.until_received(1)
        await connection.send(plain)

    async with RawUpstream(script) as upstream, running(https_integration(upstream.port, ca)) as sidekey:
        error = problem(await sidekey.send(get()))
        assert (error["code"], error["sent"]) == ("upstream_tls_failed", "no")


def refuse_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Accept one connection, and let OpenSSL end it with an alert. A blocking socket sends it, asyncio's does not."""
    connection, _ = listener.accept()
    with connection, connection.dup() as kept:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)
        while kept.recv(4096):
            pass


def requiring_certificate(ca: Authority) -> ssl.SSLContext:
    """Build the context of a TLS 1.3 server that requires a client certificate."""
    context = ca.server_context(UPSTREAM)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.bundle)
    return context


async def test_an_alert_before_the_response_is_a_failure_of_tls(ca: Authority) -> None:
    """A TLS 1.3 server refuses a missing certificate after the handshake. Sidekey does not retry."""
    context = requiring_certificate(ca)
    with listening_socket() as listener:
        server = asyncio.create_task(asyncio.to_thread(refuse_one, listener, context))
        async with running(https_integration(listener.getsockname()[1], ca)) as sidekey:
            error = problem(await sidekey.send(get()))
        await server
    assert (error["status"], error["code"], error["error"], error["sent"]) == (
        502,
        "upstream_tls_failed",
        "tls_alert_received",
        "maybe",
    )


class Refusal(threading.Thread):
    """Accepts one connection, and ends it with an alert and a reset once `go` is set.

    `begun` is set after the client's part of the handshake; `flight` has the bytes that the client sent then.
    """

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self.begun, self.go = threading.Event(), threading.Event()
        self.flight = b""
        self._listener = listener
        self._tls_context = context

    def run(self) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._tls_context.wrap_bio(incoming, outgoing, server_side=True)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(DEADLINE)
            incoming.write(connection.recv(1 << 16))
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            connection.sendall(outgoing.read())
            self.flight = connection.recv(1 << 16)
            self.begun.set()
            self.go.wait(DEADLINE)
            incoming.write(self.flight)
            with pytest.raises(ssl.SSLError):
                tls.do_handshake()
            connection.sendall(outgoing.read())
            # As closing does with bytes unread.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_alert_is_reported_although_a_write_finds_the_reset(ca: Authority) -> None:
    """Sidekey writes the rest of an upload before the loop reads the alert."""
    body = bytes(8000)
    with listening_socket() as listener:
        server = Refusal(listener, requiring_certificate(ca))
        server.start()
        async with running(https_integration(listener.getsockname()[1], ca)) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", body=body + body)[: -len(body)])
            assert await asyncio.to_thread(server.begun.wait, DEADLINE)
            (pool,) = sidekey.plane.pools.known()
            (connection,) = pool._open
            (reading,) = sidekey.plane.worker.connections
            # The loop stands still until the reset has arrived.
            server.go.set()
            poll = select.poll()
            poll.register(descriptor_of(connection.transport), 0)
            assert poll.poll(DEADLINE * 1000)
            reading.data_received(body)
            error = problem(await caller.response())
            assert sidekey.metrics.stats("h").connects == {"ok": 1}
        server.join(DEADLINE)
    assert (error["status"], error["code"], error["error"], error["sent"]) == (
        502,
        "upstream_tls_failed",
        "tls_alert_received",
        "maybe",
    )
    assert "certificate required" in error["detail"]
    # The end of the handshake and what there is of the request left together.
    assert len(server.flight) > len(body)


async def test_two_requests_use_one_tls_connection(ca: Authority) -> None:
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        async with running(https_integration(upstream.port, ca)) as sidekey:
            assert [(await sidekey.send(get())).status for _ in range(2)] == [200, 200]
        assert [len(upstream.connections), len(upstream.requests)] == [1, 2]
