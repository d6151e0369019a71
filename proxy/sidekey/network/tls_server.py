"""TLS contexts that terminate callers' TLS: one for each host, with a certificate for it."""

from __future__ import annotations

import ssl
from functools import partial

from sidekey.network.tls_identity import load_chain


def server_context(host: str, pem: bytes) -> ssl.SSLContext:
    """Build a context that presents the certificate of a host. `pem` holds the certificate, its chain and its key.

    A handshake for another server name fails with the alert unrecognized_name (RFC 6066 3). Raises OSError or
    ValueError if the certificate or its key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # As in network/tls.py: a bare end of TCP must not count as close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])
    load_chain(context, pem)
    context.sni_callback = partial(_check_name, host)
    return context


def _check_name(host: str, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
    """Return an alert if the server name is not the host, ignoring case (RFC 6066 3).

    When a client resumes a TLS 1.2 session, OpenSSL passes the name of the first handshake. That handshake used this
    context and certificate, and Host is checked in each request, so a client that sends another name gains nothing.
    """
    return None if name is None or name.lower() == host else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


_REJECTIONS = frozenset(
    f"{version}_{name}"
    for version in ("SSLV3", "TLSV1")
    for name in (
        "ALERT_UNKNOWN_CA",
        "ALERT_BAD_CERTIFICATE",
        "ALERT_CERTIFICATE_UNKNOWN",
        "ALERT_CERTIFICATE_EXPIRED",
        "ALERT_UNSUPPORTED_CERTIFICATE",
    )
)
"""OpenSSL's symbols for the alerts with which a client rejects a certificate (RFC 8446 6.2)."""


def handshake_outcome(error: BaseException, *, certificate_sent: bool) -> str:
    """Return the metric outcome of a caller's failed handshake.

    Many clients that do not trust a certificate close without an alert.
    """
    if not isinstance(error, ssl.SSLError):
        return "ca_untrusted" if certificate_sent else "caller_gone"
    # Without a reason from OpenSSL, the attribute is absent.
    reason = getattr(error, "reason", None) or ""
    if reason in _REJECTIONS:
        return "ca_untrusted"
    return "sni" if reason == "CALLBACK_FAILED" else "tls_failed"
