"""TLS on the proxy listener: a caller's connection from accept(2) to the end of its handshake, and its certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from sidekey.network.tls_server import ListenerTls, handshake_outcome, peer_certificate
from sidekey.network.tls_transport import TlsTransport
from sidekey.observe.log import get_logger
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.downstream.certified_rules import CertifiedRules
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.transport import address_of, block_input_if_empty
from sidekey.proxy.worker import Worker

_LOG_EVERY: Final = 60.0
"""Minimum seconds between two log lines for the same outcome, because clients retry."""

_LOGGED_OUTCOMES: Final = {
    "ca_untrusted": "a caller does not trust the certificate of listen.tls: give it the CA",
    "certificate_missing": "a caller has no client certificate, which listen.tls.client_auth requires",
    "certificate_refused": "a caller's client certificate does not verify: see listen.tls.client_ca",
    "tls_failed": "TLS with a caller failed: it must use https://, and TLS 1.2 or newer",
}


class CallerTls:
    """The TLS of the proxy listener. Counts and logs the handshakes that fail."""

    __slots__ = ("_log", "_logged", "tls", "worker")

    def __init__(self, worker: Worker, tls: ListenerTls) -> None:
        self.worker: Final = worker
        self.tls: Final = tls
        self._log = get_logger()
        self._logged: dict[str, float] = {}

    def count_failure(self, outcome: str, peer: str, reason: str | None) -> None:
        """Count a handshake that failed, and log it if a caller or an operator can fix it.

        `reason` is OpenSSL's text of why a certificate does not verify.
        """
        self.worker.metrics.failed_handshakes[outcome] += 1
        message = _LOGGED_OUTCOMES.get(outcome)
        now = self.worker.deadlines.now
        if message is not None and now - self._logged.get(outcome, -_LOG_EVERY) >= _LOG_EVERY:
            self._logged[outcome] = now
            self._log.warning(message, outcome=outcome, reason=reason, peer=peer)


class TlsConnection(CallerConnection):
    """A caller's connection over TLS."""

    __slots__ = ("_handshake",)

    def __init__(
        self,
        worker: Worker,
        start: Callable[[CallerConnection, CallerRequest], CallerEvents],
        handshake: Handshake,
    ) -> None:
        super().__init__(worker, start)
        self._handshake: Handshake | None = handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve: the handshake is complete."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.release()
        certificate = peer_certificate(transport.get_extra_info("ssl_object"))
        if certificate is not None:
            self.certified = CertifiedRules(self.worker, certificate)
        super().connection_made(transport)


class Handshake(asyncio.Protocol):
    """The protocol of a new connection during its handshake, which must end within `timeouts.request_head`.

    It is a connection of the worker. `TlsConnection` then takes its place, and `start` begins the requests.
    """

    __slots__ = ("_accepted_at", "_caller_tls", "_peer", "_start", "_tls", "_transport", "_worker", "deadline")

    def __init__(self, caller_tls: CallerTls, start: Callable[[CallerConnection, CallerRequest], CallerEvents]) -> None:
        self.deadline = NEVER
        self._caller_tls = caller_tls
        self._worker = caller_tls.worker
        self._start = start
        self._transport: asyncio.Transport | None = None
        self._tls: TlsTransport | None = None
        self._accepted_at = NEVER
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, or close if there is no file descriptor for another connection."""
        worker = self._worker
        tcp = self._transport = cast(asyncio.Transport, transport)
        self._peer = address_of(transport)
        self._accepted_at = worker.deadlines.now
        if not worker.register(self):
            self.release()
            tcp.abort()
            return
        self.deadline = worker.deadlines.now + worker.rules.timeouts.request_head
        worker.deadlines.watch(self)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(self._ended)
        connection = TlsConnection(worker, self._start, self)
        # The context in use now: a reload replaces it.
        tls = self._tls = TlsTransport(connection, self._caller_tls.tls.context, None, None, ready)
        tcp.set_protocol(tls)
        tls.connection_made(tcp)

    def _ended(self, ready: asyncio.Future[None]) -> None:
        error = ready.exception()
        if error is not None and self._tls is not None:
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else None
            self._fail(handshake_outcome(error, certificate_sent=self._tls.has_spoken), reason)

    def _fail(self, outcome: str, reason: str | None = None) -> None:
        self.release()
        self._caller_tls.count_failure(outcome, self._peer, reason)

    def release(self) -> None:
        """Leave the connection to its successor, or to nobody if the handshake failed."""
        self._worker.unregister(self)
        self._worker.deadlines.forget(self)
        self._tls = self._transport = None

    def expired(self) -> None:
        """Abort the handshake: it takes too long."""
        self._abort("timeout")

    def _abort(self, outcome: str) -> None:
        transport = self._transport
        if transport is not None:
            self._fail(outcome)
            transport.abort()

    # As a connection of the worker.

    @property
    def idle_since(self) -> float:
        """The time since which the connection waits for its first byte; NEVER if Sidekey has responded to it."""
        return NEVER if self._tls is None or self._tls.has_spoken else self._accepted_at

    @property
    def unsent(self) -> bool:
        """False: there is no response yet."""
        return False

    def close_if_idle(self) -> bool:
        """Close the connection and return True if no byte has arrived."""
        transport = self._transport
        if self.idle_since == NEVER or transport is None or not block_input_if_empty(transport):
            return False
        self._abort("caller_gone")
        return True

    def wind_down(self, *, patient: bool) -> None:
        """Close the connection if no byte has arrived."""
        if not patient:
            self.close_if_idle()

    def end(self) -> None:
        """Close the connection now."""
        self._abort("caller_gone")
