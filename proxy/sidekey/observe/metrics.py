"""The counters of the process: plain integers that the data plane writes and a scrape reads.

Nothing here locks: everything is written on the event loop, and read there between two steps of requests.
Names, labels and bounds of the series are in `exposition`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from sidekey.errors import Denial
from sidekey.observe.access import AccessLine
from sidekey.snapshot.snapshot import NOBODY, Integration, Snapshot, Stored

BOUNDS: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the duration histogram in seconds, inclusive; one more bucket takes what is longer."""

APART: Final[tuple[int, ...]] = (400, 401, 403, 429)
"""Statuses with an outcome of their own: a rejected credential (400: a client certificate), and a rate limit."""

UNKNOWN: Final = "unknown"
"""The `integration` label of requests that name none we know; no ID may be this word."""


def bucket_of(seconds: float) -> int:
    """In which bucket a duration is. Most are in one of the first: looking there costs less than a binary search."""
    bucket = 0
    for bound in BOUNDS:
        if seconds <= bound:
            break
        bucket += 1
    return bucket


TUNNEL_MODES: Final[tuple[str, ...]] = ("terminated", "plain", "passed")
"""What is in a tunnel: TLS that ends in Sidekey, HTTP without TLS, or bytes that pass untouched."""


class IntegrationStats:
    """The results of one integration's requests.

    `outcomes` counts by outcome: `2xx` to `5xx`, or a status `APART`, for an upstream's response, else a code of ours
    (`errors.KINDS`, `errors.CALLER_GONE`). `buckets` are not cumulative and correspond to `BOUNDS`; `seconds` is the
    sum of durations. `connects` counts attempts to connect upstream that were begun for its requests: `ok`, or a
    Proxy-Status error type (RFC 9209 2.3). `denials` counts its requests that were denied, by reason
    (`errors.REASONS`).
    """

    __slots__ = ("buckets", "connects", "denials", "integration", "outcomes", "seconds")

    def __init__(self, integration: str) -> None:
        self.integration = integration
        self.outcomes: dict[str, int] = {}
        self.connects: dict[str, int] = {}
        self.denials: dict[str, int] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def record(self, outcome: str, seconds: float) -> int:
        """Count one finished request of this duration; in which of the buckets it is."""
        outcomes = self.outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        bucket = bucket_of(seconds)
        self.buckets[bucket] += 1
        self.seconds += seconds
        return bucket

    def count_connect(self, outcome: str) -> None:
        """Count an attempt to connect by what came of it."""
        self.connects[outcome] = self.connects.get(outcome, 0) + 1

    def count_denial(self, denial: Denial) -> None:
        """Count a denied request by why."""
        self.denials[denial] = self.denials.get(denial, 0) + 1


class Durations:
    """A histogram of durations: `buckets` are not cumulative and correspond to `BOUNDS`, `seconds` is their sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def record(self, seconds: float) -> None:
        """Count one."""
        self.add(bucket_of(seconds), seconds)

    def add(self, bucket: int, seconds: float) -> None:
        """Count one whose bucket is known."""
        self.buckets[bucket] += 1
        self.seconds += seconds


class Metrics:
    """Every number of the process. The public attributes are written in place by the part they describe.

    `upstream_open` counts connections; which of them are idle is asked of `count_idle` at a scrape, since a
    connection changes between idle and active with every request. `fullness` tells of each origin, and each integration
    with a limit of its own, which part of its limit of requests in flight is used.
    `integrations` is the snapshot in use, for the kind of each; `config_loaded` says whether the last (re)load worked
    and `config_loaded_at` when one last did, in seconds since the epoch.
    `calls` counts calls for tokens by integration and outcome (`credentials.base.Outcome`); `expiries` says until when
    what is held is valid, in seconds since the epoch, by integration and what it is: "token" or "certificate".
    `reload_failures` counts, by the same, what was read again and could not be used. `tunnels` are those that are open,
    by mode; `tunnel_outcomes` counts by the integration that was named (`NOBODY` for none) what became of those that
    were answered 200. `ca_expires` is when the first of the local CAs that sign does; None where none does. `store` is
    whether the store can be reached, its revision, and whether older rows than before were seen; None without one.
    `stored` is what the store of the snapshot in use says; None where there is none. `failing` says of which
    integrations the last requests have failed, and since when (`history.History`).
    `callers` counts requests by caller and outcome, of callers that the config has and that have sent one.
    `grants`, `connections` and `first_bytes` are how long requests waited for a grant, for a connection, and for the
    head of the response once they were written.
    `presets` counts requests by preset (`UNKNOWN` for none that the caller may use) and outcome.
    `admin_logins` counts operators' requests by whether their token counts, `admin_changes` the changes they asked for,
    by what of and by outcome: "ok", or a code of the API. An exchange that ends in a code of Sidekey's own or in a
    status of 400 or more calls `note_failure` with its line of the access log (`history.History`), unless it is None.
    `count_dropped` returns the number of lost log lines.
    """

    __slots__ = (
        "_caller_names",
        "_preset_names",
        "_stats",
        "admin_changes",
        "admin_logins",
        "ca_expires",
        "callers",
        "calls",
        "config_loaded",
        "config_loaded_at",
        "connections",
        "count_dropped",
        "count_idle",
        "expiries",
        "failing",
        "first_bytes",
        "fullness",
        "grants",
        "in_flight",
        "in_flight_limit",
        "integrations",
        "leaves_issued",
        "note_failure",
        "passed",
        "presets",
        "reload_failures",
        "store",
        "stored",
        "tunnel_outcomes",
        "tunnels",
        "unknown",
        "upstream_connecting",
        "upstream_open",
    )

    def __init__(self) -> None:
        self._stats: dict[str, IntegrationStats] = {}
        self._caller_names: frozenset[str] = frozenset()
        self._preset_names: frozenset[str] = frozenset((UNKNOWN,))
        self.unknown = IntegrationStats(UNKNOWN)
        self.passed = IntegrationStats(NOBODY)
        self.grants = Durations()
        self.connections = Durations()
        self.first_bytes = Durations()
        self.in_flight = 0
        self.in_flight_limit = 0
        self.upstream_open = 0
        self.upstream_connecting = 0
        self.count_idle: Callable[[], int] = int
        self.count_dropped: Callable[[], int] = int
        self.fullness: Callable[[], Iterable[float]] = tuple
        self.calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.expiries: dict[tuple[str, str], float] = {}
        self.reload_failures: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.integrations: Mapping[str, Integration] = MappingProxyType({})
        self.stored: Stored | None = None
        self.failing: Callable[[], Mapping[str, int]] = dict
        self.tunnels: dict[str, int] = dict.fromkeys(TUNNEL_MODES, 0)
        self.tunnel_outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.callers: dict[str, dict[str, int]] = {}
        self.presets: dict[str, dict[str, int]] = {}
        self.admin_logins: defaultdict[str, int] = defaultdict(int)
        self.admin_changes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.config_loaded = False
        self.config_loaded_at = 0.0
        self.leaves_issued = 0
        self.store: tuple[bool, int, bool] | None = None
        self.ca_expires: float | None = None
        self.note_failure: Callable[[IntegrationStats, AccessLine], None] | None = None

    @property
    def upstream_idle(self) -> int:
        """Upstream connections that carry nothing now."""
        return self.count_idle()

    @property
    def upstream_active(self) -> int:
        """Upstream connections that carry an exchange."""
        return self.upstream_open - self.count_idle()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to show the integrations and callers of another snapshot; the result does so, and shows no others.

        Who still holds the counters of one that is gone may go on to write into them: nobody reads them.
        """
        integrations, stored = snapshot.integrations, snapshot.stored
        presets = frozenset((*snapshot.presets, UNKNOWN))
        callers = (
            frozenset() if snapshot.callers is None else frozenset(each.name for each in snapshot.callers.values())
        )

        def commit() -> None:
            self.integrations = integrations
            self.stored = stored
            self._stats = {name: stats for name, stats in self._stats.items() if name in integrations}
            for series in (self.calls, self.expiries, self.reload_failures, self.tunnel_outcomes):
                for key in [key for key in series if key[0] not in integrations and key[0] != NOBODY]:
                    del series[key]
            self._caller_names = callers
            self.callers = {name: each for name, each in self.callers.items() if name in callers}
            self._preset_names = presets
            self.presets = {name: each for name, each in self.presets.items() if name in presets}

        return commit

    def count_preset(self, preset: str, outcome: str) -> None:
        """Count one finished request by a preset, as `count_caller` does."""
        outcomes = self.presets.get(preset)
        if outcomes is None:
            if preset not in self._preset_names:
                return
            outcomes = self.presets[preset] = {}
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def count_caller(self, caller: str, outcome: str) -> None:
        """Count one finished request of a caller; of one that has gone meanwhile it is not shown any more."""
        outcomes = self.callers.get(caller)
        if outcomes is None:
            if caller not in self._caller_names:
                return
            outcomes = self.callers[caller] = {}
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def stats(self, integration: str) -> IntegrationStats:
        """Find the counters of a configured integration; they are made at its first request."""
        found = self._stats.get(integration)
        if found is None:
            found = self._stats[integration] = IntegrationStats(integration)
        return found

    def counted(self, integration: str) -> IntegrationStats | None:
        """The counters of an integration that has had a request by now."""
        return self._stats.get(integration)

    def all_stats(self) -> tuple[IntegrationStats, ...]:
        """The counters of the integrations that were asked for by now, `passed` and `unknown` last."""
        return (*self._stats.values(), self.passed, self.unknown)

    def recorded(self) -> Iterator[IntegrationStats]:
        """Yield those of integrations that have had a request by now, in the same order."""
        for stats in self.all_stats():
            if stats.outcomes:
                yield stats


class CredentialSeries:
    """What the source of one credential writes: `credential` is "token" or "certificate".

    A source whose integration has gone, or was changed, may go on for requests in flight. It is `retired` then and
    only counts its calls, as long as there is an integration of that name: the other series are its successor's, or
    nobody's.
    """

    __slots__ = ("_key", "_metrics", "retired")

    def __init__(self, metrics: Metrics, integration: str, credential: str) -> None:
        self.retired = False
        self._metrics = metrics
        self._key = (integration, credential)

    def count_call(self, outcome: str) -> None:
        """Count one call for a token."""
        integration = self._key[0]
        if not self.retired or integration in self._metrics.integrations:
            self._metrics.calls[integration, outcome] += 1

    def expires(self, moment: float | None) -> None:
        """Note until when what is held is valid, in seconds since the epoch; None where nothing is held."""
        if self.retired:
            return
        if moment is None:
            self._metrics.expiries.pop(self._key, None)
        else:
            self._metrics.expiries[self._key] = moment

    def count_failures(self, more: int) -> None:
        """Count what was read again and could not be used; with 0 the series begins."""
        if not self.retired:
            self._metrics.reload_failures[self._key] += more

    def retire(self) -> None:
        """Leave the series to a successor. The counts stay, for it to go on with."""
        self.expires(None)
        self.retired = True
