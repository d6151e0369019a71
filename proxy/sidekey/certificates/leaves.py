"""The leaves of a process: certificates for the hosts of tunnels, signed by the local CA, made when they are needed.

The CAs are made and kept, and the trust folder is written, in a thread as well: whoever asks for a leaf meanwhile waits
for that.
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
from sidekey.ca.certificates import Signer, make_key
from sidekey.ca.maintain import MaintenanceResult, ensure_authorities
from sidekey.ca.storage import state_file
from sidekey.certificates.source import CHECK_EVERY, DAY, WARN_DAYS, moment
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem, ProblemError
from sidekey.network.tls_server import server_context
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.refresh import Failed, SingleFlight
from sidekey.snapshot.snapshot import Snapshot

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

KEPT: Final = 256
"""Leaves that are kept, those that were used last."""

WAITING: Final = 64
"""Leaves that may wait to be made, beside the one that is, so that a flood of new hosts is short."""

LIFE: Final = 7 * DAY
"""How long a leaf is valid from when it was made; it is made again after half of it."""

SESSIONS: Final = 128
"""TLS sessions in a context after which another one takes its place, with a leaf of its own.

OpenSSL keeps 1 KiB for each handshake of TLS 1.2 whose client takes no ticket, and up to 20 MiB for a context: the ssl
module has no way to say less. So all leaves that are kept hold 32 MiB of them at most.
"""

_SHOWN = 3

_ROTATE: Final = "a local CA expires soon: replace it (sidekey ca rotate)"
_RENEW_BROUGHT: Final = "the CA of ca.certificate expires soon: renew it where it was issued"


class Leaf(NamedTuple):
    """A leaf in its context, the CA that signed it by its fingerprint, and its times, in seconds since the epoch."""

    context: ssl.SSLContext
    authority: str
    made: float
    not_after: float

    def fresh(self, now: float) -> bool:
        """Whether it has not come to half of its life, and holds few sessions.

        A clock that was set back does not make it last longer.
        """
        if self.context.session_stats()["number"] >= SESSIONS:
            return False
        return abs(now - self.made) < min(LIFE, self.not_after - self.made) / 2


class Leaves:
    """A LeafSource (ca/leaf_source.py) by the local CA of the snapshot in use.

    `report` is passed every defect, returns the id under which it is logged, and must not raise. `wall` is the clock.
    """

    def __init__(
        self, metrics: Metrics, report: Callable[[BaseException], str], wall: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._report = report
        self._wall = wall
        self._log = get_logger()
        self._rules: CaRules | None = None
        self._settled = MaintenanceResult()
        self._logged: tuple[str, str] = "", ""
        self._due = False
        self._settling: asyncio.Task[None] | None = None
        self._leaves: dict[str, Leaf] = {}
        self._pending: dict[str, SingleFlight[ssl.SSLContext, Problem]] = {}
        self._mint = _Mint()
        # One thread, so that many new hosts take turns with the event loop rather than crowd it out.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leaves")
        self._timer: asyncio.TimerHandle | None = None
        self._warned = math.inf

    # The CA: made, kept, looked at.

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to sign for the hosts of another snapshot; the result begins with that, in a thread."""
        return partial(self._commit, snapshot.ca)

    def _commit(self, rules: CaRules) -> None:
        if rules != self._rules:
            self._rules = rules
            self._settle()

    async def settled(self) -> None:
        """Wait until CA and trust folder are as the snapshot in use needs them, or cannot be."""
        if self._settling is not None:
            await asyncio.shield(self._settling)

    def files(self) -> set[Path]:
        """The files whose change `changed` handles: another process may rotate the CA."""
        rules = self._rules
        return set() if rules is None or rules.brought or rules.folder is None else {state_file(rules.folder)}

    async def changed(self, paths: set[Path]) -> None:
        """Look at the files again, where one of ours is among those that have changed."""
        if paths & self.files():
            self._settle()
            await self.settled()

    def _settle(self) -> None:
        self._due = True
        if self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._due and self._rules is not None:
                self._due = False
                rules = self._rules
                self._adopt(rules, await self._in_thread(ensure_authorities, rules, self._wall()))
        except Exception as defect:  # noqa: BLE001  the edge of a task: those who wait get ca_unavailable
            self._report(defect)
        finally:
            self._settling = None

    def _adopt(self, rules: CaRules, found: MaintenanceResult) -> None:
        former, self._settled = self._settled, found
        signing, signed = found.authorities.signers, former.authorities.signers
        now = self._wall()
        for host, leaf in list(self._leaves.items()):
            signer = found.authorities.signer(host, now)
            if signer is None or signer.fingerprint != leaf.authority:
                del self._leaves[host]
        if found.made and found.first:
            self._log.info("the local CA was created", **_about(found.made[0], rules))
        elif found.made:
            hosts = [host for each in found.made for bounds in each.bounds for host in sorted(bounds.names or ())]
            self._log.warning(
                "another local CA was created for hosts that no CA covered: callers must restart to trust it",
                hosts=hosts[:_SHOWN],
                **_about(found.made[-1], rules),
            )
        elif signed and {each.fingerprint for each in signed} != {each.fingerprint for each in signing}:
            self._log.info(
                "the local CA that signs certificates has changed", signing=[each.fingerprint for each in signing]
            )
        self._complain(rules, found)
        self._metrics.ca_expires = found.authorities.expires
        if found.authorities.expires != former.authorities.expires:
            self._warned = math.inf
        self._check()

    def _complain(self, rules: CaRules, found: MaintenanceResult) -> None:
        """Say once what keeps callers from using tunnels; to most, who have none, it does not matter."""
        said, self._logged = self._logged, (found.problem, found.untold)
        log = self._log.warning if rules.configured else self._log.info
        if found.problem and found.problem != said[0]:
            log("no local CA for some or all hosts: CONNECT to them is refused", reason=found.problem)
        if found.untold and found.untold != said[1]:
            log("callers cannot be told to trust the local CA", reason=found.untold)

    def _check(self) -> None:
        """Warn ahead of the end of a CA, and have another one made after it."""
        loop, expires = asyncio.get_running_loop(), self._settled.authorities.expires
        if self._timer is not None:
            self._timer.cancel()
        if expires is None:
            return
        left = expires - self._wall()
        if left <= 0:
            if self._warned > 0:
                self._warned = 0
                self._log.error("a local CA has expired", not_after=moment(expires))
                self._settle()
        elif (due := min((days for days in WARN_DAYS if left <= days * DAY), default=math.inf)) < self._warned:
            self._warned = due
            brought = self._rules is not None and self._rules.brought
            self._log.warning(_RENEW_BROUGHT if brought else _ROTATE, not_after=moment(expires), days=left // DAY)
        self._timer = loop.call_later(CHECK_EVERY if left <= 0 else min(left, CHECK_EVERY), self._check)

    # Leaves.

    def context_for(self, host: str) -> ssl.SSLContext | None:
        """The context of a leaf that is there and fresh; None where `obtain` must be asked."""
        leaf = self._leaves.get(host)
        if leaf is None or not leaf.fresh(self._wall()):
            return None
        # The order of the mapping is that of use.
        del self._leaves[host]
        self._leaves[host] = leaf
        return leaf.context

    async def obtain(self, host: str) -> ssl.SSLContext:
        """Return the context once its leaf is there. Raises ProblemError ca_unavailable or overloaded."""
        await self.settled()
        context = self.context_for(host)
        if context is not None:
            return context
        pending = self._pending.get(host)
        if pending is None:
            authority = self._settled.authorities.signer(host, self._wall())
            if authority is None:
                raise ProblemError(self._unavailable())
            if len(self._pending) > WAITING:
                raise ProblemError(_OVERLOADED)
            pending = self._pending[host] = SingleFlight()
            pending.start(partial(self._make, host, authority))
        outcome = await pending.wait()
        if isinstance(outcome, Failed):
            raise ProblemError(outcome.error)
        return outcome

    async def _make(self, host: str, authority: LocalAuthority) -> ssl.SSLContext | Failed[Problem]:
        try:
            leaf = await self._in_thread(self._mint.leaf, host, authority, self._wall())
        except (OSError, ValueError):
            return Failed(Problem("ca_unavailable", "the certificate of the local CA cannot be used for TLS"))
        finally:
            del self._pending[host]
        self._metrics.leaves_issued += 1
        # A rotation may have come between: then this one is for those who waited for it alone.
        current = self._settled.authorities.signer(host, self._wall())
        if current is not None and current.fingerprint == leaf.authority:
            self._leaves.pop(host, None)
            self._leaves[host] = leaf
            if len(self._leaves) > KEPT:
                del self._leaves[next(iter(self._leaves))]
        return leaf.context

    def _unavailable(self) -> Problem:
        authorities = self._settled.authorities
        if authorities.expires is not None and authorities.expires <= self._wall():
            return Problem("ca_unavailable", "the local CA for this host has expired")
        if authorities.every:
            return Problem("ca_unavailable", "no local CA may sign for this host", denial="ca_hosts")
        return Problem("ca_unavailable", "there is no local CA: the log of Sidekey says why")

    async def close(self) -> None:
        """End what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for pending in list(self._pending.values()):
            await pending.close()
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


_OVERLOADED: Final = Problem(
    "overloaded",
    f"{WAITING} certificates of new hosts wait to be signed, which is the limit",
    headers=(("Retry-After", "1"),),
)


def _about(authority: LocalAuthority, rules: CaRules) -> dict[str, str]:
    return {
        "fingerprint": authority.fingerprint,
        "not_after": moment(authority.not_after),
        "trust_folder": str(rules.trust_folder),
    }


class _Mint(SecretHolder):
    """Signs leaves, all with one key, which is made with the first. Belongs to one thread."""

    def __init__(self) -> None:
        self._key: EllipticCurvePrivateKey | None = None
        self._signers: dict[str, Signer] = {}

    def __repr__(self) -> str:
        return "_Mint(REDACTED)"

    def leaf(self, host: str, authority: LocalAuthority, now: float) -> Leaf:
        signer = self._signers.get(authority.fingerprint)
        if signer is None:
            self._key = self._key or make_key()
            if len(self._signers) >= _SIGNERS:
                self._signers.clear()
            signer = self._signers[authority.fingerprint] = Signer(authority, self._key)
        pem, not_after = signer.leaf(host, now)
        return Leaf(server_context(host, pem.encode()), authority.fingerprint, now, not_after)


_SIGNERS = 16
