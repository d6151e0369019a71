"""The metrics page: the event loop copies the counters, and a thread renders them with prometheus_client.

The loop copies in slices, with turns for other tasks between them. It copies each histogram in one step, so that
buckets, count and sum agree.
"""

from __future__ import annotations

import asyncio
import platform
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate, islice
from time import perf_counter, sleep, time
from typing import Literal, NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, PROCESS_COLLECTOR, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

import sidekey
from sidekey.build import build
from sidekey.observe.metrics import BOUNDS, Durations, IntegrationStats, Metrics
from sidekey.process import GARBAGE_COLLECTOR
from sidekey.snapshot.status import STATUSES, IntegrationStatus, all_statuses

_SLICE = 0.0005
"""Seconds of copying before other tasks get a turn."""

_BATCH_SIZE = 200
"""Samples that are rendered in one step, which takes about 0.7 ms."""

_PAUSE = 0.00001
"""Seconds that the rendering thread sleeps after each batch. Linux adds 0.05 ms."""

_GZIP = 31
"""The `wbits` of zlib that select the gzip format."""


class Format(NamedTuple):
    """A text format of the page."""

    content_type: str
    generate: Callable[[Collector], bytes]


_TEXT = Format(CONTENT_TYPE_PLAIN_0_0_4, generate_latest)
# Sidekey's names need no escaping, and prometheus_client's default for OpenMetrics checks each character of each name.
_OPENMETRICS = Format(
    openmetrics.CONTENT_TYPE_LATEST, partial(openmetrics.generate_latest, escaping=openmetrics.ALLOWUTF8)
)


def choose_format(accept: str) -> Format:
    """Choose OpenMetrics if the Accept header lists it, as Prometheus does, else the text format 0.0.4.

    prometheus_client's choose_encoder raises TypeError for a version that is not a number, and copies the version into
    its Content-Type.
    """
    types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return _OPENMETRICS if "application/openmetrics-text" in types else _TEXT


class Exposition:
    """Renders one page at a time, so that many scrapers take no more memory than one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._rendering = asyncio.Lock()

    async def page(self, form: Format) -> bytes:
        """Render a page, compressed by gzip."""
        async with self._rendering:
            # The copies have no reference cycles. With 10,000 integrations they would trigger full collections, which
            # blocked the loop for 80 ms.
            with GARBAGE_COLLECTOR.paused():
                return await asyncio.to_thread(_render, form, await _copy(self._metrics))


class _Histogram(NamedTuple):
    """A copy of a histogram. `buckets` are not cumulative."""

    buckets: tuple[int, ...]
    seconds: float


_Row = tuple[tuple[str, ...], float | _Histogram]
"""Label values, and the value of the series."""


class _Family(NamedTuple):
    """A metric family. `read` copies its rows on the event loop, and may yield None to let the copy pause."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Metrics], Iterable[_Row | None]]

    def samples(self, rows: Iterable[_Row]) -> Iterator[Sample]:
        """Yield the samples of these rows."""
        for values, value in rows:
            labels = dict(zip(self.labels, values, strict=True))
            if not isinstance(value, _Histogram):
                yield Sample(self.name, labels, value)
                continue
            count = 0
            for bound, count in zip(_BOUNDS, accumulate(value.buckets), strict=True):
                yield Sample(f"{self.name}_bucket", {**labels, "le": bound}, count)
            yield Sample(f"{self.name}_sum", labels, value.seconds)
            yield Sample(f"{self.name}_count", labels, count)


_Copies = list[tuple[_Family, list[_Row]]]

_BOUNDS = (*map(str, BOUNDS), "+Inf")


async def _copy(metrics: Metrics) -> _Copies:
    """Copy all families, and let other tasks run after each slice."""
    copies: _Copies = []
    end = perf_counter() + _SLICE
    for family in _FAMILIES:
        rows: list[_Row] = []
        for row in family.read(metrics):
            if row is not None:
                rows.append(row)
            if perf_counter() >= end:
                await asyncio.sleep(0)
                end = perf_counter() + _SLICE
        copies.append((family, rows))
    return copies


class _Batch(Collector):
    """Some samples of one family."""

    def __init__(self, family: _Family, samples: list[Sample]) -> None:
        self._metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
        self._metric.samples = samples

    def collect(self) -> Iterable[Metric]:
        """Return the family with these samples."""
        return (self._metric,)


def _render(form: Format, copies: _Copies) -> bytes:
    """Render the page and compress it by gzip, in a thread.

    prometheus_client renders a collector in one step, which holds the interpreter lock and takes 70 MB for 10,000
    integrations, so this passes small batches. The thread sleeps after each batch, so that the event loop waits neither
    for the switch interval nor for the scheduler of a single processor. It frees each copy after use, since freeing all
    at once takes 4 ms.
    """
    packer = zlib.compressobj(wbits=_GZIP)
    page = bytearray()
    while copies:
        family, rows = copies.pop(0)
        samples, has_header = family.samples(rows), False
        while batch := list(islice(samples, _BATCH_SIZE)):
            text = form.generate(_Batch(family, batch)).removesuffix(b"# EOF\n")
            # Only the first batch of a family keeps the HELP and TYPE lines.
            page += packer.compress(text.split(b"\n", 2)[2] if has_header else text)
            has_header = True
            sleep(_PAUSE)
    return bytes(page + packer.compress(form.generate(PROCESS_COLLECTOR)) + packer.flush())


def _by_integration(read: Callable[[IntegrationStats], Mapping[str, int]]) -> Callable[[Metrics], Iterator[_Row]]:
    """Read counters of each integration by a second label."""

    def rows(metrics: Metrics) -> Iterator[_Row]:
        for stats in metrics.all_stats():
            yield from [((stats.integration, value), count) for value, count in read(stats).items()]

    return rows


def _by_outcome(read: Callable[[Metrics], Mapping[str, Mapping[str, int]]]) -> Callable[[Metrics], Iterator[_Row]]:
    """Read requests by a label and by outcome."""

    def rows(metrics: Metrics) -> Iterator[_Row]:
        for value, outcomes in list(read(metrics).items()):
            yield from [((value, outcome), count) for outcome, count in outcomes.items()]

    return rows


def _by_labels(read: Callable[[Metrics], Mapping[tuple[str, str], float]]) -> Callable[[Metrics], Iterable[_Row]]:
    """Read values that are stored by two labels."""
    return lambda metrics: list(read(metrics).items())


def _by_label(read: Callable[[Metrics], Mapping[str, float]]) -> Callable[[Metrics], Iterable[_Row]]:
    """Read values that are stored by one label."""
    return lambda metrics: [((value,), count) for value, count in read(metrics).items()]


def _single(read: Callable[[Metrics], float | None]) -> Callable[[Metrics], Iterable[_Row]]:
    """Read a value without labels. None omits the series."""

    def rows(metrics: Metrics) -> Iterable[_Row]:
        value = read(metrics)
        return () if value is None else (((), value),)

    return rows


def _store_value(index: int) -> Callable[[Metrics], Iterable[_Row]]:
    """Read one of the values in `Metrics.store`."""
    return _single(lambda metrics: None if metrics.store is None else metrics.store[index])


def _copy_histogram(durations: IntegrationStats | Durations) -> _Histogram:
    return _Histogram(tuple(durations.buckets), durations.seconds)


def _durations(metrics: Metrics) -> Iterator[_Row]:
    for stats in metrics.used_stats():
        yield (stats.integration,), _copy_histogram(stats)


def _phases(metrics: Metrics) -> Iterator[_Row]:
    phases = {"grant": metrics.grants, "connect": metrics.connections, "first_byte": metrics.first_bytes}
    for phase, durations in phases.items():
        if any(durations.buckets):
            yield (phase,), _copy_histogram(durations)


def _integration_kinds(metrics: Metrics) -> Iterator[_Row]:
    for stats in metrics.used_stats():
        integration = metrics.integrations.get(stats.integration)
        if integration is not None:
            yield (stats.integration, integration.kind), 1


def _highest_utilization(metrics: Metrics) -> Iterator[_Row | None]:
    """Find the highest utilization. Yield None after each origin: thousands of integrations take a while."""
    fullest = 0.0
    for utilization in metrics.utilization():
        fullest = max(fullest, utilization)
        yield None
    yield (), fullest


def _upstream_connections(metrics: Metrics) -> Mapping[str, int]:
    return {
        "idle": metrics.upstream_idle,
        "active": metrics.upstream_active,
        "connecting": metrics.upstream_connecting,
    }


def _statuses(metrics: Metrics) -> Iterator[tuple[str, IntegrationStatus]]:
    problems = {} if metrics.stored is None else metrics.stored.problems
    return all_statuses(metrics.integrations, problems, time(), metrics.failing())


def _status_of_each(metrics: Metrics) -> Iterator[_Row]:
    return (((name, status.status, status.reason), 1) for name, status in _statuses(metrics))


def _stored_by_status(metrics: Metrics) -> Iterator[_Row | None]:
    """Count stored integrations by status."""
    stored = metrics.stored
    if stored is None:
        return
    counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
    for name, status in _statuses(metrics):
        if name in stored.problems:
            counts[status.status] += 1
        yield None
    yield from [((status,), count) for status, count in counts.items()]


def _build_info(_: Metrics) -> Iterable[_Row]:
    return [((sidekey.__version__, platform.python_version(), build()), 1)]


_FAMILIES = (
    _Family(
        "sidekey_requests_total",
        "counter",
        "Finished requests by integration and outcome.",
        ("integration", "outcome"),
        _by_integration(lambda stats: stats.outcomes),
    ),
    _Family(
        "sidekey_denials_total",
        "counter",
        "Denied requests by integration and reason.",
        ("integration", "reason"),
        _by_integration(lambda stats: stats.denials),
    ),
    _Family(
        "sidekey_request_duration_seconds",
        "histogram",
        "Seconds from the first byte of a request to the last byte of its response.",
        ("integration",),
        _durations,
    ),
    _Family(
        "sidekey_phase_duration_seconds",
        "histogram",
        "Seconds that requests waited for a grant, for a connection, and for the head of the response.",
        ("phase",),
        _phases,
    ),
    _Family(
        "sidekey_requests_in_flight",
        "gauge",
        "Requests in flight.",
        (),
        _single(lambda metrics: metrics.in_flight),
    ),
    _Family(
        "sidekey_in_flight_limit",
        "gauge",
        "The limit of requests in flight.",
        (),
        _single(lambda metrics: metrics.in_flight_limit),
    ),
    _Family(
        "sidekey_in_flight_share",
        "gauge",
        "The share of its limit of requests in flight that the fullest origin uses, 0 to 1.",
        (),
        _highest_utilization,
    ),
    _Family(
        "sidekey_upstream_connections",
        "gauge",
        "Connections to upstreams by state.",
        ("state",),
        _by_label(_upstream_connections),
    ),
    _Family(
        "sidekey_upstream_connects_total",
        "counter",
        "Attempts to connect to upstreams by integration and outcome.",
        ("integration", "outcome"),
        _by_integration(lambda stats: stats.connects),
    ),
    _Family(
        "sidekey_parent_proxy_connects_total",
        "counter",
        "Attempts to connect through a parent proxy by outcome.",
        ("outcome",),
        _by_label(lambda metrics: metrics.proxy_connects),
    ),
    _Family(
        "sidekey_token_requests_total",
        "counter",
        "Token requests by integration and outcome.",
        ("integration", "outcome"),
        _by_labels(lambda metrics: metrics.calls),
    ),
    _Family(
        "sidekey_caller_requests_total",
        "counter",
        "Finished requests by caller and outcome.",
        ("caller", "outcome"),
        _by_outcome(lambda metrics: metrics.callers),
    ),
    _Family(
        "sidekey_preset_requests_total",
        "counter",
        "Finished requests by preset and outcome.",
        ("preset", "outcome"),
        _by_outcome(lambda metrics: metrics.presets),
    ),
    _Family(
        "sidekey_credential_expiry_timestamp_seconds",
        "gauge",
        "When the current credential expires, in seconds since the epoch.",
        ("integration", "credential"),
        _by_labels(lambda metrics: metrics.expiries),
    ),
    _Family(
        "sidekey_credential_reload_failures_total",
        "counter",
        "Changed credentials that cannot be used.",
        ("integration", "credential"),
        _by_labels(lambda metrics: metrics.reload_failures),
    ),
    _Family(
        "sidekey_leaves_issued_total",
        "counter",
        "Certificates that the local CA has signed.",
        (),
        _single(lambda metrics: metrics.leaves_issued),
    ),
    _Family(
        "sidekey_ca_expiry_timestamp_seconds",
        "gauge",
        "When the first signing local CA expires, in seconds since the epoch.",
        (),
        _single(lambda metrics: metrics.ca_expires),
    ),
    _Family(
        "sidekey_listener_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate of listen.tls expires, in seconds since the epoch.",
        (),
        _single(lambda metrics: metrics.listener_expires),
    ),
    _Family(
        "sidekey_failed_handshakes_total",
        "counter",
        "TLS handshakes of callers at the proxy listener that failed, by outcome.",
        ("outcome",),
        _by_label(lambda metrics: metrics.failed_handshakes),
    ),
    _Family(
        "sidekey_jwks_fetches_total",
        "counter",
        "Fetches of the keys of JWT issuers, by issuer and outcome.",
        ("issuer", "outcome"),
        _by_labels(lambda metrics: metrics.jwks_fetches),
    ),
    _Family(
        "sidekey_jwks_fetch_success_timestamp_seconds",
        "gauge",
        "When the keys of a JWT issuer were last fetched, in seconds since the epoch.",
        ("issuer",),
        _by_label(lambda metrics: metrics.jwks_fetched_at),
    ),
    _Family(
        "sidekey_open_tunnels",
        "gauge",
        "Open tunnels (CONNECT) and WebSockets by their content.",
        ("mode",),
        _by_label(lambda metrics: metrics.tunnels),
    ),
    _Family(
        "sidekey_tunnels_total",
        "counter",
        "CONNECTs that Sidekey granted, by integration and outcome.",
        ("integration", "outcome"),
        _by_labels(lambda metrics: metrics.tunnel_outcomes),
    ),
    _Family(
        "sidekey_admin_logins_total",
        "counter",
        "Requests to the admin listener that need an operator's token, by whether the token is valid.",
        ("outcome",),
        _by_label(lambda metrics: metrics.admin_logins),
    ),
    _Family(
        "sidekey_oidc_up",
        "gauge",
        "Whether the issuer of company log-ins works.",
        (),
        _single(lambda metrics: metrics.oidc_up()),
    ),
    _Family(
        "sidekey_admin_changes_total",
        "counter",
        "Changes that operators requested, by object and outcome.",
        ("object", "outcome"),
        _by_labels(lambda metrics: metrics.admin_changes),
    ),
    _Family(
        "sidekey_log_dropped_total",
        "counter",
        "Log lines that were lost.",
        (),
        _single(lambda metrics: metrics.count_dropped()),
    ),
    _Family(
        "sidekey_command_runs_total",
        "counter",
        "Runs of commands that write secrets, by outcome.",
        ("outcome",),
        _by_label(lambda metrics: metrics.command_runs),
    ),
    _Family(
        "sidekey_command_failing",
        "gauge",
        "Whether the last run of a command of the integration failed, or wrote a secret that cannot be used.",
        ("integration",),
        _by_label(lambda metrics: metrics.failing_commands()),
    ),
    _Family(
        "sidekey_integration_info",
        "gauge",
        "The kind of each integration that has had a request.",
        ("integration", "kind"),
        _integration_kinds,
    ),
    _Family(
        "sidekey_integration_failing_since_timestamp_seconds",
        "gauge",
        "When a failing integration began to fail, in seconds since the epoch.",
        ("integration",),
        # Lazily, because each value is computed on access.
        lambda metrics: (((name,), failing.since) for name, failing in metrics.failing().items()),
    ),
    _Family(
        "sidekey_integration_status",
        "gauge",
        "The status of each integration, and why it is not ok.",
        ("integration", "status", "reason"),
        _status_of_each,
    ),
    _Family("sidekey_store_up", "gauge", "Whether the last use of the store succeeded.", (), _store_value(0)),
    _Family("sidekey_store_revision", "gauge", "The revision of the store in use.", (), _store_value(1)),
    _Family(
        "sidekey_store_rolled_back",
        "gauge",
        "Whether this process has seen rows of the store that were gone or older than before.",
        (),
        _store_value(2),
    ),
    _Family("sidekey_store_integrations", "gauge", "Stored integrations by status.", ("state",), _stored_by_status),
    _Family(
        "sidekey_config_last_reload_successful",
        "gauge",
        "Whether the last load of the config worked.",
        (),
        _single(lambda metrics: metrics.config_loaded),
    ),
    _Family(
        "sidekey_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the config was last loaded, in seconds since the epoch.",
        (),
        _single(lambda metrics: metrics.config_loaded_at),
    ),
    _Family(
        "sidekey_build_info",
        "gauge",
        "Versions of Sidekey and Python, and whether the hot path is compiled.",
        ("version", "python", "build"),
        _build_info,
    ),
)
"""All metric families, in the order of the page. To add one, add an entry here and a row to docs/metrics.md."""
