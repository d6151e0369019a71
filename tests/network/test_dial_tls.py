"""TLS with real peers: certificates that must be refused, old versions, alerts, and how a connection ends."""

from __future__ import annotations

import asyncio
import datetime
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from sidekey.errors import Problem
from sidekey.network.tls import ended_by_close_notify, tls_problem
from support import peers
from support.ca import Authority
from support.dialling import Connection, Dial, told, upstream
from support.raw import DEADLINE

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def server_context(issued: trustme.LeafCert) -> ssl.SSLContext:
    """For a server that presents this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


async def certificate_fault(dial: Dial, context: ssl.SSLContext) -> str:
    """The detail of the refusal of a server's certificate."""
    async with upstream(context) as port:
        problem = await dial.failure("https://up.test", port)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_certificate_error")
    return problem.detail


async def test_an_expired_certificate_is_refused(dial: Dial, ca: Authority) -> None:
    """F08: a trusted issuer does not make up for a validity that is over."""
    issued = ca.ca.issue_cert("up.test", not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    assert "it has expired" in await certificate_fault(dial, server_context(issued))


async def test_a_certificate_of_the_future_is_refused(dial: Dial, ca: Authority) -> None:
    """F08: nor for one that has not begun."""
    issued = ca.ca.issue_cert("up.test", not_before=NOW + DAY, not_after=NOW + 3 * DAY)
    assert "not valid yet" in await certificate_fault(dial, server_context(issued))


async def test_a_certificate_of_an_unknown_issuer_is_refused(dial: Dial) -> None:
    """F08: only the trusted authorities count."""
    issued = trustme.CA().issue_cert("up.test")
    assert "issuer is not trusted" in await certificate_fault(dial, server_context(issued))


async def test_a_self_signed_certificate_is_refused(dial: Dial, tmp_path: Path) -> None:
    """F08: a certificate cannot vouch for itself."""
    certificate, key = tmp_path / "self.crt", tmp_path / "self.key"
    subject = ["-subj", "/CN=up.test", "-addext", "subjectAltName=DNS:up.test"]
    command = [peers.require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert "self-signed" in await certificate_fault(dial, context)


@contextmanager
def s_server(ca: Authority, *options: str) -> Iterator[int]:
    """OpenSSL's test server on a free port of 127.0.0.1; the port."""
    leaf = ca.leaf("up.test")
    command = [peers.require("openssl"), "s_server", "-accept", "127.0.0.1:0", *options]
    command += ["-cert", str(leaf.certificate), "-key", str(leaf.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                listening = re.match(rb"ACCEPT 127\.0\.0\.1:(\d+)", line)
                if listening:
                    yield int(listening[1])
                    return
            raise AssertionError("openssl s_server does not listen")
        finally:
            server.kill()


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_an_upstream_with_old_versions_only_is_refused(dial: Dial, ca: Authority, version: str) -> None:
    """F12: TLS 1.0 and 1.1 are not spoken (RFC 8996)."""
    with s_server(ca, version, "-cipher", "ALL:@SECLEVEL=0") as port:
        problem = await dial.failure("https://up.test", port)
    assert told(problem) in {
        ("upstream_tls_failed", 502, "tls_alert_received"),
        ("upstream_tls_failed", 502, "tls_protocol_error"),
    }
    assert "version" in problem.detail


async def test_an_upstream_with_tls_1_2_alone_is_served(dial: Dial, ca: Authority) -> None:
    """TLS 1.2 is the oldest version that is."""
    with s_server(ca, "-tls1_2") as port:
        connection = await dial.connect("https://up.test", port)
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
        connection.transport.abort()
        await connection.lost


MUTUAL = ("-Verify", "1", "-verify_return_error")


async def test_a_missing_client_certificate_is_told_within_a_tls_1_2_handshake(dial: Dial, ca: Authority) -> None:
    """A TLS 1.2 server that wants a client certificate ends the handshake with an alert."""
    with s_server(ca, "-tls1_2", *MUTUAL) as port:
        problem = await dial.failure("https://up.test", port)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "handshake failure" in problem.detail


async def test_a_missing_client_certificate_is_told_after_a_tls_1_3_handshake(dial: Dial, ca: Authority) -> None:
    """A TLS 1.3 server tells by an alert that comes when the handshake is done, and means the same."""
    with s_server(ca, "-tls1_3", *MUTUAL) as port:
        connection = await dial.connect("https://up.test", port)
        async with asyncio.timeout(DEADLINE):
            fault = await connection.lost
    assert isinstance(fault, OSError)
    problem = tls_problem(fault)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "certificate required" in problem.detail


class Ending(Connection):
    """Notes at the end of the stream whether TLS was ended, too."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.clean = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.clean = ended_by_close_notify(self.transport)


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("clean", [True, False], ids=["close_notify", "bare FIN"])
async def test_a_connection_that_is_cut_is_told_from_one_that_ends(
    dial: Dial, ca: Authority, clean: bool, maximum: ssl.TLSVersion
) -> None:
    """Only close_notify ends a body that is delimited by the end of the connection (RFC 9112 9.8)."""
    context = ca.server_context("up.test")
    context.maximum_version = maximum

    def serve(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as tls:
            tls.sendall(b"half of it")
            if clean:
                # Sends close_notify and waits for that of the other end.
                tls.unwrap().close()
            else:
                tls.shutdown(socket.SHUT_WR)
                tls.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        connection = await dial.connect_as(Ending, "https://up.test", listener.getsockname()[1])
        async with asyncio.timeout(DEADLINE):
            await connection.lost
        await asyncio.to_thread(server.join, DEADLINE)
    assert connection.received == b"half of it"
    assert connection.clean is clean


async def test_a_connection_without_tls_has_no_close_notify(dial: Dial) -> None:
    """The end of plain TCP is no end of TLS."""
    async with upstream(greeting=b"x") as port:
        connection = await dial.connect("http://up.test", port)
        assert not ended_by_close_notify(connection.transport)
        connection.transport.abort()
        await connection.lost


async def test_a_problem_of_tls_is_no_secret_carrier(dial: Dial, ca: Authority) -> None:
    """What is shown of a failed handshake has no trace of the exception it came from."""
    async with upstream(ca.server_context("other.test")) as port:
        problem = await dial.failure("https://up.test", port)
    assert isinstance(problem, Problem)
    assert "other.test" not in repr(problem)
