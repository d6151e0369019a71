"""TLS with real peers: certificates that must be refused, old versions, alerts, and how a connection ends."""

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

from sidekey.credentials.certificates.encoding import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network.tls import tls_problem
from sidekey.network.tls_sessions import RESUMES, Sessions
from support import programs
from support.dialling import Connection, Dial, told, upstream
from support.leak_check import nothing_left
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.tls_peer import TlsPeer, s_server

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def server_context(issued: trustme.LeafCert) -> ssl.SSLContext:
    """For a server that presents this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return context


async def certificate_error(dial: Dial, context: ssl.SSLContext) -> str:
    """The detail of the refusal of a server's certificate."""
    async with upstream(context) as port:
        problem = await dial.failure("https://up.test", port)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_certificate_error")
    return problem.detail


async def test_an_expired_certificate_is_refused(dial: Dial, ca: Authority) -> None:
    """F08: a trusted issuer does not make up for a validity that is over."""
    issued = ca.ca.issue_cert("up.test", not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    assert "it has expired" in await certificate_error(dial, server_context(issued))


async def test_a_certificate_of_the_future_is_refused(dial: Dial, ca: Authority) -> None:
    """F08: nor for one that has not begun."""
    issued = ca.ca.issue_cert("up.test", not_before=NOW + DAY, not_after=NOW + 3 * DAY)
    assert "not valid yet" in await certificate_error(dial, server_context(issued))


async def test_a_certificate_of_an_unknown_issuer_is_refused(dial: Dial) -> None:
    """F08: only the trusted authorities count."""
    issued = trustme.CA().issue_cert("up.test")
    assert "issuer is not trusted" in await certificate_error(dial, server_context(issued))


async def test_a_certificate_of_the_ca_that_signs_for_callers_is_refused(dial: Dial, ca: Authority) -> None:
    """Whatever is trusted."""
    dial.dialer._contexts.deny(frozenset({public_key(ssl.PEM_cert_to_DER_cert(ca.bundle.read_text()))}))
    assert "which signs for callers" in await certificate_error(dial, ca.server_context("up.test"))


async def test_a_self_signed_certificate_is_refused(dial: Dial, tmp_path: Path) -> None:
    """F08: a certificate cannot vouch for itself."""
    certificate, key = tmp_path / "self.crt", tmp_path / "self.key"
    subject = ["-subj", "/CN=up.test", "-addext", "subjectAltName=DNS:up.test"]
    command = [programs.require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert "self-signed" in await certificate_error(dial, context)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
async def test_an_upstream_with_old_versions_only_is_refused(dial: Dial, ca: Authority, version: str) -> None:
    """F12: TLS 1.0 and 1.1 are not spoken (RFC 8996)."""
    with s_server(ca, version, "-cipher", "ALL:@SECLEVEL=0") as server:
        problem = await dial.failure("https://up.test", server.port)
    assert told(problem) in {
        ("upstream_tls_failed", 502, "tls_alert_received"),
        ("upstream_tls_failed", 502, "tls_protocol_error"),
    }
    assert "version" in problem.detail


async def test_an_upstream_with_tls_1_2_alone_is_served(dial: Dial, ca: Authority) -> None:
    """TLS 1.2 is the oldest version that is."""
    with s_server(ca, "-tls1_2") as server:
        connection = await dial.connect("https://up.test", server.port)
        assert connection.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
        connection.transport.abort()
        await connection.lost


MUTUAL = ("-Verify", "1", "-verify_return_error")


async def test_a_missing_client_certificate_is_told_within_a_tls_1_2_handshake(dial: Dial, ca: Authority) -> None:
    """A TLS 1.2 server that wants a client certificate ends the handshake with an alert."""
    with s_server(ca, "-tls1_2", *MUTUAL) as server:
        problem = await dial.failure("https://up.test", server.port)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "handshake failure" in problem.detail


async def test_a_missing_client_certificate_is_told_after_a_tls_1_3_handshake(dial: Dial, ca: Authority) -> None:
    """A TLS 1.3 server tells by an alert that comes when the handshake is done, and means the same."""
    with s_server(ca, "-tls1_3", *MUTUAL) as server:
        connection = await dial.connect("https://up.test", server.port)
        async with asyncio.timeout(DEADLINE):
            error = await connection.lost
    assert isinstance(error, OSError)
    problem = tls_problem(error)
    assert told(problem) == ("upstream_tls_failed", 502, "tls_alert_received")
    assert "certificate required" in problem.detail


class Ending(Connection):
    """Notes whether the stream was ended, which over TLS means close_notify."""

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


async def test_a_problem_of_tls_is_no_secret_carrier(dial: Dial, ca: Authority) -> None:
    """What is shown of a failed handshake has no trace of the exception it came from."""
    async with upstream(ca.server_context("other.test")) as port:
        problem = await dial.failure("https://up.test", port)
    assert isinstance(problem, Problem)
    assert "other.test" not in repr(problem)


async def test_a_dial_that_is_given_up_is_no_defect(dial: Dial, ca: Authority) -> None:
    """A handshake that comes to its end when nobody waits any more is not reported."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reported.append(report))
    async with upstream(ca.server_context("other.test")) as port:
        for turns in range(30):
            async with nothing_left():
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
async def test_a_connection_resumes_the_session_of_its_slot(dial: Dial, ca: Authority, version: ssl.TLSVersion) -> None:
    """And of no other."""
    context = ca.server_context("up.test")
    context.maximum_version = version

    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"answer")
        tls.unwrap()

    mine, other = Sessions(), Sessions()
    resumed = []
    with TlsPeer(context, script, 6) as peer:
        for sessions in (mine, mine, mine, other, None, mine):
            connection = await dial.connect_as(Connection, "https://up.test", peer.port, sessions=sessions)
            resumed.append(connection.transport.get_extra_info("ssl_object").session_reused)
            await connection.lost
        await peer.served()
    assert resumed == [False, True, True, False, False, True]
    assert peer.errors == []
