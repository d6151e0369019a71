"""Recording servers that request a client certificate."""

from __future__ import annotations

import ssl

import pytest

from sidekey.network.tls import observe_certificate_requests
from support.private_ca import Authority


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Do one handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="up.test")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asks", [True, False])
def test_server_that_requests_a_certificate_is_recorded(ca: Authority, version: ssl.TLSVersion, asks: bool) -> None:
    """In TLS 1.2 and 1.3."""
    named: list[str] = []
    client, server = ca.client_context(), ca.server_context("up.test")
    client.maximum_version = version
    if asks:
        server.verify_mode = ssl.CERT_OPTIONAL
        server.load_verify_locations(ca.bundle)
    observe_certificate_requests(client, named.append)
    shake(client, server)
    assert named == (["up.test"] if asks else [])
