"""PEM files of CAs that Sidekey trusts, or tells others to trust."""

from __future__ import annotations

import ssl

from sidekey.ca.roots import certificates, is_local

MAX_BUNDLE_SIZE = 16 << 20
"""Bytes of such a file."""


def check_bundle(pem: str) -> None:
    """Raise ValueError where this holds no certificate in PEM, or one that OpenSSL does not read."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError("must contain a certificate in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError:
        raise ValueError("contains a certificate that cannot be read") from None


def check_no_local_ca(pem: bytes) -> None:
    """Raise ValueError where this holds a local CA of Sidekey, by which nothing that comes from outside is verified."""
    if any(map(is_local, certificates(pem))):
        raise ValueError("must not contain a local CA of Sidekey, which never verifies upstreams: remove it")
