"""`/usage` and `/failures`: numbers, outcomes and durations of requests in all processes, and failed requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

from pydantic import Field

from sidekey.api.errors import not_found
from sidekey.api.handlers.audit import Before
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, Instant, OneOf, Page
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.observe.history import UsageHistory, sum_counters
from sidekey.store.failures import Failure as StoredFailure
from sidekey.store.usage import HOUR, OUTCOMES


class _Period(NamedTuple):
    """A period and the length of its points, in hours."""

    hours: int
    step: int


PERIODS: Final = {"24h": _Period(24, 1), "7d": _Period(7 * 24, 6), "30d": _Period(30 * 24, 24)}

_OUTCOMES: Final = ("401/403", "4xx", "429", "5xx", *OUTCOMES[4:])
"""Names of the counters of failed requests, in the order of the store. Its first four columns have other names."""

_LATENCY_BOUNDS: Final = (50, 100, 250, 1000, 5000, None)
"""Upper bounds of the counters of durations, in milliseconds, in the order of the store."""


class Period(Body):
    """The query of usage."""

    period: Annotated[str, OneOf(tuple(PERIODS))] = Field(default="24h", description="The time until now.")


class UsagePoint(Body):
    """Requests of one step."""

    requests: int
    failed: int = Field(description="Requests with a status of 400 or more, or with a code of Sidekey's own.")


class LatencyCount(Body):
    """Requests by duration, without those that were faster than the previous bound."""

    to_ms: int | None = Field(description="The upper bound, in milliseconds; null: none.")
    count: int


class Usage(Body):
    """Requests of an integration or preset in all processes."""

    period: str
    step: int = Field(description="The length of a point, in seconds.")
    begin: Instant = Field(alias="from", description="When the first point begins.")
    points: list[UsagePoint] = Field(description="Oldest first.")
    outcomes: dict[str, int] = Field(
        description="Number of requests by outcome, without zeros: `2xx` (with 1xx and 3xx), "
        + ", ".join(f"`{outcome}`" for outcome in _OUTCOMES)
        + ". `other`: Sidekey refused the request, or its caller left."
    )
    latency: list[LatencyCount] = Field(description="Fastest first. Empty for a preset.")
    last_used_at: Instant | None


class DayUsage(Body):
    """Requests of the last 24 hours, in all processes."""

    points: list[tuple[int, int]] = Field(description="Requests and failed requests of each hour, oldest first.")
    last_used_at: Instant | None


class Failure(Body):
    """A failed request."""

    at: Instant
    who: str = Field(
        description="The name of the caller or of the operator who sent; empty for a test, or without callers."
    )
    preset: str = Field(description="The ID of the preset; empty without one.")
    target: str = Field(description="The URL template of the preset, or the host.")
    method: str
    status: int = Field(description="The status that the caller got; 0 if it left before.")
    code: str = Field(description="A code of Sidekey's own; empty for a response of the upstream.")
    reason: str = Field(description="Why there was no credential, for `credential_unavailable`; else empty.")
    milliseconds: int
    request_id: str


class Failures(Page[Failure]):
    """A page of failed requests."""


@partial(
    Route,
    "GET",
    "/integrations/{id}/usage",
    "getIntegrationUsage",
    permission="viewer",
    query=Period,
    response=Usage,
    codes=("not_found",),
)
async def usage_of_integration(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read how many requests an integration had, how they ended, and how long they took."""
    _require_integration(service, request)
    return await _usage(service, request, "integration")


@partial(
    Route,
    "GET",
    "/presets/{id}/usage",
    "getPresetUsage",
    permission="viewer",
    query=Period,
    response=Usage,
    codes=("not_found",),
)
async def usage_of_preset(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read how many requests a preset had, and how they ended."""
    name = request.path_parameters["id"]
    if name not in service.snapshot.presets and name not in service.store.state.presets:
        raise not_found()
    return await _usage(service, request, "preset")


@partial(
    Route,
    "GET",
    "/integrations/{id}/failures",
    "listFailures",
    permission="viewer",
    query=Before,
    response=Failures,
    codes=("not_found",),
)
async def failures(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List failed requests of an integration, newest first: at most one a second."""
    _require_integration(service, request)
    before = request.query.before or int(time.time()) + 1
    newest, more = await service.history.failures(request.path_parameters["id"], before)
    return ApiResult.of(
        Failures(items=[_failure(failure) for failure in newest], next=str(newest[-1].at) if more else None)
    )


def _require_integration(service: ApiServices, request: ApiRequest) -> None:
    name = request.path_parameters["id"]
    if name not in service.snapshot.integrations and name not in service.store.state.integrations:
        raise not_found()


async def _usage(service: ApiServices, request: ApiRequest, kind: str) -> ApiResult:
    period = PERIODS[request.query.period]
    name = request.path_parameters["id"]
    used = (await service.history.usage(kind, [name], period.hours))[name]
    return ApiResult.of(_build_usage(used, request.query.period, period, latency=kind == "integration"))


async def day_usage(service: ApiServices, names: Sequence[str]) -> dict[str, DayUsage]:
    """Return the usage of integrations in the last 24 hours. Raises StoreError."""
    day = PERIODS["24h"]
    usage = await service.history.usage("integration", names, day.hours)
    return {
        name: DayUsage(points=_points(used, day, _first_hour(day)), last_used_at=used.last_at or None)
        for name, used in usage.items()
    }


def _first_hour(period: _Period) -> int:
    """Return the first hour, since the epoch, of a period that ends now."""
    return int(time.time()) // HOUR - period.hours + 1


def _points(used: UsageHistory, period: _Period, begin: int) -> list[tuple[int, int]]:
    """Return the requests and failed requests of each step, oldest first."""
    points = [(0, 0)] * (period.hours // period.step)
    for hour in used.hours:
        # Clamp: the clock of another process may be ahead, and a new hour may have begun.
        at = max(0, min((hour.hour - begin) // period.step, len(points) - 1))
        requests, failed = points[at]
        points[at] = requests + hour.counters[0], failed + hour.counters[1]
    return points


def _build_usage(used: UsageHistory, name: str, period: _Period, *, latency: bool) -> Usage:
    begin = _first_hour(period)
    requests, failed, *counts = sum_counters(used.hours)
    outcomes = {"2xx": requests - failed, **dict(zip(_OUTCOMES, counts, strict=False))}
    members: dict[str, Any] = {
        "period": name,
        "step": period.step * HOUR,
        "from": begin * HOUR,
        "points": [UsagePoint(requests=requests, failed=failed) for requests, failed in _points(used, period, begin)],
        "outcomes": {outcome: count for outcome, count in outcomes.items() if count},
        "latency": [
            LatencyCount(to_ms=limit, count=count)
            for limit, count in zip(_LATENCY_BOUNDS, counts[len(_OUTCOMES) :] if latency else (), strict=False)
        ],
        "last_used_at": used.last_at or None,
    }
    return Usage(**members)


def _failure(failure: StoredFailure) -> Failure:
    return Failure(
        at=failure.at,
        who=failure.who,
        preset=failure.preset,
        target=failure.target,
        method=failure.method,
        status=failure.status,
        code=failure.code,
        reason=failure.reason,
        milliseconds=failure.ms,
        request_id=failure.request_id,
    )


ROUTES: Final = (usage_of_integration, usage_of_preset, failures)
