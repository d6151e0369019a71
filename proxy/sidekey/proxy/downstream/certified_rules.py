"""The rules of requests on a connection with a client certificate."""

from __future__ import annotations

from typing import Final

from sidekey.network.tls_server import PeerCertificate
from sidekey.policy.callers import Unidentified
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import RequestRules

_EXPIRED: Final = Unidentified("certificate_invalid", "the client certificate has expired")
_CA_REMOVED: Final = Unidentified("certificate_invalid", "the CA of the client certificate is no longer trusted")


class CertifiedRules:
    """The rules that the worker has, for the callers that a certificate identifies.

    The certificate counts until it expires, and while the config has the CAs that verified it. `is_ending` is
    True if the connection must close with the next response: otherwise a client that keeps it would be refused from
    the end of the certificate on, although it has a new one.
    """

    __slots__ = ("_base", "_certificate", "_refused", "_rules", "_worker", "is_ending")

    def __init__(self, worker: Worker, certificate: PeerCertificate) -> None:
        self._worker: Final = worker
        self._certificate: Final = certificate
        self._base: RequestRules | None = None
        self._refused: Unidentified | None = None
        self._rules = worker.rules
        self.is_ending = False

    @property
    def is_trusted(self) -> bool:
        """True if the config still has the CAs that verified the certificate."""
        cas = self._certificate.cas
        return bool(cas) and cas <= self._worker.rules.client_cas

    def pin(self) -> RequestRules:
        """Return the rules for a request that begins now."""
        base, left = self._worker.rules, self._certificate.not_after - self._worker.wall()
        refused: Unidentified | None = None
        if left <= 0:
            refused = _EXPIRED
        elif not self.is_trusted:
            refused = _CA_REMOVED
        self.is_ending = refused is not None or left <= base.timeouts.keep_alive
        if base is not self._base or refused is not self._refused:
            self._base, self._refused = base, refused
            self._rules = base.for_certificate(self._certificate.keys, refused)
        return self._rules
