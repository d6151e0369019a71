"""Issue leaves on demand: certificates for the hosts of tunnels, signed by the local CA.

Tunnels obtain the TLS contexts. One thread issues leaves, maintains the CAs and writes the trust folder. Requests for a
leaf wait for that maintenance.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, TypeVarTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from sidekey.ca.authorities import CaRules, LocalAuthority
from sidekey.ca.certificates import LeafSigner, create_key
from sidekey.ca.maintain import MaintenanceResult, ensure_authorities
from sidekey.ca.storage import state_file
from sidekey.certificates.source import CHECK_SECONDS, DAY, WARN_DAYS, format_time
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem, ProblemError
from sidekey.network.tls_server import server_context
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.refresh import Failed, SingleFlight
from sidekey.snapshot.snapshot import Snapshot

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

MAX_LEAVES: Final = 256
"""Cached leaves; the least recently used one is evicted."""

MAX_PENDING: Final = 64
"""Leaves that may wait to be issued, which bounds the work of a flood of new hosts."""

LIFETIME: Final = 7 * DAY
"""Lifetime of a leaf in seconds. Sidekey issues a new one after half of it."""

MAX_SESSIONS_PER_CONTEXT: Final = 128
"""TLS sessions in a context after which Sidekey replaces it, with a new leaf.

OpenSSL keeps 1 KiB for each handshake of TLS 1.2 whose client takes no ticket, and up to 20 MiB for a context. The ssl
module cannot set a lower limit. With this limit all cached leaves keep at most 32 MiB.
"""

_MAX_SHOWN = 3
_MAX_SIGNERS = 16

_ROTATE: Final = "a local CA expires soon: replace it (sidekey ca rotate)"
_RENEW: Final = "the CA of ca.certificate expires soon: renew it where it was issued"


class Leaf(NamedTuple):
    """A leaf in its TLS context, the fingerprint of its CA, and its times in seconds since the epoch."""

    context: ssl.SSLContext
    authority: str
    issued_at: float
    not_after: float

    def is_fresh(self, now: float) -> bool:
        """Return True if less than half of the lifetime has passed and the session cache is small.

        `abs`, so that a clock that was set back does not prolong the lifetime.
        """
        if self.context.session_stats()["number"] >= MAX_SESSIONS_PER_CONTEXT:
            return False
        return abs(now - self.issued_at) < min(LIFETIME, self.not_after - self.issued_at) / 2


class Leaves:
    """A `LeafSource` that uses the local CA of the current snapshot.

    `report` logs a defect, returns the ID of its log line and must not raise. `wall_clock` returns seconds since the
    epoch.
    """

    def __init__(
        self, metrics: Metrics, report: Callable[[BaseException], str], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._report = report
        self._wall_clock = wall_clock
        self._log = get_logger()
        self._rules: CaRules | None = None
        self._current = MaintenanceResult()
        self._logged: tuple[str, str] = "", ""
        self._is_due = False
        self._maintenance: asyncio.Task[None] | None = None
        self._leaves: dict[str, Leaf] = {}
        self._pending: dict[str, SingleFlight[ssl.SSLContext, Problem]] = {}
        self._issuer = _Issuer()
        # One thread, so that many new hosts do not starve the event loop.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leaves")
        self._timer: asyncio.TimerHandle | None = None
        self._warned_days = math.inf

    # Maintenance of the CA.

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit starts maintenance of the CA for its hosts."""
        return partial(self._commit, snapshot.ca)

    def _commit(self, rules: CaRules) -> None:
        if rules != self._rules:
            self._rules = rules
            self._start_maintenance()

    async def wait_until_ready(self) -> None:
        """Wait until the CA and the trust folder match the current snapshot, or maintenance has failed."""
        if self._maintenance is not None:
            await asyncio.shield(self._maintenance)

    def watched_files(self) -> set[Path]:
        """Files to watch, because another process may rotate the CA."""
        rules = self._rules
        return set() if rules is None or rules.uses_operator_ca or rules.folder is None else {state_file(rules.folder)}

    async def reload_changed(self, paths: set[Path]) -> None:
        """Maintain the CA again if its file is among the changed ones."""
        if paths & self.watched_files():
            self._start_maintenance()
            await self.wait_until_ready()

    def _start_maintenance(self) -> None:
        self._is_due = True
        if self._maintenance is None:
            self._maintenance = asyncio.get_running_loop().create_task(self._maintain())

    async def _maintain(self) -> None:
        try:
            while self._is_due and self._rules is not None:
                self._is_due = False
                rules = self._rules
                self._adopt(rules, await self._in_thread(ensure_authorities, rules, self._wall_clock()))
        except Exception as defect:  # noqa: BLE001  the edge of a task: waiters get ca_unavailable
            self._report(defect)
        finally:
            self._maintenance = None

    def _adopt(self, rules: CaRules, result: MaintenanceResult) -> None:
        previous, self._current = self._current, result
        signing, signed = result.authorities.signers, previous.authorities.signers
        now = self._wall_clock()
        for host, leaf in list(self._leaves.items()):
            signer = result.authorities.find_signer(host, now)
            if signer is None or signer.fingerprint != leaf.authority:
                del self._leaves[host]
        if result.created and result.first:
            self._log.info("the local CA was created", **_ca_fields(result.created[0], rules))
        elif result.created:
            hosts = [host for ca in result.created for bounds in ca.bounds for host in sorted(bounds.names or ())]
            self._log.warning(
                "another local CA was created for hosts that no CA covered: callers must restart to trust it",
                hosts=hosts[:_MAX_SHOWN],
                **_ca_fields(result.created[-1], rules),
            )
        elif signed and {ca.fingerprint for ca in signed} != {ca.fingerprint for ca in signing}:
            self._log.info(
                "the local CA that signs certificates has changed", signing=[ca.fingerprint for ca in signing]
            )
        self._log_problems(rules, result)
        self._metrics.ca_expires = result.authorities.expires_at
        if result.authorities.expires_at != previous.authorities.expires_at:
            self._warned_days = math.inf
        self._check_expiry()

    def _log_problems(self, rules: CaRules, result: MaintenanceResult) -> None:
        """Log new problems, as warnings only if the operator relies on tunnels."""
        (logged_problem, logged_trust_problem), self._logged = self._logged, (result.problem, result.trust_problem)
        log = self._log.warning if rules.configured else self._log.info
        if result.problem and result.problem != logged_problem:
            log("no local CA for some or all hosts: CONNECT to them is refused", reason=result.problem)
        if result.trust_problem and result.trust_problem != logged_trust_problem:
            log("callers cannot be told to trust the local CA", reason=result.trust_problem)

    def _check_expiry(self) -> None:
        """Warn before a CA expires, and start maintenance once it has expired."""
        loop, expires = asyncio.get_running_loop(), self._current.authorities.expires_at
        if self._timer is not None:
            self._timer.cancel()
        if expires is None:
            return
        remaining = expires - self._wall_clock()
        due = min((days for days in WARN_DAYS if remaining <= days * DAY), default=math.inf)
        if remaining <= 0:
            if self._warned_days > 0:
                self._warned_days = 0
                self._log.error("a local CA has expired", not_after=format_time(expires))
                self._start_maintenance()
        elif due < self._warned_days:
            self._warned_days = due
            uses_operator_ca = self._rules is not None and self._rules.uses_operator_ca
            self._log.warning(
                _RENEW if uses_operator_ca else _ROTATE, not_after=format_time(expires), days=remaining // DAY
            )
        pause = CHECK_SECONDS if remaining <= 0 else min(remaining, CHECK_SECONDS)
        self._timer = loop.call_later(pause, self._check_expiry)

    # Leaves: issue and cache them.

    def context_for(self, host: str) -> ssl.SSLContext | None:
        """Return the cached context if its leaf is fresh, or None: then call `obtain`."""
        leaf = self._leaves.get(host)
        if leaf is None or not leaf.is_fresh(self._wall_clock()):
            return None
        # Move it to the end: the mapping is ordered by last use.
        del self._leaves[host]
        self._leaves[host] = leaf
        return leaf.context

    async def obtain(self, host: str) -> ssl.SSLContext:
        """Return the context, and issue its leaf if necessary. Raises ProblemError ca_unavailable or overloaded."""
        await self.wait_until_ready()
        context = self.context_for(host)
        if context is not None:
            return context
        pending = self._pending.get(host)
        if pending is None:
            authority = self._current.authorities.find_signer(host, self._wall_clock())
            if authority is None:
                raise ProblemError(self._unavailable())
            if len(self._pending) > MAX_PENDING:
                raise ProblemError(_OVERLOADED)
            pending = self._pending[host] = SingleFlight()
            pending.start(partial(self._issue, host, authority))
        outcome = await pending.wait()
        if isinstance(outcome, Failed):
            raise ProblemError(outcome.error)
        return outcome

    async def _issue(self, host: str, authority: LocalAuthority) -> ssl.SSLContext | Failed[Problem]:
        try:
            leaf = await self._in_thread(self._issuer.issue, host, authority, self._wall_clock())
        except (OSError, ValueError):
            return Failed(Problem("ca_unavailable", "the certificate of the local CA cannot be used for TLS"))
        finally:
            del self._pending[host]
        self._metrics.leaves_issued += 1
        # After a rotation meanwhile, the current waiters get this leaf, but it is not cached.
        current = self._current.authorities.find_signer(host, self._wall_clock())
        if current is not None and current.fingerprint == leaf.authority:
            self._leaves.pop(host, None)
            self._leaves[host] = leaf
            if len(self._leaves) > MAX_LEAVES:
                del self._leaves[next(iter(self._leaves))]
        return leaf.context

    def _unavailable(self) -> Problem:
        authorities = self._current.authorities
        if authorities.expires_at is not None and authorities.expires_at <= self._wall_clock():
            return Problem("ca_unavailable", "the local CA for this host has expired")
        if authorities.members:
            return Problem("ca_unavailable", "no local CA may sign for this host", denial="ca_hosts")
        return Problem("ca_unavailable", "there is no local CA: the log of Sidekey says why")

    async def close(self) -> None:
        """Cancel pending work."""
        if self._timer is not None:
            self._timer.cancel()
        for pending in list(self._pending.values()):
            await pending.close()
        if self._maintenance is not None:
            self._maintenance.cancel()
            await asyncio.wait([self._maintenance])
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


_OVERLOADED: Final = Problem(
    "overloaded",
    f"{MAX_PENDING} certificates of new hosts wait to be signed, which is the limit",
    headers=(("Retry-After", "1"),),
)


def _ca_fields(authority: LocalAuthority, rules: CaRules) -> dict[str, str]:
    return {
        "fingerprint": authority.fingerprint,
        "not_after": format_time(authority.not_after),
        "trust_folder": str(rules.trust_folder),
    }


class _Issuer(SecretHolder):
    """Issues leaves, all with one key, which is created with the first leaf. Use it in one thread."""

    def __init__(self) -> None:
        self._key: EllipticCurvePrivateKey | None = None
        self._signers: dict[str, LeafSigner] = {}

    def __repr__(self) -> str:
        return "_Issuer(REDACTED)"

    def issue(self, host: str, authority: LocalAuthority, now: float) -> Leaf:
        signer = self._signers.get(authority.fingerprint)
        if signer is None:
            self._key = self._key or create_key()
            if len(self._signers) >= _MAX_SIGNERS:
                self._signers.clear()
            signer = self._signers[authority.fingerprint] = LeafSigner(authority, self._key)
        pem, not_after = signer.issue(host, now)
        return Leaf(server_context(host, pem.encode()), authority.fingerprint, now, not_after)
