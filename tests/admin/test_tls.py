"""admin/tls.py: each handshake presents the certificate of the snapshot in use."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack

import pytest

from sidekey.admin import serve as module
from sidekey.admin.health import Health
from sidekey.admin.listeners import build_admin
from sidekey.admin.serve import serve
from sidekey.admin.tls import AdminTls
from sidekey.observe.exposition import Exposition
from sidekey.observe.metrics import Metrics
from sidekey.runtime.admin_rules import AdminRules, ServerCertificate
from sidekey.runtime.snapshot import Address, Snapshot
from support import raw
from support.ca import Authority, Leaf


def certificate(leaf: Leaf) -> ServerCertificate:
    return ServerCertificate(leaf.certificate.read_bytes(), leaf.key.read_bytes())


def snapshot(found: ServerCertificate | None) -> Snapshot:
    return Snapshot({}, admin=AdminRules(certificate=found))


async def test_a_prepared_certificate_is_presented_once_it_is_committed(ca: Authority) -> None:
    """By name or without, in TLS 1.2 or newer. A snapshot without one changes nothing."""
    first, second = ca.leaf("one.test"), ca.leaf("two.test")
    tls = AdminTls(certificate(first))
    server = await serve(build_admin(Health(), Exposition(Metrics())), Address(), "listen.admin", tls=tls.context)
    context = ca.client_context()
    context.check_hostname = False

    async def names(server_hostname: str = "") -> set[str]:
        where = server.addresses[0]
        _, writer = await asyncio.open_connection(where.host, where.port, ssl=context, server_hostname=server_hostname)
        found = writer.get_extra_info("peercert")["subjectAltName"]
        writer.close()
        await writer.wait_closed()
        return {name for _, name in found}

    try:
        assert await names() == await names("whatever.test") == {"one.test"}
        commit = tls.prepare(snapshot(certificate(second)))
        assert await names() == {"one.test"}
        commit()
        assert await names() == {"two.test"}
        tls.prepare(snapshot(None))()
        assert await names("one.test") == {"two.test"}
        assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    finally:
        await server.close()


async def test_a_handshake_that_never_ends_takes_no_connection_from_others(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens many and says nothing in them has as few descriptors as anybody, and each for a while only."""
    tls = AdminTls(certificate(ca.leaf("one.test")))
    server = await serve(build_admin(Health(), Exposition(Metrics())), Address(), "listen.admin", 4, tls=tls.context)
    port = server.addresses[0].port
    context = ca.client_context()
    context.check_hostname = False
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw.connect(port)) for _ in range(9)]
        for each in silent[:5]:
            await each.until_ended()
        async with raw.connect(port, ssl_context=context) as asking:
            await asking.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await asking.response()).body == b"ok\n"
            await silent[5].until_ended()
            assert not any(each.ended for each in silent[6:])
            # One that speaks no TLS ends as well.
            await silent[8].send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await silent[8].until_ended()
            monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.01)
            late = await stack.enter_async_context(raw.connect(port))
            await late.until_ended()
            assert not asking.ended
        await server.close()
        await silent[7].until_ended()


def test_what_is_no_certificate_changes_nothing(ca: Authority) -> None:
    """It is found while it is prepared."""
    tls = AdminTls(certificate(ca.leaf("one.test")))
    with pytest.raises((OSError, ValueError)):
        tls.prepare(snapshot(ServerCertificate(b"x", b"y")))
