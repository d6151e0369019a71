"""TLS with real peers: refused certificates, old versions, alerts, and the end of a connection."""

from __future__ import annotations

import asyncio
import datetime
import gc
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network.tls import tls_problem
from sidekey.network.tls_sessions import RESUMES, Sessions
from support import programs
from support.dialling import LoopbackDialer, RecordingProtocol, summary, upstream
from support.leak_check import assert_no_leaks
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.tls_peer import ScriptedTlsServer, s_server

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def server_context(issued: trustme.LeafCert) -> ssl.SSLContext:
    """Build the context of a server that presents this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


async def certificate_error(dial: LoopbackDialer, context: ssl.SSLContext) -> str:
    """Return the detail of the problem for a server's certificate."""
    async with upstream(context) as port:
        problem = await dial.failure("https://up.test", port)
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_certificate_error")
    return problem.detail


async def test_expired_certificate_is_refused(dial: LoopbackDialer, ca: Authority) -> None:
    """Even from a trusted issuer."""
    issued = ca.ca.issue_cert("up.test", not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    assert "it has expired" in await certificate_error(dial, server_context(issued))


async def test_certificate_that_is_not_valid_yet_is_refused(dial: LoopbackDialer, ca: Authority) -> None:
    issued = ca.ca.issue_cert("up.test", not_before=NOW + DAY, not_after=NOW + 3 * DAY)
    assert "not valid yet" in await certificate_error(dial, server_context(issued))


async def test_certificate_of_an_unknown_issuer_is_refused(dial: LoopbackDialer) -> None:
    issued = trustme.CA().issue_cert("up.test")
    assert "issuer is not trusted" in await certificate_error(dial, server_context(issued))


async def test_certificate_of_the_ca_that_signs_for_callers_is_refused(dial: LoopbackDialer, ca: Authority) -> None:
    dial.dialer._contexts.deny(frozenset({public_key(ssl.PEM_cert_to_DER_cert(ca.bundle.read_text()))}))
    assert "which signs for callers" in await certificate_error(dial, ca.server_context("up.test"))


async def test_self_signed_certificate_is_refused(dial: LoopbackDialer, tmp_path: Path) -> None:
    certificate, key = tmp_path / "self.crt", tmp_path / "self.key"
    subject = ["-subj", "/CN=up.test", "-addext", "subjectAltName=DNS:up.test"]
    command = [programs.require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert "self-signed" in await certificate_error(dial, context)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_upstream_with_old_tls_versions_only_is_refused(
    dial: LoopbackDialer, ca: Authority, version: str
) -> None:
    """Sidekey does not use TLS 1.0 and 1.1 (RFC 8996)."""
    with s_server(ca, version, "-cipher", "ALL:@SECLEVEL=0") as server:
        problem = await dial.failure("https://up.test", server.port)
    assert summary(problem) in {
        ("upstream_tls_failed", 502, "tls_alert_received"),
        ("upstream_tls_failed", 502, "tls_protocol_error"),
    }
    assert "version" in problem.detail


async def test_upstream_with_tls_1_2_only_is_connected(dial: LoopbackDialer, ca: Authority) -> None:
    with s_server(ca, "-tls1_2") as server:
        connection = await dial.connect("https://up.test", server.port)
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
        connection.transport.abort()
        await connection.lost


MUTUAL = ("-Verify", "1", "-verify_return_error")


async def test_missing_client_certificate_is_an_alert_in_tls_1_2(dial: LoopbackDialer, ca: Authority) -> None:
    """The server ends the handshake with it."""
    with s_server(ca, "-tls1_2", *MUTUAL) as server:
        problem = await dial.failure("https://up.test", server.port)
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "handshake failure" in problem.detail


async def test_missing_client_certificate_is_a_late_alert_in_tls_1_3(dial: LoopbackDialer, ca: Authority) -> None:
    """It arrives after the handshake, and causes the same problem."""
    with s_server(ca, "-tls1_3", *MUTUAL) as server:
        connection = await dial.connect("https://up.test", server.port)
        async with asyncio.timeout(DEADLINE):
            error = await connection.lost
    assert isinstance(error, OSError)
    problem = tls_problem(error)
    assert summary(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "certificate required" in problem.detail


class Ending(RecordingProtocol):
    """Records whether the stream ended, which over TLS means close_notify."""

    def __init__(self) -> None:
        super().__init__()
        self.received = b""
        self.clean = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.clean = True


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("clean", [True, False], ids=["close_notify", "bare FIN"])
async def test_truncated_connection_differs_from_a_closed_one(
    dial: LoopbackDialer, ca: Authority, clean: bool, maximum: ssl.TLSVersion
) -> None:
    """Only close_notify completes a close-delimited body (RFC 9112 9.8)."""
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


async def test_tls_problem_has_no_trace_of_the_exception(dial: LoopbackDialer, ca: Authority) -> None:
    async with upstream(ca.server_context("other.test")) as port:
        problem = await dial.failure("https://up.test", port)
    assert isinstance(problem, Problem)
    assert "other.test" not in repr(problem)


async def test_abandoned_dial_logs_no_error(dial: LoopbackDialer, ca: Authority) -> None:
    """Its handshake may end when no task waits any more."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reported.append(report))
    async with upstream(ca.server_context("other.test")) as port:
        for turns in range(30):
            async with assert_no_leaks():
                task = asyncio.create_task(dial.connect("https://up.test", port))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    assert isinstance(task.exception(), ProblemError)
        gc.collect()
    assert [report["message"] for report in reported if "retrieved" in report["message"]] == []


@pytest.mark.skipif(not RESUMES, reason="this Python leaks memory for each session that is read")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_connection_resumes_only_the_session_of_its_slot(
    dial: LoopbackDialer, ca: Authority, version: ssl.TLSVersion
) -> None:
    context = ca.server_context("up.test")
    context.maximum_version = version

    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"answer")
        tls.unwrap()

    mine, other = Sessions(), Sessions()
    resumed = []
    with ScriptedTlsServer(context, script, 6) as peer:
        for sessions in (mine, mine, mine, other, None, mine):
            connection = await dial.connect_as(RecordingProtocol, "https://up.test", peer.port, sessions=sessions)
            resumed.append(connection.transport.get_extra_info("ssl_object").session_reused)
            await connection.lost
        await peer.served()
    assert resumed == [False, True, True, False, False, True]
    assert peer.errors == []
