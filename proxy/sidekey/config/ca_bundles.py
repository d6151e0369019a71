"""Checks of PEM bundles: the CAs that Sidekey trusts, and those that it adds to the trust folder for clients."""

from __future__ import annotations

import ssl

from sidekey.ca.roots import certificates, is_local

MAX_BUNDLE_SIZE = 16 << 20
"""Bytes of a bundle file."""


def check_bundle(pem: str) -> None:
    """Raise ValueError if there is no certificate in PEM, or one that OpenSSL cannot read."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError("must contain a certificate in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError:
        raise ValueError("contains a certificate that cannot be read") from None


def check_no_local_ca(pem: bytes) -> None:
    """Raise ValueError if there is a local CA of Sidekey: it signs for clients, and must never verify upstreams."""
    if any(map(is_local, certificates(pem))):
        raise ValueError("must not contain a local CA of Sidekey, which never verifies upstreams: remove it")
