"""Client certificates as files."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from support.client_files import ClientAuthority


def test_files_can_be_presented_and_written_anew(tmp_path: Path) -> None:
    """Certificate and key fit each other; those of another client do not."""
    clients = ClientAuthority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    first = clients.client("ann")
    context.load_cert_chain(first.certificate, first.key)
    again = clients.write("ann", clients.issue("ann", chained=True), passphrase="open sesame")
    context.load_cert_chain(again.certificate, again.key, password="open sesame")
    assert (again.certificate, again.key) == (first.certificate, first.key)
    assert again.sha1 != first.sha1
    assert (len(again.sha1), len(again.sha256)) == (40, 64)
    with pytest.raises(ssl.SSLError):
        context.load_cert_chain(clients.client("bob").certificate, again.key, password="open sesame")
