"""`openssl s_server` as tests use it."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import pytest

from support.ca import Authority
from support.client_files import ClientAuthority
from support.openssl_server import OpensslServer, shown


def test_the_page_shows_the_certificate_that_was_seen(ca: Authority, tmp_path: Path) -> None:
    """In PEM, as it was issued."""
    clients = ClientAuthority(tmp_path)
    client = clients.client("ann")
    context = ca.client_context()
    context.load_cert_chain(client.certificate, client.key)
    with (
        OpensslServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle) as server,
        urllib.request.urlopen(f"https://127.0.0.1:{server.port}/", context=context, timeout=15) as answer,
    ):
        assert shown(answer.read()) == client.issued.pem


def test_a_client_without_a_certificate_is_refused(ca: Authority, tmp_path: Path) -> None:
    """By TLS itself, and the server says so."""
    clients = ClientAuthority(tmp_path)
    with OpensslServer(tmp_path, ca.leaf("127.0.0.1"), clients=clients.bundle, version="tls1_2") as server:
        with pytest.raises(OSError, match="alert") as failure:
            urllib.request.urlopen(f"https://127.0.0.1:{server.port}/", context=ca.client_context(), timeout=15)
        assert isinstance(failure.value.__context__, ssl.SSLError)
        server.until_said("peer did not return a certificate")


def test_a_server_that_does_not_start_says_why(ca: Authority, tmp_path: Path) -> None:
    """With OpenSSL's own words."""
    with (
        pytest.raises(RuntimeError, match=r"(?s)does not listen.*missing"),
        OpensslServer(tmp_path, ca.leaf("127.0.0.1"), clients=tmp_path / "missing"),
    ):
        pass


def test_a_page_without_a_certificate_shows_none() -> None:
    """So that a comparison fails by itself."""
    assert shown(b"no client certificate available") == b""
