"""A sample of failed requests, at most one a second for each integration. Rows have no MAC: they grant nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sidekey.store.database import Transaction, as_number, as_text

PAGE: Final = 50

MAX_FAILURES: Final = 1000
"""Failures of each integration that are listed, and that maintenance keeps."""

_MAX_DELETED: Final = 5000
"""Rows that one statement deletes."""

TABLES: Final = (
    "CREATE TABLE sidekey_failures (integration TEXT NOT NULL, at BIGINT NOT NULL, who TEXT NOT NULL, "
    "preset TEXT NOT NULL, target TEXT NOT NULL, method TEXT NOT NULL, status BIGINT NOT NULL, code TEXT NOT NULL, "
    "reason TEXT NOT NULL, ms BIGINT NOT NULL, request_id TEXT NOT NULL, PRIMARY KEY (integration, at))",
    "CREATE INDEX sidekey_failures_at ON sidekey_failures (at)",
)


class Failure(NamedTuple):
    """A failed request.

    `at` is in seconds since the epoch, `who` the name of the caller or operator. `target` is the preset's URL template
    or the host, never a filled path. `code` is one of Sidekey's own, or empty for a response of the upstream.
    `reason` says why there was no credential; other reasons may name parts of the request, and are not kept.
    """

    integration: str
    at: int
    who: str
    preset: str
    target: str
    method: str
    status: int
    code: str
    reason: str
    ms: int
    request_id: str


async def add(transaction: Transaction, failures: Sequence[Failure]) -> None:
    """Add failures, unless the store already has one of the same integration and second."""
    statement = (
        "INSERT INTO sidekey_failures VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) "
        "ON CONFLICT (integration, at) DO NOTHING"
    )
    await transaction.execute_many(statement, failures)


async def page(transaction: Transaction, integration: str, before: int) -> list[Failure]:
    """Return the failures before this time, newest first, and one more than a page has if there are more."""
    rows = await transaction.fetch(
        "SELECT * FROM (SELECT * FROM sidekey_failures WHERE integration = $1 ORDER BY at DESC LIMIT $4) AS listed "
        "WHERE at < $2 ORDER BY at DESC LIMIT $3",
        integration,
        before,
        PAGE + 1,
        MAX_FAILURES,
    )
    return [_parse(*row) for row in rows]


def _parse(integration: object, at: object, *columns: object) -> Failure:
    who, preset, target, method, status, code, reason, ms, request_id = columns
    return Failure(
        as_text(integration),
        as_number(at),
        as_text(who),
        as_text(preset),
        as_text(target),
        as_text(method),
        as_number(status),
        as_text(code),
        as_text(reason),
        as_number(ms),
        as_text(request_id),
    )


async def delete_old(transaction: Transaction, history: float) -> bool:
    """Delete some of the failures that are older than `history` seconds or above the limit of an integration.

    Return True if more may be left.
    """
    deleted = await transaction.execute(
        "DELETE FROM sidekey_failures WHERE (integration, at) IN "
        "(SELECT integration, at FROM sidekey_failures WHERE at < $1 LIMIT $2)",
        int(await transaction.now() - history),
        _MAX_DELETED,
    )
    crowded = await transaction.fetch(
        "SELECT integration FROM sidekey_failures GROUP BY integration HAVING count(*) > $1 LIMIT 1", MAX_FAILURES
    )
    for (integration,) in crowded:
        await transaction.execute(
            "DELETE FROM sidekey_failures WHERE integration = $1 AND at <= (SELECT at FROM sidekey_failures "
            "WHERE integration = $1 ORDER BY at DESC LIMIT 1 OFFSET $2)",
            integration,
            MAX_FAILURES,
        )
    return deleted == _MAX_DELETED or bool(crowded)
