"""Hourly requests of each integration and preset, for all processes together. Rows have no MAC: they grant nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sidekey.store.database import Transaction, as_number, as_text

HOUR: Final = 3600

RETENTION_HOURS: Final = 35 * 24
"""Hours after which maintenance deletes usage."""

_MAX_DELETED: Final = 5000
"""Rows that one statement deletes."""

OUTCOMES: Final = (
    "s401_403",
    "s4xx",
    "s429",
    "s5xx",
    "unreachable",
    "tls",
    "protocol",
    "timeout",
    "credential",
    "other",
)
"""Columns of failed requests, by outcome."""

LATENCY: Final = ("b50", "b100", "b250", "b1000", "b5000", "more")
"""Columns of durations: the upper bound in milliseconds."""

COUNTERS: Final = ("requests", "failed", *OUTCOMES, *LATENCY)
"""Columns of numbers of requests."""

_KEY: Final = ("kind", "id", "hour")
_COLUMNS: Final = (*_KEY, "last_at", "failing_since", *COUNTERS)

TABLES: Final = (
    "CREATE TABLE sidekey_usage (kind TEXT NOT NULL, id TEXT NOT NULL, "
    f"{', '.join(f'{column} BIGINT NOT NULL' for column in _COLUMNS[2:])}, PRIMARY KEY ({', '.join(_KEY)}))",
    "CREATE INDEX sidekey_usage_hour ON sidekey_usage (hour)",
)

_ADD: Final = (
    "INSERT INTO sidekey_usage AS u VALUES "  # noqa: S608  names and numbers of columns
    f"({', '.join(f'${number + 1}' for number in range(len(_COLUMNS)))}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    "failing_since = CASE WHEN excluded.last_at >= u.last_at THEN excluded.failing_since ELSE u.failing_since END, "
    "last_at = CASE WHEN excluded.last_at > u.last_at THEN excluded.last_at ELSE u.last_at END, "
    f"{', '.join(f'{column} = u.{column} + excluded.{column}' for column in COUNTERS)}"
)


Counters = tuple[int, ...]
"""Numbers of requests in the order of `COUNTERS`. Plain tuples of numbers cost the garbage collector nothing."""

NONE: Final[Counters] = (0,) * len(COUNTERS)

_S4XX: Final = COUNTERS.index("s4xx")
_S429: Final = COUNTERS.index("s429")


def count_good(counters: Counters) -> int:
    """Count the requests that reached the upstream, which did not reject the credential (404 and 429 included)."""
    return counters[0] - counters[1] + counters[_S4XX] + counters[_S429]


class Hour(NamedTuple):
    """Usage of one integration or preset in one hour since the epoch.

    `last_at` is the last use, and `failing_since` the first of the failures since the last success, or 0. Both are in
    seconds since the epoch.
    """

    kind: str
    id: str
    hour: int
    last_at: int
    failing_since: int
    counters: Counters


class Failing(NamedTuple):
    """When an integration was used last, and since when it fails, or 0. Both are in seconds since the epoch."""

    last_at: int
    since: int


async def add(transaction: Transaction, hours: Sequence[Hour]) -> None:
    """Add usage. The rows must be sorted, so that two processes lock them in the same order."""
    await transaction.execute_many(_ADD, [(*hour[:-1], *hour.counters) for hour in hours])


async def read(transaction: Transaction, kind: str, names: Sequence[str], since: int) -> list[Hour]:
    """Return the usage of these integrations or presets from this hour on."""
    placeholders = ", ".join(f"${number + 3}" for number in range(len(names)))
    statement = f"SELECT * FROM sidekey_usage WHERE kind = $1 AND hour >= $2 AND id IN ({placeholders})"  # noqa: S608
    rows = await transaction.fetch(statement, kind, since, *names) if names else []
    numbers = [tuple(map(as_number, row[2:])) for row in rows]
    return [
        Hour(kind, as_text(row[1]), values[0], values[1], values[2], values[3:])
        for row, values in zip(rows, numbers, strict=True)
    ]


async def last_uses(transaction: Transaction, kind: str, names: Sequence[str]) -> dict[str, int]:
    """Return the last use of these integrations or presets, in seconds since the epoch."""
    newest = " UNION ALL ".join(
        "SELECT * FROM (SELECT id, last_at FROM sidekey_usage "  # noqa: S608  placeholders
        f"WHERE kind = $1 AND id = ${number + 2} ORDER BY hour DESC LIMIT 1) AS u{number}"
        for number in range(len(names))
    )
    rows = await transaction.fetch(newest, kind, *names) if names else []
    return {as_text(name): as_number(at) for name, at in rows}


async def read_failing(transaction: Transaction, since: int) -> dict[str, Failing]:
    """Return the state of each integration that was used from this hour on, by its newest row."""
    rows = await transaction.fetch(
        "SELECT id, last_at, failing_since FROM sidekey_usage AS u WHERE kind = 'integration' AND hour >= $1 "
        "AND hour = (SELECT max(hour) FROM sidekey_usage AS newest WHERE newest.kind = 'integration' "
        "AND newest.id = u.id)",
        since,
    )
    return {as_text(name): Failing(as_number(last_at), as_number(since)) for name, last_at, since in rows}


async def delete_old(transaction: Transaction) -> bool:
    """Delete some of the old rows. Return True if more may be left."""
    deleted = await transaction.execute(
        "DELETE FROM sidekey_usage WHERE (kind, id, hour) IN "
        "(SELECT kind, id, hour FROM sidekey_usage WHERE hour < $1 LIMIT $2)",
        int(await transaction.now()) // HOUR - RETENTION_HOURS,
        _MAX_DELETED,
    )
    return deleted == _MAX_DELETED
