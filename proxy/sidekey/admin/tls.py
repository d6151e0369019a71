"""TLS of the admin listener: each handshake presents the certificate of the snapshot in use."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from sidekey.network.tls_identity import load_chain
from sidekey.runtime.admin_rules import ServerCertificate
from sidekey.runtime.snapshot import Snapshot


class AdminTls:
    """The context of the listener, from a first certificate on. Raises OSError or ValueError where that is none."""

    def __init__(self, certificate: ServerCertificate) -> None:
        self._certificate = certificate
        self._current = _context(certificate)
        self.context = _context(certificate)
        self.context.sni_callback = self._present

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to present the certificate of another snapshot; the result does so from the next handshake on."""
        certificate = snapshot.admin.certificate or self._certificate
        same = (certificate.chain, certificate.key) == (self._certificate.chain, self._certificate.key)
        context = self._current if same else _context(certificate)

        def commit() -> None:
            self._certificate, self._current = certificate, context

        return commit

    def _present(self, handshake: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        handshake.context = self._current


def _context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # A line's end between the two, whatever the first one ends with.
    load_chain(context, b"\n".join((certificate.chain, certificate.key)))
    return context
