"""TLS to upstreams: one context for each trust, and what a failure of TLS means in our words.

Every context verifies chain and host name; there is no switch to turn that off. The contexts are built from nothing
rather than by `ssl.create_default_context`, which writes the session keys to `$SSLKEYLOGFILE`, and which verifies
differently from Python 3.13 on.
"""

from __future__ import annotations

import re
import ssl
from asyncio import BaseTransport

from sidekey.errors import Problem
from sidekey.settings.snapshot import Trust

# OpenSSL's numbers (x509_vfy.h, X509_V_ERR_*), part of its stable interface; the ssl module names none of them.
_CERTIFICATE_FAULTS = {
    2: "its issuer is not trusted",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed and not trusted",
    19: "its chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not trusted",
    21: "its issuer is not trusted",
    23: "it was revoked",
    24: "its issuer is no certificate authority",
    25: "its chain is longer than its issuer allows",
    26: "it is not meant for a server",
    47: "its name is outside what its issuer may sign",
    62: "it is for another host name",
    64: "it is for another IP address",
    66: "its key is too weak",
    67: "its issuer's key is too weak",
    68: "its signature is too weak",
}
_STRICT_RULES = range(79, 96)
"""The rules of RFC 5280 that OpenSSL checks where it is told to be strict."""

_NO_COMMON_VERSION = frozenset({"UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)")
"""OpenSSL's symbols for the alerts of a peer, which hold the names of RFC 8446 6."""
_UNCLEAR = "the TLS connection to the upstream failed"


class TlsContexts:
    """The contexts, shared by equal trust; the first use of one reads its certificates (some 5 ms)."""

    def __init__(self) -> None:
        self._contexts: dict[Trust, ssl.SSLContext] = {}

    def get(self, trust: Trust) -> ssl.SSLContext:
        """Return the context for `trust`. Raises Problem credential_unavailable where its CA file cannot be used."""
        context = self._contexts.get(trust)
        if context is None:
            context = self._contexts[trust] = client_context(trust)
        return context


def client_context(trust: Trust) -> ssl.SSLContext:
    """Build a context of its own, to which a client certificate may be added. Raises as `TlsContexts.get` does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A CA that the operator trusts need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    if trust.source == "system":
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(_ca_file(trust))
    except OSError:
        raise Problem(
            "credential_unavailable",
            "trusted_ca names a file that cannot be read or holds no PEM certificate",
            error="proxy_configuration_error",
        ) from None
    return context


def _ca_file(trust: Trust) -> str:
    if trust.path is not None:
        return trust.path
    # Imported late: a config without https upstreams pays nothing for it.
    import certifi  # noqa: PLC0415

    return certifi.where()


def tls_problem(fault: OSError) -> Problem:
    """Map the failure of a TLS connection, in the handshake or before the first byte of the answer.

    Holds nothing of the library's text.
    """
    if isinstance(fault, ssl.SSLCertVerificationError):
        return _failed("tls_certificate_error", f"the upstream's certificate is refused: {_certificate_fault(fault)}")
    if isinstance(fault, ssl.SSLError):
        # The attribute is absent where OpenSSL gave no reason.
        reason = getattr(fault, "reason", None) or ""
        alert = _ALERT.fullmatch(reason)
        if alert is not None:
            name = alert[1].lower().replace("_", " ")
            return _failed("tls_alert_received", f"the upstream ended TLS with the alert: {name}")
        if reason in _NO_COMMON_VERSION:
            return _failed("tls_protocol_error", "the upstream speaks no TLS version from 1.2 on")
        if reason in _NOT_TLS:
            return _failed("tls_protocol_error", "the upstream does not speak TLS on this port")
        return _failed("tls_protocol_error", _UNCLEAR)
    return _failed("tls_protocol_error", "the upstream closed the connection during TLS")


def _certificate_fault(fault: ssl.SSLCertVerificationError) -> str:
    code = fault.verify_code
    if code in _STRICT_RULES:
        return "it breaks a rule of RFC 5280"
    return _CERTIFICATE_FAULTS.get(code, f"it does not verify (OpenSSL's X509_V_ERR {code})")


def _failed(error: str, detail: str) -> Problem:
    return Problem("upstream_tls_failed", detail, error=error)


def ended_by_close_notify(transport: BaseTransport) -> bool:
    """Whether the peer ended TLS with close_notify (RFC 8446 6.1); to be called from `eof_received`.

    asyncio reports a bare end of TCP, which anyone on the way can forge, by the same callback. uvloop reports that by
    `connection_lost(None)` alone, so that without an `eof_received` no TLS connection has ended well.
    """
    tls = transport.get_extra_info("ssl_object")
    try:
        return tls is not None and tls.read(1) == b""
    except ssl.SSLError:
        return False
