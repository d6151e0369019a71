"""The Prometheus text exposition 0.0.4, written in slices so that a scrape never holds the event loop.

Rendering 10,000 integrations in one go would stall every request for the better part of a second. A slice ends after
`SLICE` seconds of work, and the loop runs what else is due before the next one. Each integration's lines are rendered
without a pause between them, so a histogram always agrees with its own count.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from time import perf_counter, time
from typing import NamedTuple

import sidekey
from sidekey.core.build import build
from sidekey.observe import process_figures
from sidekey.observe.metrics import BOUNDS, Durations, IntegrationStats, Metrics
from sidekey.runtime.standing import STATES, changed_states

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SLICE = 0.0005
"""Seconds of rendering before the loop gets its turn."""


class Family(NamedTuple):
    """A metric family. `lines` renders its samples in pieces, each small against a slice and ending in a line feed."""

    name: str
    type: str
    help: str
    lines: Callable[[Metrics], Iterable[str]]


async def expose(metrics: Metrics) -> AsyncIterator[bytes]:
    """Yield the exposition in slices, giving the loop a turn after each."""
    for block in _slices(_pieces(metrics)):
        yield block
        await asyncio.sleep(0)
    # It lists /proc/self/fd, which takes milliseconds where thousands of connections are open.
    yield await asyncio.to_thread(process_figures.render)


def _slices(pieces: Iterator[str]) -> Iterator[bytes]:
    """Join the pieces into blocks of at most `SLICE` seconds of rendering (and one piece more)."""
    block: list[str] = []
    end = perf_counter() + SLICE
    for piece in pieces:
        block.append(piece)
        if perf_counter() >= end:
            yield "".join(block).encode()
            block.clear()
            end = perf_counter() + SLICE
    if block:
        yield "".join(block).encode()


def _pieces(metrics: Metrics) -> Iterator[str]:
    for family in FAMILIES:
        head = f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.type}\n"
        for piece in family.lines(metrics):
            yield head + piece
            head = ""


def _of_integrations(
    name: str, label: str, read: Callable[[IntegrationStats], Mapping[str, int]]
) -> Callable[[Metrics], Iterator[str]]:
    """Render what is counted of each integration by a second label."""

    def lines(metrics: Metrics) -> Iterator[str]:
        for stats in metrics.all_stats():
            counts = read(stats)
            if counts:
                head = f'{name}{{{stats.label},{label}="'
                yield "".join([f'{head}{value}"}} {count}\n' for value, count in counts.items()])

    return lines


_LE = (*(f',le="{bound}"}} ' for bound in BOUNDS), ',le="+Inf"} ')


def _durations(metrics: Metrics) -> Iterator[str]:
    for stats in metrics.recorded():
        yield _histogram("sidekey_request_duration_seconds", stats.label, stats)


def _histogram(name: str, label: str, durations: IntegrationStats | Durations) -> str:
    counts = list(accumulate(durations.buckets))
    head = f"{name}_bucket{{{label}"
    buckets = "".join([f"{head}{le}{count}\n" for le, count in zip(_LE, counts, strict=True)])
    return f"{buckets}{name}_sum{{{label}}} {durations.seconds!r}\n{name}_count{{{label}}} {counts[-1]}\n"


def _phases(metrics: Metrics) -> Iterator[str]:
    phases = {"grant": metrics.grants, "connect": metrics.connections, "first_byte": metrics.first_bytes}
    for phase, durations in phases.items():
        if any(durations.buckets):
            yield _histogram("sidekey_phase_duration_seconds", f'phase="{phase}"', durations)


def _info(metrics: Metrics) -> Iterator[str]:
    for stats in metrics.recorded():
        integration = metrics.integrations.get(stats.integration)
        if integration is not None:
            yield f'sidekey_integration_info{{{stats.label},kind="{integration.kind}"}} 1\n'


def _failing(metrics: Metrics) -> Iterator[str]:
    name = "sidekey_integration_failing_since_timestamp_seconds"
    for integration, since in metrics.failing().items():
        yield f'{name}{{integration="{integration}"}} {since}\n'


def _fullest(metrics: Metrics) -> Iterator[str]:
    """There may be one share for each of thousands of integrations, so looking at them is sliced as well."""
    fullest = 0.0
    for fullness in metrics.fullness():
        fullest = max(fullest, fullness)
        yield ""
    yield f"sidekey_in_flight_share {fullest!r}\n"


def _upstream_connections(metrics: Metrics) -> Iterator[str]:
    states = {
        "idle": metrics.upstream_idle,
        "active": metrics.upstream_active,
        "connecting": metrics.upstream_connecting,
    }
    for state, count in states.items():
        yield f'sidekey_upstream_connections{{state="{state}"}} {count}\n'


def _calls(metrics: Metrics) -> Iterator[str]:
    for (integration, outcome), count in list(metrics.calls.items()):
        yield f'sidekey_token_requests_total{{integration="{integration}",outcome="{outcome}"}} {count}\n'


def _by_outcome(
    name: str, label: str, read: Callable[[Metrics], Mapping[str, Mapping[str, int]]]
) -> Callable[[Metrics], Iterator[str]]:
    """Render requests by something that they have beside an integration, and by outcome. It needs no escaping."""

    def lines(metrics: Metrics) -> Iterator[str]:
        for value, outcomes in list(read(metrics).items()):
            head = f'{name}{{{label}="{value}",outcome="'
            yield "".join([f'{head}{outcome}"}} {count}\n' for outcome, count in outcomes.items()])

    return lines


def _expiries(metrics: Metrics) -> Iterator[str]:
    name = "sidekey_credential_expiry_timestamp_seconds"
    for (integration, credential), moment in list(metrics.expiries.items()):
        yield f'{name}{{integration="{integration}",credential="{credential}"}} {moment!r}\n'


def _reload_failures(metrics: Metrics) -> Iterator[str]:
    name = "sidekey_credential_reload_failures_total"
    for (integration, credential), count in list(metrics.reload_failures.items()):
        yield f'{name}{{integration="{integration}",credential="{credential}"}} {count}\n'


def _leaves_minted(metrics: Metrics) -> Iterator[str]:
    yield f"sidekey_leaves_minted_total {metrics.leaves_minted}\n"


def _ca_expiry(metrics: Metrics) -> Iterator[str]:
    if metrics.ca_expires is not None:
        yield f"sidekey_ca_expiry_timestamp_seconds {metrics.ca_expires!r}\n"


def _tunnels(metrics: Metrics) -> Iterator[str]:
    for mode, count in metrics.tunnels.items():
        yield f'sidekey_tunnels{{mode="{mode}"}} {count}\n'


def _tunnel_outcomes(metrics: Metrics) -> Iterator[str]:
    for (integration, outcome), count in list(metrics.tunnel_outcomes.items()):
        yield f'sidekey_tunnels_total{{integration="{integration}",outcome="{outcome}"}} {count}\n'


def _dropped(metrics: Metrics) -> Iterator[str]:
    yield f"sidekey_log_dropped_total {metrics.count_dropped()}\n"


def _logins(metrics: Metrics) -> Iterator[str]:
    for outcome, count in list(metrics.admin_logins.items()):
        yield f'sidekey_admin_logins_total{{outcome="{outcome}"}} {count}\n'


def _changes(metrics: Metrics) -> Iterator[str]:
    for (thing, outcome), count in list(metrics.admin_changes.items()):
        yield f'sidekey_admin_changes_total{{object="{thing}",outcome="{outcome}"}} {count}\n'


def _stored(metrics: Metrics) -> Iterator[str]:
    """Of ten thousand, only those are looked at whose state may be another than it was when they were built."""
    stored = metrics.stored
    if stored is None:
        return
    counts = {state: stored.counts.get(state, 0) for state in STATES}
    for state in changed_states(stored, time(), metrics.failing()):
        counts["ok"] -= 1
        counts[state] += 1
        yield ""
    yield "".join([f'sidekey_store_integrations{{state="{state}"}} {count}\n' for state, count in counts.items()])


def _of_store(name: str, place: int) -> Callable[[Metrics], Iterator[str]]:
    """Render what the store is said to be; nothing where there is none."""

    def lines(metrics: Metrics) -> Iterator[str]:
        if metrics.store is not None:
            yield f"{name} {int(metrics.store[place])}\n"

    return lines


def _build(_: Metrics) -> Iterator[str]:
    labels = f'version="{sidekey.__version__}",python="{platform.python_version()}",build="{build()}"'
    yield f"sidekey_build_info{{{labels}}} 1\n"


def _counter(name: str, help_text: str, label: str, read: Callable[[IntegrationStats], Mapping[str, int]]) -> Family:
    """Make a counter by integration and a second label."""
    return Family(name, "counter", help_text, _of_integrations(name, label, read))


def _plain(name: str, help_text: str, read: Callable[[Metrics], float]) -> Family:
    """Make a gauge without labels."""
    return Family(name, "gauge", help_text, lambda metrics: (f"{name} {read(metrics)!r}\n",))


FAMILIES = (
    _counter(
        "sidekey_requests_total",
        "Finished requests by integration and outcome.",
        "outcome",
        lambda stats: stats.outcomes,
    ),
    _counter(
        "sidekey_denials_total",
        "Denied requests by integration and reason.",
        "reason",
        lambda stats: stats.denials,
    ),
    Family(
        "sidekey_request_duration_seconds",
        "histogram",
        "Seconds from the first byte of a request to the last byte of its response.",
        _durations,
    ),
    Family(
        "sidekey_phase_duration_seconds",
        "histogram",
        "Seconds that requests waited for a grant, for a connection, and for the head of the response.",
        _phases,
    ),
    _plain("sidekey_requests_in_flight", "Requests in flight.", lambda metrics: metrics.in_flight),
    _plain("sidekey_in_flight_limit", "The limit of requests in flight.", lambda metrics: metrics.in_flight_limit),
    Family(
        "sidekey_in_flight_share",
        "gauge",
        "The share of its limit of requests in flight that the fullest origin uses, 0 to 1.",
        _fullest,
    ),
    Family("sidekey_upstream_connections", "gauge", "Connections to upstreams by state.", _upstream_connections),
    _counter(
        "sidekey_upstream_connects_total",
        "Attempts to connect to upstreams by integration and outcome.",
        "outcome",
        lambda stats: stats.connects,
    ),
    Family("sidekey_token_requests_total", "counter", "Calls for tokens by integration and outcome.", _calls),
    Family(
        "sidekey_caller_requests_total",
        "counter",
        "Finished requests by caller and outcome.",
        _by_outcome("sidekey_caller_requests_total", "caller", lambda metrics: metrics.callers),
    ),
    Family(
        "sidekey_preset_requests_total",
        "counter",
        "Finished requests by preset and outcome.",
        _by_outcome("sidekey_preset_requests_total", "preset", lambda metrics: metrics.presets),
    ),
    Family(
        "sidekey_credential_expiry_timestamp_seconds",
        "gauge",
        "When the current credential expires, in seconds since the epoch.",
        _expiries,
    ),
    Family(
        "sidekey_credential_reload_failures_total",
        "counter",
        "Changed credentials that cannot be used.",
        _reload_failures,
    ),
    Family("sidekey_leaves_minted_total", "counter", "Certificates that the local CA has signed.", _leaves_minted),
    Family(
        "sidekey_ca_expiry_timestamp_seconds",
        "gauge",
        "When the first signing local CA expires, in seconds since the epoch.",
        _ca_expiry,
    ),
    Family("sidekey_tunnels", "gauge", "Open tunnels (CONNECT) by their content.", _tunnels),
    Family(
        "sidekey_tunnels_total",
        "counter",
        "CONNECTs that Sidekey granted, by integration and outcome.",
        _tunnel_outcomes,
    ),
    Family(
        "sidekey_admin_logins_total",
        "counter",
        "Requests to the admin listener that need an operator's token, by whether the token is valid.",
        _logins,
    ),
    Family(
        "sidekey_admin_changes_total",
        "counter",
        "Changes that operators requested, by object and outcome.",
        _changes,
    ),
    Family("sidekey_log_dropped_total", "counter", "Log lines that were lost.", _dropped),
    Family("sidekey_integration_info", "gauge", "The kind of each integration that has had a request.", _info),
    Family(
        "sidekey_integration_failing_since_timestamp_seconds",
        "gauge",
        "When a failing integration began to fail, in seconds since the epoch.",
        _failing,
    ),
    Family(
        "sidekey_store_up", "gauge", "Whether the last use of the store succeeded.", _of_store("sidekey_store_up", 0)
    ),
    Family(
        "sidekey_store_revision", "gauge", "The revision of the store in use.", _of_store("sidekey_store_revision", 1)
    ),
    Family(
        "sidekey_store_rolled_back",
        "gauge",
        "Whether something in the store is gone, or older than before.",
        _of_store("sidekey_store_rolled_back", 2),
    ),
    Family("sidekey_store_integrations", "gauge", "Stored integrations by status.", _stored),
    _plain(
        "sidekey_config_last_reload_successful",
        "Whether the last load of the config worked.",
        lambda metrics: int(metrics.config_loaded),
    ),
    _plain(
        "sidekey_config_last_reload_success_timestamp_seconds",
        "When the config was last loaded, in seconds since the epoch.",
        lambda metrics: metrics.config_loaded_at,
    ),
    Family(
        "sidekey_build_info", "gauge", "Versions of Sidekey and Python, and whether the hot path is compiled.", _build
    ),
)
"""Every family of ours, in the order of the page. A new one is one entry here."""
