"""The real Caddy that tests use as an upstream."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import pytest

from support.ca import Authority
from support.caddy import Caddy
from support.client_files import ClientAuthority


@pytest.mark.parametrize("version", ["tls1.2", "tls1.3"])
def test_an_answer_tells_which_certificate_was_seen(version: str, ca: Authority, tmp_path: Path) -> None:
    """By its fingerprint, with the TLS version and the request."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    context = ca.client_context()
    context.load_cert_chain(client.certificate, client.key)
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version=version) as caddy:
        request = urllib.request.Request(f"https://127.0.0.1:{caddy.port}/a?b=c", headers={"Authorization": "Basic x"})
        with urllib.request.urlopen(request, context=context, timeout=15) as answer:
            assert answer.headers["X-Client-Certificate"] == client.sha256
            assert answer.headers["X-Client-Subject"] == "CN=ann"
            assert answer.headers["X-Tls-Version"] == version
            assert answer.read() == b"GET /a?b=c\nauthorization: Basic x\n"
        assert caddy.refusals() == []


def test_a_client_without_a_certificate_is_refused(ca: Authority, tmp_path: Path) -> None:
    """By TLS itself."""
    clients = ClientAuthority(tmp_path)
    with Caddy(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version="tls1.2") as caddy:
        with pytest.raises(OSError, match="alert") as failure:
            urllib.request.urlopen(f"https://127.0.0.1:{caddy.port}/", context=ca.client_context(), timeout=15)
        assert isinstance(failure.value.__context__, ssl.SSLError)
        assert len(caddy.refusals(1)) == 1
