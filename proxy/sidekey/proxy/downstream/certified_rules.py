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

    The certificate counts until it expires, and while the config has all CAs that might have verified it (`_cas`).
    """

    __slots__ = ("_base", "_cas", "_certificate", "_refused", "_rules", "_worker")

    def __init__(self, worker: Worker, certificate: PeerCertificate) -> None:
        self._worker: Final = worker
        self._certificate: Final = certificate
        self._cas: Final = worker.rules.client_cas
        self._base: RequestRules | None = None
        self._refused: Unidentified | None = None
        self._rules = worker.rules

    @property
    def current(self) -> RequestRules:
        """The rules for a request that begins now."""
        base = self._worker.rules
        refused: Unidentified | None = None
        if self._worker.wall() >= self._certificate.not_after:
            refused = _EXPIRED
        elif not self._cas <= base.client_cas:
            refused = _CA_REMOVED
        if base is not self._base or refused is not self._refused:
            self._base, self._refused = base, refused
            self._rules = base.for_certificate(self._certificate.keys, refused)
        return self._rules
