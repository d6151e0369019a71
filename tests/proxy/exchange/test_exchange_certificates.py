"""Client certificates in the data plane: which one an upstream sees, and that no connection crosses to another."""

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


class Held:
    """Where a client certificate is: `later` is what `obtain` finds where there is none."""

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
    """A client certificate of this name, from the test's own CA."""
    leaf = ca.ca.issue_cert(f"{name}@clients.test", common_name=name)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    key = leaf.private_key_pem.bytes()
    now = time.time()
    return ClientIdentity(chain, key, hashlib.sha256(chain + key).hexdigest(), now - 60, now + life, name, "test CA")


class Seeing:
    """An upstream that asks for a client certificate and writes down whose it saw, one entry a request."""

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


async def test_two_certificates_for_one_host_are_two_pools(ca: Authority) -> None:
    """Each request is seen under its own, also where connections are kept and the requests alternate."""
    upstream_side = Seeing(ca)
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        ours = {name: Held(identity(ca, name)) for name in ("alice", "bob")}
        made = [trusting(ca, name, upstream.port) for name in ours]
        async with running(*made, identities=ours) as sidekey:
            for name in ("alice", "bob", "alice", "bob"):
                assert (await sidekey.ask(get(name=name))).status == 200
        assert upstream_side.seen == ["alice", "bob", "alice", "bob"]
        assert len(upstream.connections) == 2


async def test_a_new_certificate_is_used_from_the_next_request_on(ca: Authority) -> None:
    """By a new connection; those of the old one are not used again."""
    upstream_side = Seeing(ca)
    held = Held(identity(ca, "old"))
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            for name in ("old", "old", "new", "new"):
                if name == "new" and held.identity is not None and held.identity.subject == "old":
                    held.identity = identity(ca, "new")
                assert (await sidekey.ask(get())).status == 200
            assert held.identity is not None
            assert [pool.key.fingerprint for pool in sidekey.plane.pools.known()] == [held.identity.fingerprint]
            await upstream.connections[0].until_ended()
        assert upstream_side.seen == ["old", "old", "new", "new"]
        assert len(upstream.connections) == 2


async def test_a_request_waits_for_its_certificate_with_its_body(ca: Authority) -> None:
    """Nothing is connected before."""
    upstream_side = Seeing(ca)
    held = Held(later=identity(ca, "late"))
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            asking = asyncio.create_task(sidekey.ask(request("POST", body=b"x" * 300_000)))
            await eventually(lambda: held.asked)
            assert upstream.connections == []
            held.go.set()
            assert (await asking).status == 200
        assert upstream_side.seen == ["late"]
        assert len(upstream.requests[0].body) == 300_000


async def test_without_a_certificate_nothing_is_sent(ca: Authority) -> None:
    """Not even a connection without one; the response says why."""
    gone = Problem(
        "credential_unavailable", "the client certificate expired on 2026-01-01", error="proxy_configuration_error"
    )
    held = Held(later=gone)
    held.go.set()
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            said = problem(await sidekey.ask(get()))
            assert (said["code"], said["detail"]) == ("credential_unavailable", gone.detail)
        assert upstream.connections == []


async def test_a_certificate_that_is_past_its_end_connects_no_more(ca: Authority) -> None:
    """Whoever holds it has not noticed yet."""
    held = Held(replace(identity(ca, "old"), not_after=time.time() - 1))
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            said = problem(await sidekey.ask(get()))
            assert (said["code"], said["sent"]) == ("credential_unavailable", "no")
            assert said["detail"].startswith("the client certificate expired on 20")
        assert upstream.connections == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_refuses_the_certificate_is_told_and_never_asked_again(
    ca: Authority, tmp_path_factory: pytest.TempPathFactory, version: ssl.TLSVersion
) -> None:
    """Under TLS 1.3 it shows only after the request may have been written."""
    strangers = Authority(tmp_path_factory.mktemp("strangers"))
    upstream_side = Seeing(ca)
    upstream_side.context.minimum_version = upstream_side.context.maximum_version = version
    async with RawUpstream(upstream_side.script, ssl_context=upstream_side.context) as upstream:
        held = Held(identity(strangers, "stranger"))
        async with running(trusting(ca, "h", upstream.port), identities={"h": held}) as sidekey:
            said = problem(await sidekey.ask(get()))
            assert said["code"] == "upstream_tls_failed"
            assert said["sent"] == ("no" if version is ssl.TLSVersion.TLSv1_2 else "maybe")
            assert sidekey.metrics.stats("h").connects in (
                {"ok": 1},
                {"tls_alert_received": 1},
                {"tls_protocol_error": 1},
            )
        assert upstream_side.seen == []
