"""TLS contexts that terminate callers' TLS: of the listeners, and of each host of a tunnel."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, cast

from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DNSName,
    DuplicateExtension,
    ExtensionNotFound,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_der_x509_certificate,
)

from sidekey.network.tls import verified_chain
from sidekey.network.tls_identity import load_chain
from sidekey.policy.callers import certificate_key
from sidekey.snapshot.admin import ListenTls, ServerCertificate
from sidekey.snapshot.snapshot import Snapshot


class ServerContext(ssl.SSLContext):
    """A context that terminates callers' TLS. `client_cas` verify their certificates, as DER."""

    client_cas: frozenset[bytes] = frozenset()


def listener_context(certificate: ServerCertificate) -> ServerContext:
    """Build the context of a listener. Raises OSError or ValueError if the certificate or its key cannot be used."""
    # The chain may lack a newline at its end.
    return _context(b"\n".join((certificate.chain, certificate.key)))


class ListenerTls:
    """TLS of the proxy listener: `context` serves the handshakes that begin now, under `rules`.

    A reload that changes the rules replaces the context. Sessions and tickets belong to their context, so no caller
    resumes a session that other CAs have verified. Raises OSError or ValueError if the certificate cannot be used.
    """

    def __init__(self, rules: ListenTls) -> None:
        self.rules = rules
        self.context = _caller_context(rules)

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Build the context of another snapshot. The returned function puts it into use."""
        rules = snapshot.listen.tls or self.rules
        context = self.context if rules == self.rules else _caller_context(rules)

        def commit() -> None:
            self.rules, self.context = rules, context

        return commit


class PeerCertificate(NamedTuple):
    """A caller's verified certificate: the keys of `policy.callers` for its names, and its end in Unix time.

    `cas` has the CA of `client_ca` that verified it, as DER, or all CAs if TLS 1.2 has resumed a session.
    """

    keys: tuple[bytes, ...]
    not_after: float
    cas: frozenset[bytes]


def peer_certificate(tls: ssl.SSLObject) -> PeerCertificate | None:
    """Return the certificate that the caller presented in a completed handshake, or None.

    Only alternative names count, and not those of a CA. A SPIFFE ID must be the only URI (X509-SVID 2 and 4).
    """
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    certificate = load_der_x509_certificate(der)
    sans = tuple(map(certificate_key, _names(certificate)))
    # A resumed session has no chain. It began in this context, so one of its CAs verified the certificate.
    cas = frozenset(verified_chain(tls)[-1:]) or cast(ServerContext, tls.context).client_cas
    return PeerCertificate(sans, certificate.not_valid_after_utc.timestamp(), cas)


def _names(certificate: Certificate) -> list[str]:
    """Return the names that may identify a caller, as in `callers.NAME.certificate.san`."""
    with suppress(DuplicateExtension, ValueError):
        extensions = certificate.extensions
        with suppress(ExtensionNotFound):
            if extensions.get_extension_for_class(BasicConstraints).value.ca:
                return []
        with suppress(ExtensionNotFound):
            names = extensions.get_extension_for_class(SubjectAlternativeName).value
            uris = names.get_values_for_type(UniformResourceIdentifier)
            # Any other URI could look like a name of another type.
            ids = [uri for uri in uris if len(uris) == 1 and uri.startswith("spiffe://")]
            return [*ids, *(f"dns:{name.lower()}" for name in names.get_values_for_type(DNSName))]
    return []


def _caller_context(rules: ListenTls) -> ServerContext:
    context = listener_context(rules.certificate)
    context.client_cas = rules.client_cas
    if rules.client_cas:
        context.verify_mode = ssl.CERT_REQUIRED if rules.requires_certificate else ssl.CERT_OPTIONAL
        # A CA that the operator trusts need not be a root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        # Without tickets TLS 1.3 resumes no session, so each connection verifies the certificate. TLS 1.2 would resume
        # sessions from a cache of OpenSSL, which Python cannot turn off: there, tickets save 6 KiB for each session.
        context.num_tickets = 0
        context.load_verify_locations(cadata=b"".join(sorted(rules.client_cas)))
    return context


def server_context(host: str, pem: bytes) -> ssl.SSLContext:
    """Build a context that presents the certificate of a host. `pem` holds the certificate, its chain and its key.

    A handshake for another server name fails with the alert unrecognized_name (RFC 6066 3). Raises OSError or
    ValueError if the certificate or its key cannot be used.
    """
    context = _context(pem)
    context.sni_callback = partial(_check_name, host)
    return context


def _context(pem: bytes) -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # As in network/tls.py: a bare end of TCP must not count as close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = 1  # OpenSSL sends two by default, and each costs a twentieth of a handshake.
    load_chain(context, pem)
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
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate_refused"
    if not isinstance(error, ssl.SSLError):
        return "ca_untrusted" if certificate_sent else "caller_gone"
    # Without a reason from OpenSSL, the attribute is absent.
    reason = getattr(error, "reason", None) or ""
    if reason in _REJECTIONS:
        return "ca_untrusted"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "certificate_missing"
    return "sni" if reason == "CALLBACK_FAILED" else "tls_failed"
