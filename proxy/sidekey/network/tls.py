"""TLS to upstreams: a context for each trust and client certificate, and a problem for each TLS failure.

Every context verifies chain and host name, and no setting turns that off. The module does not use
`ssl.create_default_context`, which writes session keys to `$SSLKEYLOGFILE` and verifies more strictly since Python
3.13.
"""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from sidekey.ca.roots import upstream_roots
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.pem_der import public_key
from sidekey.errors import Problem, ProblemError
from sidekey.network import public_roots
from sidekey.network.tls_identity import present
from sidekey.snapshot.snapshot import Snapshot, Trust


class ChainDenied(ssl.SSLError):
    """The upstream's chain contains the CA whose certificates Sidekey presents to callers."""


class UpstreamContext(ssl.SSLContext):
    """A context that rejects a chain if it contains a CA with a public key in `denied`.

    It compares keys, not certificates: the owner of a key can use every certificate that a root issues for it.
    """

    denied: frozenset[bytes] = frozenset()


class _CheckedConnection(ssl.SSLObject):
    """A connection of an `UpstreamContext` with denied keys."""

    def do_handshake(self) -> None:
        """Do the handshake. Raises ChainDenied before anything is written if the chain contains a denied key."""
        super().do_handshake()
        denied = cast(UpstreamContext, self.context).denied
        # A resumed session has no chain: its first handshake passed this check in the same context.
        if any(public_key(certificate) in denied for certificate in verified_chain(self)):
            raise ChainDenied


_DER = 2
"""`_ssl.ENCODING_DER`."""


def verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the verified chain (DER), from the peer's certificate to the trusted one."""
    if sys.version_info >= (3, 13):
        return tls.get_verified_chain()
    # Python 3.11 and 3.12 have this private method and will not change any more.
    certificates = cast(Any, tls)._sslobj.get_verified_chain() or ()
    return [certificate.public_bytes(_DER) for certificate in certificates]


class TlsContexts:
    """A cache of contexts, each built at its first use.

    Equal trust shares a context. The cache keeps no context of a CA file longer than its `Trust`, and no context with a
    client certificate longer than its last connection and its `Sessions`, whose number `IdentityContexts` limits. So
    contexts do not accumulate over reloads and rotations.
    """

    def __init__(self) -> None:
        self.on_certificate_request: Callable[[str], None] | None = None
        self._denied: frozenset[bytes] = frozenset()
        self._shared: dict[tuple[str, str | None], ssl.SSLContext] = {}
        self._by_trust: WeakKeyDictionary[Trust, ssl.SSLContext] = WeakKeyDictionary()
        self._by_identity: WeakValueDictionary[tuple[Trust, str | None, str], ssl.SSLContext] = WeakValueDictionary()

    def deny(self, keys: frozenset[bytes]) -> None:
        """Replace the denied keys: no chain to an upstream may contain a CA with a denied key."""
        if keys != self._denied:
            self._denied = keys
            self._shared.clear()
            self._by_trust.clear()
            self._by_identity.clear()

    def get(self, trust: Trust, identity: ClientIdentity | None = None) -> ssl.SSLContext:
        """Return the context for `trust` that presents `identity`.

        Raises ProblemError (credential_unavailable) if the CA file of `trust`, the client certificate or its key cannot
        be used.
        """
        folder = public_roots.mozilla_folder() if trust.source == "mozilla" else None
        if identity is None:
            return self._get_without_identity(trust, folder)
        key = (trust, folder, identity.fingerprint)
        context = self._by_identity.get(key)
        if context is None:
            context = client_context(trust, folder, self._denied)
            present(context, identity)
            if self.on_certificate_request is not None:
                observe_certificate_requests(context, self.on_certificate_request)
            self._by_identity[key] = context
        return context

    def _get_without_identity(self, trust: Trust, folder: str | None) -> ssl.SSLContext:
        if trust.source in ("file", "inline"):
            context = self._by_trust.get(trust)
            if context is None:
                context = self._by_trust[trust] = client_context(trust, denied=self._denied)
            return context
        key = (trust.source, folder)
        context = self._shared.get(key)
        if context is None:
            context = self._shared[key] = client_context(trust, folder, self._denied)
        return context


def prepare_trust(snapshot: Snapshot) -> None:
    """Write the folder of Mozilla's CAs now if the snapshot needs it. It takes about 20 ms, once in a process."""
    if snapshot.needs_mozilla:
        public_roots.mozilla_folder()


def client_context(trust: Trust, folder: str | None = None, denied: frozenset[bytes] = frozenset()) -> ssl.SSLContext:
    """Build a context. `folder` replaces the file of Mozilla's bundle. Raises ProblemError (credential_unavailable).

    The context never trusts local CAs, or a chain that contains a CA with a key in `denied`.
    """
    context = UpstreamContext(ssl.PROTOCOL_TLS_CLIENT)
    if denied:
        context.denied = denied
        context.sslobject_class = _CheckedConnection
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Debian's Python 3.11.2 accepts a bare end of TCP as close_notify. Anyone on the path can forge that.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    # A CA that the operator trusts need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    if trust.source == "system":
        _load_readable(context, public_roots.read_system_roots())
    elif trust.source == "mozilla":
        context.load_verify_locations(public_roots.mozilla_bundle() if folder is None else None, folder)
    elif trust.pem is None:
        raise ProblemError(
            Problem(
                "credential_unavailable",
                "trusted_ca must name a file that can be read and holds a PEM certificate",
                error="proxy_configuration_error",
            )
        )
    else:
        _load(context, "".join(map(ssl.DER_cert_to_PEM_cert, upstream_roots(trust.pem.encode("ascii")))))
    return context


def _load(context: ssl.SSLContext, pem: str) -> None:
    """Trust the certificates, if any: the ssl module refuses an empty text."""
    if pem:
        context.load_verify_locations(cadata=pem)


def _load_readable(context: ssl.SSLContext, pem: str) -> None:
    """Trust the certificates that OpenSSL can parse: a broken one in the system's store must not disable the rest."""
    try:
        _load(context, pem)
    except ssl.SSLError:
        for certificate in upstream_roots(pem.encode("ascii")):
            with suppress(ssl.SSLError):
                context.load_verify_locations(cadata=certificate)


_CERTIFICATE_REQUEST = 13
"""The type of the handshake message CertificateRequest (RFC 8446 4.3.2, RFC 5246 7.4.4)."""


def observe_certificate_requests(context: ssl.SSLContext, callback: Callable[[str], None]) -> None:
    """Call `callback` with the server name whenever a server requests a client certificate.

    This uses CPython's debugging hook, and does nothing in a Python without it. The hook costs a call for each TLS
    message, so a serving process must not use it.
    """

    def on_message(connection: Any, direction: str, _version: Any, _content: Any, message: Any, _data: bytes) -> None:
        if direction == "read" and message == _CERTIFICATE_REQUEST:
            callback(connection.server_hostname or "")

    if hasattr(context, "_msg_callback"):
        context._msg_callback = on_message


# OpenSSL's error numbers (x509_vfy.h, X509_V_ERR_*), part of its stable interface. The ssl module has no names for
# them.
_CERTIFICATE_ERRORS = {
    2: "its issuer is not trusted",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed and not trusted",
    19: "its chain ends in a self-signed certificate that is not trusted",
    20: "its issuer is not trusted",
    21: "its issuer is not trusted",
    23: "it was revoked",
    24: "its issuer is not a certificate authority",
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
"""Errors of VERIFY_X509_STRICT, which checks more rules of RFC 5280. Python's default contexts set it since 3.13;
Sidekey's do not (decision 0009)."""

_NO_COMMON_VERSION = frozenset({"UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)")
"""OpenSSL's symbols for the alerts of a peer, with their names of RFC 8446 6."""
_UNCLEAR = "the TLS connection to the upstream failed"


def tls_problem(error: OSError) -> Problem:
    """Return the problem for a TLS failure in the handshake or before the first byte of the response.

    The problem never contains text of the ssl module.
    """
    if isinstance(error, ChainDenied):
        reason = "ca.certificate, which signs for callers, must not be in its chain"
        return _failed("tls_certificate_error", f"the upstream's certificate is refused: {reason}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _failed("tls_certificate_error", f"the upstream's certificate is refused: {_certificate_error(error)}")
    if isinstance(error, ssl.SSLError):
        # Without a reason from OpenSSL, the attribute is absent.
        reason = getattr(error, "reason", None) or ""
        alert = _ALERT.fullmatch(reason)
        if alert is not None:
            name = alert[1].lower().replace("_", " ")
            return _failed("tls_alert_received", f"the upstream ended TLS with the alert: {name}")
        if reason in _NO_COMMON_VERSION:
            return _failed("tls_protocol_error", "the upstream does not support TLS 1.2 or newer")
        if reason in _NOT_TLS:
            return _failed("tls_protocol_error", "the upstream does not speak TLS on this port")
        return _failed("tls_protocol_error", _UNCLEAR)
    return _failed("tls_protocol_error", "the upstream closed the connection during TLS")


def client_certificate_refused() -> Problem:
    """Return the problem for a new connection with a client certificate that closes before the response.

    In TLS 1.3 the client completes the handshake before the server checks its certificate (RFC 8446 4.4.2.4), and some
    servers then close without an alert.
    """
    return _failed(
        "tls_protocol_error",
        "the upstream closed the connection before it responded, as servers do that reject the client certificate",
    )


def _certificate_error(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in _STRICT_RULES:
        return (
            "it breaks a rule of RFC 5280 that strict verification checks, as Python 3.13 does by default: a private "
            "CA needs key usage, and what it signs an authority key identifier"
        )
    return _CERTIFICATE_ERRORS.get(code, f"it does not verify (OpenSSL's X509_V_ERR {code})")


def _failed(error: str, detail: str) -> Problem:
    return Problem("upstream_tls_failed", detail, error=error)
