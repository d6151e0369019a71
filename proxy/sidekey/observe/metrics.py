"""The counters of the process: plain integers that the data plane writes and a scrape reads.

Only the event loop reads and writes them, so they need no lock. `observe.prometheus` has the names and labels of the
series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from sidekey.errors import Denial
from sidekey.observe.access import AccessLine
from sidekey.snapshot.snapshot import NO_INTEGRATION, Integration, Snapshot, StoredObjects
from sidekey.snapshot.status import FailingSince

BOUNDS: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Inclusive upper bounds of the duration histogram in seconds. One more bucket counts longer durations."""

SEPARATE_STATUSES: Final[tuple[int, ...]] = (400, 401, 403, 429)
"""Statuses that count as outcomes of their own: rejected credentials (400: client certificates) and rate limits."""

UNKNOWN: Final = "unknown"
"""Label of requests that name no known integration or preset. It is not a valid ID."""


def bucket_of(seconds: float) -> int:
    """Return the index of a duration's bucket. Most are among the first, so this is faster than a binary search."""
    bucket = 0
    for bound in BOUNDS:
        if seconds <= bound:
            break
        bucket += 1
    return bucket


TUNNEL_MODES: Final[tuple[str, ...]] = ("terminated", "plain", "passed", "websocket")
"""Sidekey terminates the tunnel's TLS, reads plain HTTP, passes the bytes unchanged, or passes those of a WebSocket."""


class IntegrationStats:
    """Counters of one integration's requests.

    `outcomes` counts requests by outcome. For an upstream's response this is `2xx` to `5xx` or one of
    `SEPARATE_STATUSES`, otherwise a code of Sidekey (`errors.RESPONSE_KINDS`, `errors.CALLER_GONE`). `buckets` are not
    cumulative and correspond to `BOUNDS`. `seconds` is the sum of durations. `connects` counts connection attempts for
    its requests: `ok`, or a Proxy-Status error type (RFC 9209 2.3). `denials` counts denied requests by reason
    (`errors.DENIAL_REASONS`).
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
        """Count a finished request. Return the index of its bucket."""
        outcomes = self.outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        bucket = bucket_of(seconds)
        self.buckets[bucket] += 1
        self.seconds += seconds
        return bucket

    def count_connect(self, outcome: str) -> None:
        """Count a connection attempt by its outcome."""
        self.connects[outcome] = self.connects.get(outcome, 0) + 1

    def count_denial(self, denial: Denial) -> None:
        """Count a denied request by its reason."""
        self.denials[denial] = self.denials.get(denial, 0) + 1


class Durations:
    """A histogram of durations. `buckets` are not cumulative and correspond to `BOUNDS`. `seconds` is the sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def record(self, seconds: float) -> None:
        """Count a duration."""
        self.add(bucket_of(seconds), seconds)

    def add(self, bucket: int, seconds: float) -> None:
        """Count a duration in its bucket."""
        self.buckets[bucket] += 1
        self.seconds += seconds


class Metrics:
    """All metrics of the process. Each part of Sidekey writes its public attributes in place. Times are Unix time.

    Requests:
    - `grants`, `connections` and `first_bytes`: durations of the waits for a grant, for a connection, and for the
      response head after the request was written.
    - `passed` and `unknown`: counters of requests that pass without an integration, and of those with an unknown one.
    - `callers` and `presets`: requests by name and outcome (`UNKNOWN` for a preset that the caller may not use).
    - `in_flight`: requests in flight. `utilization`: yields the used share of the limit of each origin and integration.
    - `note_failure`: called with the access log line of a request that failed or has a status of 400 or more.
    - `failing`: integrations whose last requests failed, and since when (`history.History`).

    Connections:
    - `upstream_connecting` and `upstream_open`: connections that are being opened, and open ones.
    - `count_idle`: counts idle connections. A scrape calls it, because every request changes the number.
    - `proxy_connects`: connections through a parent proxy by outcome. The dialer counts them.
    - `failed_handshakes`: TLS handshakes of callers at the proxy listener, by outcome. `listener_expires`: expiry of
      its certificate, or None without TLS.
    - `tunnels`: open tunnels by mode. `tunnel_outcomes`: tunnels that got status 200, by integration (or
      `NO_INTEGRATION`) and outcome.

    Credentials, by integration:
    - `calls`: token requests by outcome (`credentials.base.Outcome`).
    - `expiries` and `reload_failures`: by credential, "token" or "certificate".
    - `ca_expires`: expiry of the first local CA that signs, or None. `leaves_issued`: certificates signed by local CAs.

    Callers, by JWT issuer: `jwks_fetches`: fetches of its keys by outcome. `jwks_fetched_at`: time of the last success.

    Config and store:
    - `integrations` and `stored`: those of the snapshot in use. `stored` is None without a store.
    - `config_loaded`: whether the last load worked. `config_loaded_at`: time of the last one that did.
    - `store`: whether the store is reachable, its revision, and whether it was rolled back. None without a store.

    Operators and log:
    - `admin_logins`: requests by the validity of their token.
    - `oidc_up`: returns whether the issuer of company log-ins works, or None without one and before the first check.
    - `admin_changes`: changes by resource and outcome, "ok" or an API error code.
    - `count_dropped`: returns the number of lost log lines.

    Commands:
    - `command_runs`: runs by outcome. `failing_commands` returns 1 for each integration with a command whose last run
      failed, and 0 for each other integration with a command.
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
        "command_runs",
        "config_loaded",
        "config_loaded_at",
        "connections",
        "count_dropped",
        "count_idle",
        "expiries",
        "failed_handshakes",
        "failing",
        "failing_commands",
        "first_bytes",
        "grants",
        "in_flight",
        "in_flight_limit",
        "integrations",
        "jwks_fetched_at",
        "jwks_fetches",
        "leaves_issued",
        "listener_expires",
        "note_failure",
        "oidc_up",
        "passed",
        "presets",
        "proxy_connects",
        "reload_failures",
        "store",
        "stored",
        "tunnel_outcomes",
        "tunnels",
        "unknown",
        "upstream_connecting",
        "upstream_open",
        "utilization",
    )

    def __init__(self) -> None:
        self._stats: dict[str, IntegrationStats] = {}
        self._caller_names: frozenset[str] = frozenset()
        self._preset_names: frozenset[str] = frozenset((UNKNOWN,))
        self.unknown = IntegrationStats(UNKNOWN)
        self.passed = IntegrationStats(NO_INTEGRATION)
        self.grants = Durations()
        self.connections = Durations()
        self.first_bytes = Durations()
        self.in_flight = 0
        self.in_flight_limit = 0
        self.upstream_open = 0
        self.upstream_connecting = 0
        self.count_idle: Callable[[], int] = int
        self.count_dropped: Callable[[], int] = int
        self.command_runs: Mapping[str, int] = MappingProxyType({})
        self.failing_commands: Callable[[], Mapping[str, int]] = dict
        self.utilization: Callable[[], Iterable[float]] = tuple
        self.proxy_connects: Mapping[str, int] = MappingProxyType({})
        self.calls: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.expiries: dict[tuple[str, str], float] = {}
        self.reload_failures: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.integrations: Mapping[str, Integration] = MappingProxyType({})
        self.stored: StoredObjects | None = None
        self.failing: Callable[[], Mapping[str, FailingSince]] = dict
        self.jwks_fetches: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.jwks_fetched_at: dict[str, float] = {}
        self.failed_handshakes: defaultdict[str, int] = defaultdict(int)
        self.tunnels: dict[str, int] = dict.fromkeys(TUNNEL_MODES, 0)
        self.tunnel_outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.callers: dict[str, dict[str, int]] = {}
        self.presets: dict[str, dict[str, int]] = {}
        self.admin_logins: defaultdict[str, int] = defaultdict(int)
        self.oidc_up: Callable[[], bool | None] = lambda: None
        self.admin_changes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.config_loaded = False
        self.config_loaded_at = 0.0
        self.leaves_issued = 0
        self.store: tuple[bool, int, bool] | None = None
        self.ca_expires: float | None = None
        self.listener_expires: float | None = None
        self.note_failure: Callable[[IntegrationStats, AccessLine], None] | None = None

    @property
    def upstream_idle(self) -> int:
        """Upstream connections without an exchange."""
        return self.count_idle()

    @property
    def upstream_active(self) -> int:
        """Upstream connections with an exchange."""
        return self.upstream_open - self.count_idle()

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit drops the series of IDs that it does not have.

        Requests in flight may still write to dropped counters, which nothing reads.
        """
        integrations, stored, tls = snapshot.integrations, snapshot.stored, snapshot.listen.tls
        presets = frozenset((*snapshot.presets, UNKNOWN))
        callers = frozenset(caller.name for caller in (snapshot.callers or {}).values())

        def commit() -> None:
            self.integrations = integrations
            self.stored = stored
            self.listener_expires = None if tls is None else tls.expires_at
            self._stats = {name: stats for name, stats in self._stats.items() if name in integrations}
            for series in (self.calls, self.expiries, self.reload_failures, self.tunnel_outcomes):
                for key in [key for key in series if key[0] not in integrations and key[0] != NO_INTEGRATION]:
                    del series[key]
            self._caller_names = callers
            self.callers = {name: outcomes for name, outcomes in self.callers.items() if name in callers}
            self._preset_names = presets
            self.presets = {name: outcomes for name, outcomes in self.presets.items() if name in presets}

        return commit

    def keep_issuers(self, names: Collection[str]) -> None:
        """Drop the series of JWT issuers that are not among these."""
        for key in [key for key in self.jwks_fetches if key[0] not in names]:
            del self.jwks_fetches[key]
        for name in [name for name in self.jwks_fetched_at if name not in names]:
            del self.jwks_fetched_at[name]

    def count_preset(self, preset: str, outcome: str) -> None:
        """Count a finished request of a preset, unless the config has no such preset any more."""
        outcomes = self.presets.get(preset)
        if outcomes is None:
            if preset not in self._preset_names:
                return
            outcomes = self.presets[preset] = {}
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def count_caller(self, caller: str, outcome: str) -> None:
        """Count a finished request of a caller, unless the config has no such caller any more."""
        outcomes = self.callers.get(caller)
        if outcomes is None:
            if caller not in self._caller_names:
                return
            outcomes = self.callers[caller] = {}
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def stats(self, integration: str) -> IntegrationStats:
        """Return the counters of a configured integration, which it creates at the first request."""
        stats = self._stats.get(integration)
        if stats is None:
            stats = self._stats[integration] = IntegrationStats(integration)
        return stats

    def find_stats(self, integration: str) -> IntegrationStats | None:
        """Return the counters of an integration, or None before its first request."""
        return self._stats.get(integration)

    def all_stats(self) -> tuple[IntegrationStats, ...]:
        """Return the counters of all integrations with a request, then `passed` and `unknown`."""
        return (*self._stats.values(), self.passed, self.unknown)

    def used_stats(self) -> Iterator[IntegrationStats]:
        """Yield the counters with a finished request, in the order of `all_stats`."""
        for stats in self.all_stats():
            if stats.outcomes:
                yield stats


class CredentialSeries:
    """Metrics of the source of one credential. `credential` is "token" or "certificate".

    A source may outlive its integration for requests in flight. It is then `retired` and only counts token requests, if
    an integration with its ID still exists. The other series belong to the source that replaced it, if any.
    """

    __slots__ = ("_key", "_metrics", "retired")

    def __init__(self, metrics: Metrics, integration: str, credential: str) -> None:
        self.retired = False
        self._metrics = metrics
        self._key = (integration, credential)

    def count_call(self, outcome: str) -> None:
        """Count a token request."""
        integration = self._key[0]
        if not self.retired or integration in self._metrics.integrations:
            self._metrics.calls[integration, outcome] += 1

    def set_expiry(self, moment: float | None) -> None:
        """Record the expiry of the current credential (Unix time), or None without a credential."""
        if self.retired:
            return
        if moment is None:
            self._metrics.expiries.pop(self._key, None)
        else:
            self._metrics.expiries[self._key] = moment

    def count_failures(self, more: int) -> None:
        """Count failed reloads of the credential. Pass 0 to create the series."""
        if not self.retired:
            self._metrics.reload_failures[self._key] += more

    def retire(self) -> None:
        """Leave the series to the source that replaces this one and continues the counts."""
        self.set_expiry(None)
        self.retired = True
