"""Sidekey's own calls with a client certificate."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sidekey.credentials.base import Call, CallError, Reply
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.snapshot.egress import Egress
from support.certificate_files import client_certificate_of, identity_of, require_client_certificate, valid_now
from support.dialling import RULES
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.upstream import OK, RawUpstream, always_ok, respond_with


class Calls:
    """A fetcher for calls with different identities."""

    def __init__(self, ca: Authority) -> None:
        self._fetcher = Fetcher(Dialer(RULES), 16)
        self._trust = ca.trust

    async def fetch(self, port: int, identity: ClientIdentity | None) -> Reply:
        return await self._fetcher.fetch(
            Call("token endpoint", "POST", f"https://up.test:{port}/"),
            Egress(self._trust),
            timeout=DEADLINE,
            max_size=1 << 10,
            identity=identity,
        )


@pytest.fixture
def calls(ca: Authority) -> Calls:
    return Calls(ca)


@pytest.fixture
def tls(ca: Authority) -> ssl.SSLContext:
    """Return the context of a server for up.test."""
    return ca.server_context("up.test")


async def test_server_that_requests_a_certificate_gets_that_of_the_call(calls: Calls, tls: ssl.SSLContext) -> None:
    first, second = valid_now("first"), valid_now("second")
    async with RawUpstream(always_ok, ssl_context=require_client_certificate(tls, first, second)) as upstream:
        for issued in (first, second, first):
            assert (await calls.fetch(upstream.port, identity_of(issued))).status == 200
        assert [client_certificate_of(connection) for connection in upstream.connections] == [
            first.der,
            second.der,
            first.der,
        ]


async def test_call_without_a_certificate_presents_none(calls: Calls, tls: ssl.SSLContext) -> None:
    """Even right after a call with one to the same server."""
    issued = valid_now()
    require_client_certificate(tls, issued).verify_mode = ssl.CERT_OPTIONAL
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        await calls.fetch(upstream.port, identity_of(issued))
        await calls.fetch(upstream.port, None)
        assert [client_certificate_of(connection) for connection in upstream.connections] == [issued.der, None]


async def test_server_without_a_request_sees_no_certificate(calls: Calls, tls: ssl.SSLContext) -> None:
    async with RawUpstream(respond_with(OK), ssl_context=tls) as upstream:
        assert (await calls.fetch(upstream.port, identity_of(valid_now()))).status == 200
        assert client_certificate_of(upstream.connections[0]) is None


@contextmanager
def refusing(context: ssl.SSLContext, *, reset: bool = False) -> Iterator[int]:
    """Run a server whose handshakes fail, and yield its port. It runs in a thread: asyncio's servers send no alert."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                    with suppress(ssl.SSLError):
                        tls.do_handshake()
                    with socket.socket(fileno=tls.detach()) as plain:
                        if reset:
                            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                            continue
                        # With a request unread, closing would send a reset, which overtakes the alert.
                        plain.shutdown(socket.SHUT_WR)
                        while plain.recv(1024):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)


@pytest.mark.parametrize(
    ("version", "without"),
    [(ssl.TLSVersion.TLSv1_2, "handshake failure"), (ssl.TLSVersion.TLSv1_3, "certificate required")],
    ids=["1.2", "1.3"],
)
async def test_rejected_client_certificate_is_reported_from_the_alert(
    calls: Calls, tls: ssl.SSLContext, version: ssl.TLSVersion, without: str
) -> None:
    """In TLS 1.3 the client's handshake is over by then (RFC 8446 4.4.2.4)."""
    tls.minimum_version = tls.maximum_version = version
    with refusing(require_client_certificate(tls, valid_now())) as port:
        for identity, alert in ((identity_of(valid_now("unknown")), "unknown ca"), (None, without)):
            with pytest.raises(CallError) as failed:
                await calls.fetch(port, identity)
            assert failed.value.outcome == "unreachable"
            assert failed.value.reason == f"token endpoint: it ended TLS with the alert: {alert}"


async def test_reset_after_the_certificate_counts_as_its_rejection(calls: Calls, tls: ssl.SSLContext) -> None:
    """Many servers close without reading the request. Without a certificate, it is a closed connection."""
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    with refusing(require_client_certificate(tls, valid_now()), reset=True) as port:
        reasons = []
        for identity in (identity_of(valid_now("unknown")), None):
            with pytest.raises(CallError) as failed:
                await calls.fetch(port, identity)
            reasons.append(failed.value.reason)
    # Whether the alert or the reset is read first is the kernel's to say.
    alerts = [f"token endpoint: it ended TLS with the alert: {name}" for name in ("unknown ca", "certificate required")]
    cut = "it closed the connection before it responded, as servers do that reject the client certificate"
    assert reasons[0] in (alerts[0], f"token endpoint: {cut}")
    assert reasons[1] in (alerts[1], "token endpoint closed the connection before it responded")
