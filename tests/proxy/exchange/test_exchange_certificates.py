"""Client certificates in the data plane: each upstream sees the right one, and no connection is shared."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from dataclasses import replace

import pytest

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.snapshot import Integration
from support.plane import UPSTREAM, base_url, eventually, get, integration, problem, request, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream


class CertificateSource:
    """A source of a client certificate. `later` is the result of `obtain` if there is none."""

    def __init__(self, identity: ClientIdentity | None = None, later: ClientIdentity | Problem | None = None) -> None:
        self.identity = identity
        self.later = later
        self.go = asyncio.Event()
        self.asked = 0

    async def obtain(self) -> ClientIdentity:
        self.asked += 1
        await self.go.wait()
        if isinstance(self.later, Problem):
            raise ProblemError(self.later)
        assert self.later is not None
        self.identity = self.later
        return self.later


def identity(ca: Authority, name: str, *, life: float = 3600) -> ClientIdentity:
    """Issue a client certificate with this name by the CA of the test."""
    leaf = ca.ca.issue_cert(f"{name}@clients.test", common_name=name)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    key = leaf.private_key_pem.bytes()
    now = time.time()
    return ClientIdentity(chain, key, hashlib.sha256(chain + key).hexdigest(), now - 60, now + life, name, "test CA")


class CertificateRecorder:
    """An upstream that requests a client certificate, and records it for each request."""

    def __init__(self, ca: Authority) -> None:
        self.context = ca.server_context(UPSTREAM)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(ca.bundle)
        self.seen: list[str] = []

    async def script(self, connection: RawConnection) -> None:
        while True:
            await connection.request()
            certificate = connection.transport.get_extra_info("peercert") or {}
            names = {key: value for part in certificate.get("subject", ()) for key, value in part}
            self.seen.append(names.get("commonName", ""))
            await connection.send(OK)


def trusting(ca: Authority, name: str, port: int) -> Integration:
    return integration(name, base_url(port, scheme="https"), trust=ca.trust)


async def test_two_certificates_for_one_host_share_no_connection(ca: Authority) -> None:
    """Also with reused connections and alternating requests."""
    upstream_side = CertificateRecorder(ca)
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        ours = {name: CertificateSource(identity(ca, name)) for name in ("alice", "bob")}
        integrations = [trusting(ca, name, upstream.port) for name in ours]
        async with running(*integrations, identities=ours) as sidekey:
            for name in ("alice", "bob", "alice", "bob"):
                assert (await sidekey.send(get(name=name))).status == 200
        assert upstream_side.seen == ["alice", "bob", "alice", "bob"]
        assert len(upstream.connections) == 2


async def test_a_new_certificate_is_used_from_the_next_request_on(ca: Authority) -> None:
    """On a new connection. Sidekey does not reuse connections with the old certificate."""
    upstream_side = CertificateRecorder(ca)
    held = CertificateSource(identity(ca, "old"))
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            for name in ("old", "old", "new", "new"):
                if name == "new" and held.identity is not None and held.identity.subject == "old":
                    held.identity = identity(ca, "new")
                assert (await sidekey.send(get())).status == 200
            assert held.identity is not None
            assert [pool.key.fingerprint for pool in sidekey.plane.pools.known()] == [held.identity.fingerprint]
            await upstream.connections[0].until_ended()
        assert upstream_side.seen == ["old", "old", "new", "new"]
        assert len(upstream.connections) == 2


async def test_a_request_waits_for_its_certificate_with_its_body(ca: Authority) -> None:
    """Sidekey opens no connection before."""
    upstream_side = CertificateRecorder(ca)
    held = CertificateSource(later=identity(ca, "late"))
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            asking = asyncio.create_task(sidekey.send(request("POST", body=b"x" * 300_000)))
            await eventually(lambda: held.asked)
            assert upstream.connections == []
            held.go.set()
            assert (await asking).status == 200
        assert upstream_side.seen == ["late"]
        assert len(upstream.requests[0].body) == 300_000


async def test_without_a_certificate_nothing_is_sent(ca: Authority) -> None:
    """Sidekey opens no connection, and the response has the reason."""
    gone = Problem(
        "credential_unavailable", "the client certificate expired on 2026-01-01", error="proxy_configuration_error"
    )
    held = CertificateSource(later=gone)
    held.go.set()
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            error = problem(await sidekey.send(get()))
            assert (error["code"], error["detail"]) == ("credential_unavailable", gone.detail)
        assert upstream.connections == []


async def test_expired_certificate_opens_no_connection(ca: Authority) -> None:
    """Even if its source has not noticed yet."""
    held = CertificateSource(replace(identity(ca, "old"), not_after=time.time() - 1))
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            error = problem(await sidekey.send(get()))
            assert (error["code"], error["sent"]) == ("credential_unavailable", "no")
            assert error["detail"].startswith("the client certificate expired on 20")
        assert upstream.connections == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_refused_certificate_is_reported_and_not_retried(
    ca: Authority, tmp_path_factory: pytest.TempPathFactory, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3, the refusal may follow the request."""
    strangers = Authority(tmp_path_factory.mktemp("strangers"))
    upstream_side = CertificateRecorder(ca)
    upstream_side.context.minimum_version = upstream_side.context.maximum_version = version
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        held = CertificateSource(identity(strangers, "stranger"))
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            error = problem(await sidekey.send(get()))
            assert error["code"] == "upstream_tls_failed"
            assert error["sent"] == ("no" if version is ssl.TLSVersion.TLSv1_2 else "maybe")
            assert sidekey.metrics.stats("h").connects in (
                {"ok": 1},
                {"tls_alert_received": 1},
                {"tls_protocol_error": 1},
            )
        assert upstream_side.seen == []
