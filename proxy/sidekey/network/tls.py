"""TLS to upstreams: a context for each trust and client certificate, and what a failure of TLS is called.

Every context verifies chain and host name; there is no switch to turn that off. The contexts are built from nothing
rather than by `ssl.create_default_context`, which writes the session keys to `$SSLKEYLOGFILE`, and which verifies
differently from Python 3.13 on.
"""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from sidekey.ca.roots import usable
from sidekey.credentials.certificates.encoding import public_key
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network import roots
from sidekey.network.tls_identity import present
from sidekey.snapshot.snapshot import Snapshot, Trust

_CERTIFICATE_REQUEST = 13
"""The handshake message by which a server asks (RFC 8446 4.3.2, RFC 5246 7.4.4)."""


def note_requests(context: ssl.SSLContext, note: Callable[[str], None]) -> None:
    """Have `note` told the name of each server that asks a connection of this context for a certificate.

    By the hook that CPython keeps for debugging; where it is gone, nothing is noted. It costs a call for each TLS
    message, so that no context of a serving process has one.
    """

    def heard(connection: Any, direction: str, _version: Any, _content: Any, message: Any, _data: bytes) -> None:
        if direction == "read" and message == _CERTIFICATE_REQUEST:
            note(connection.server_hostname or "")

    if hasattr(context, "_msg_callback"):
        context._msg_callback = heard


# OpenSSL's numbers (x509_vfy.h, X509_V_ERR_*), part of its stable interface; the ssl module names none of them.
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
"""The rules of RFC 5280 that OpenSSL checks where it is told to be strict (VERIFY_X509_STRICT), as Python's default
contexts tell it from 3.13 on. Ours do not (decision 0009)."""

_NO_COMMON_VERSION = frozenset({"UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)")
"""OpenSSL's symbols for the alerts of a peer, which hold the names of RFC 8446 6."""
_UNCLEAR = "the TLS connection to the upstream failed"


class ChainDenied(ssl.SSLError):
    """An upstream's chain leads through the CA that signs for callers."""


class UpstreamContext(ssl.SSLContext):
    """A context whose connections must not be verified by a CA of one of the keys `denied` (`certificates.der`).

    By the key, since whoever has it can use every certificate of it, also one that a root has issued before or after.
    """

    denied: frozenset[bytes] = frozenset()


class _Upstream(ssl.SSLObject):
    """The end of a connection of such a context."""

    def do_handshake(self) -> None:
        """As of any connection. Raises ssl.SSLError also where the chain is denied, before anything is written."""
        super().do_handshake()
        denied = cast(UpstreamContext, self.context).denied
        # A session that is resumed has no chain: it is of a handshake under the same context.
        if any(public_key(certificate) in denied for certificate in _verified_chain(self)):
            raise ChainDenied


_DER = 2
"""`_ssl.ENCODING_DER`."""


def _verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates (DER) by which the peer was verified, from its own to the trusted one."""
    if sys.version_info >= (3, 13):
        return tls.get_verified_chain()
    # What 3.13 has made public; in 3.11 and 3.12, which change no more, it is there as well.
    return [each.public_bytes(_DER) for each in cast(Any, tls)._sslobj.get_verified_chain() or ()]


class TlsContexts:
    """The contexts, each built at its first use.

    Equal trust shares one: that of a CA file is gone with its `Trust`, the others stay. One with a client certificate
    belongs to whoever uses it (`Sessions` hold it, `Personal` of how many): it is gone with its last connection and
    slot. So what reloads and rotations leave behind does not pile up.
    """

    def __init__(self) -> None:
        self.note: Callable[[str], None] | None = None
        self._denied: frozenset[bytes] = frozenset()
        self._public: dict[tuple[str, str | None], ssl.SSLContext] = {}
        self._of_files: WeakKeyDictionary[Trust, ssl.SSLContext] = WeakKeyDictionary()
        self._personal: WeakValueDictionary[tuple[Trust, str | None, str], ssl.SSLContext] = WeakValueDictionary()

    def deny(self, keys: frozenset[bytes]) -> None:
        """Let no CA of these keys verify an upstream from now on, whatever is trusted; others again."""
        if keys != self._denied:
            self._denied = keys
            self._public.clear()
            self._of_files.clear()
            self._personal.clear()

    def get(self, trust: Trust, identity: ClientIdentity | None = None) -> ssl.SSLContext:
        """Return the context for `trust` that presents `identity`.

        Raises ProblemError (credential_unavailable) where the CA file of `trust`, or the certificate or its key, cannot
        be used.
        """
        folder = roots.mozilla() if trust.source == "mozilla" else None
        if identity is None:
            return self._shared(trust, folder)
        key = (trust, folder, identity.fingerprint)
        context = self._personal.get(key)
        if context is None:
            context = client_context(trust, folder, self._denied)
            present(context, identity)
            if self.note is not None:
                note_requests(context, self.note)
            self._personal[key] = context
        return context

    def _shared(self, trust: Trust, folder: str | None) -> ssl.SSLContext:
        if trust.source in ("file", "inline"):
            context = self._of_files.get(trust)
            if context is None:
                context = self._of_files[trust] = client_context(trust, denied=self._denied)
            return context
        key = (trust.source, folder)
        context = self._public.get(key)
        if context is None:
            context = self._public[key] = client_context(trust, folder, self._denied)
        return context


def prepare_trust(snapshot: Snapshot) -> None:
    """Do what the first https connection to a public server would wait for: an import, and the folder of its CAs.

    It takes some 20 ms, once in a process.
    """
    if snapshot.needs_mozilla:
        roots.mozilla()


def client_context(trust: Trust, folder: str | None = None, denied: frozenset[bytes] = frozenset()) -> ssl.SSLContext:
    """Build a context; `folder` stands for Mozilla's bundle. Raises as `TlsContexts.get` does.

    Local CAs are never trusted, and no chain that leads through a CA of the keys `denied`.
    """
    context = UpstreamContext(ssl.PROTOCOL_TLS_CLIENT)
    if denied:
        context.denied = denied
        context.sslobject_class = _Upstream
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Debian's Python 3.11.2 has OpenSSL 3 take a bare end of TCP, which anyone on the way can forge, for close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    # A CA that the operator trusts need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    if trust.source == "system":
        _load_readable(context, roots.system())
    elif trust.source == "mozilla":
        context.load_verify_locations(roots.bundle() if folder is None else None, folder)
    elif trust.pem is None:
        raise ProblemError(
            Problem(
                "credential_unavailable",
                "trusted_ca must name a file that can be read and holds a PEM certificate",
                error="proxy_configuration_error",
            )
        )
    else:
        _load(context, "".join(map(ssl.DER_cert_to_PEM_cert, usable(trust.pem.encode("ascii")))))
    return context


def _load(context: ssl.SSLContext, pem: str) -> None:
    """Trust these; the ssl module takes no empty text for none."""
    if pem:
        context.load_verify_locations(cadata=pem)


def _load_readable(context: ssl.SSLContext, pem: str) -> None:
    """Trust those of these that OpenSSL reads: a broken file in the system's store must not take the others along."""
    try:
        _load(context, pem)
    except ssl.SSLError:
        for der in usable(pem.encode("ascii")):
            with suppress(ssl.SSLError):
                context.load_verify_locations(cadata=der)


def tls_problem(error: OSError) -> Problem:
    """Map the failure of a TLS connection, in the handshake or before the first byte of the response.

    Holds nothing of the library's text.
    """
    if isinstance(error, ChainDenied):
        reason = "ca.certificate, which signs for callers, must not be in its chain"
        return _failed("tls_certificate_error", f"the upstream's certificate is refused: {reason}")
    if isinstance(error, ssl.SSLCertVerificationError):
        return _failed("tls_certificate_error", f"the upstream's certificate is refused: {_certificate_error(error)}")
    if isinstance(error, ssl.SSLError):
        # The attribute is absent where OpenSSL gave no reason.
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


def certificate_refused() -> Problem:
    """What it means when a new connection that has a client certificate is cut before the first byte of the response.

    In TLS 1.3 the client is done before the server has looked at its certificate (RFC 8446 4.4.2.4), and some servers
    send no alert then.
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
