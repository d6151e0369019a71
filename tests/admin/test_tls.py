"""admin/tls.py: each handshake presents the certificate of the snapshot in use."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from sidekey.admin.health import Health
from sidekey.admin.listeners import build_admin
from sidekey.admin.serve import serve
from sidekey.admin.tls import AdminTls
from sidekey.observe.metrics import Metrics
from sidekey.runtime.admin_rules import AdminRules, ServerCertificate
from sidekey.runtime.snapshot import Address, Snapshot
from support.ca import Authority, Leaf


def certificate(leaf: Leaf) -> ServerCertificate:
    return ServerCertificate(leaf.certificate.read_bytes(), leaf.key.read_bytes())


def snapshot(found: ServerCertificate | None) -> Snapshot:
    return Snapshot({}, admin=AdminRules(certificate=found))


async def test_a_prepared_certificate_is_presented_once_it_is_committed(ca: Authority) -> None:
    """By name or without, in TLS 1.2 or newer. A snapshot without one changes nothing."""
    first, second = ca.leaf("one.test"), ca.leaf("two.test")
    tls = AdminTls(certificate(first))
    server = await serve(build_admin(Health(), Metrics()), Address(), "listen.admin", tls=tls.context)
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


def test_what_is_no_certificate_changes_nothing(ca: Authority) -> None:
    """It is found while it is prepared."""
    tls = AdminTls(certificate(ca.leaf("one.test")))
    with pytest.raises((OSError, ValueError)):
        tls.prepare(snapshot(ServerCertificate(b"x", b"y")))
