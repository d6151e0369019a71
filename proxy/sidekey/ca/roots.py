"""Which certificates of a store may verify upstreams: all but local CAs of Sidekey, whatever brought them there.

A store that callers use may contain one: `$SSL_CERT_FILE` names the bundle of a trust folder, or an operator has added
the CA to the system's. Whoever reads the CA's key could then pose as an upstream, and be sent credentials.
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
    """Whether this is the certificate of a local CA that Sidekey has made, or was signed by one."""
    return _MARK in der


def certificates(pem: bytes) -> Iterator[bytes]:
    """The certificates of a PEM, as DER; like OpenSSL's, this reading passes over what it does not understand."""
    for text in _PEM.findall(pem):
        # binascii.Error is one.
        with contextlib.suppress(ValueError):
            yield base64.b64decode(text)


def usable(pem: bytes) -> dict[bytes, None]:
    """Those that may verify upstreams, each once."""
    return dict.fromkeys(der for der in certificates(pem) if not is_local(der))
