"""Filter the roots that may verify upstreams: never a local CA of Sidekey.

A root store of callers may contain one: `$SSL_CERT_FILE` names the bundle of a trust folder, or an operator added the
CA to the system's roots. Then anybody with the CA's key could pose as an upstream and receive credentials.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator

from sidekey.ca.authorities import MARK

_MARK = MARK.encode()
_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----\s(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)


def is_local(der: bytes) -> bool:
    """Return True for the certificate of a local CA that Sidekey created, or one that such a CA signed."""
    return _MARK in der


def certificates(pem: bytes) -> Iterator[bytes]:
    """Yield the certificates of a PEM as DER, and skip malformed blocks as OpenSSL does."""
    for text in _PEM.findall(pem):
        # binascii.Error is a ValueError.
        with contextlib.suppress(ValueError):
            yield base64.b64decode(text)


def upstream_roots(pem: bytes) -> dict[bytes, None]:
    """Return the certificates of a PEM that may verify upstreams, as DER and without duplicates."""
    return dict.fromkeys(der for der in certificates(pem) if not is_local(der))
