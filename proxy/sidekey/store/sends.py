"""Sends of presets by people, one row for each key of an identity. The rows enforce limits across processes.

A row holds no value that was sent: no parameter, no body and no filled path. Times are milliseconds by the database's
clock.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, NamedTuple

from sidekey.store import audit
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.integrity import RowAuthenticator

TABLES: Final = (
    # `attempt` names the process's attempt that made the row: only that attempt may write the result. `target` is the
    # template of the URL.
    "CREATE TABLE sidekey_sends (seq BIGINT PRIMARY KEY, identity TEXT NOT NULL, "
    '"key" TEXT NOT NULL, attempt TEXT NOT NULL, who TEXT NOT NULL, label TEXT NOT NULL, at BIGINT NOT NULL, '
    "fingerprint TEXT NOT NULL, batch TEXT NOT NULL, batch_rows BIGINT NOT NULL, integration TEXT NOT NULL, "
    "preset TEXT NOT NULL, target TEXT NOT NULL, method TEXT NOT NULL, host TEXT NOT NULL, outcome TEXT NOT NULL, "
    "status BIGINT NOT NULL, code TEXT NOT NULL, ms BIGINT NOT NULL, request_id TEXT NOT NULL, "
    'UNIQUE (identity, "key"))',
    "CREATE INDEX sidekey_sends_limit ON sidekey_sends (identity, at)",
    "CREATE INDEX sidekey_sends_person ON sidekey_sends (identity, seq)",
    "CREATE INDEX sidekey_sends_preset ON sidekey_sends (preset, seq)",
    "CREATE INDEX sidekey_sends_batch ON sidekey_sends (batch, seq) WHERE batch <> ''",
    "CREATE INDEX sidekey_sends_at ON sidekey_sends (at)",
)

SENDING: Final = "sending"
"""The outcome of a send that is under way."""

ACCEPTED: Final = "accepted"
"""The outcome of a send to which the upstream responded with 2xx."""

UNKNOWN: Final = "unknown"
"""The outcome of a send that the upstream may have received."""

OUTCOMES: Final = (ACCEPTED, "refused", "failed", "not_sent", UNKNOWN, SENDING)

PAGE: Final = 50
"""Maximum number of sends in a page."""

_MAX_READ: Final = 5_000
"""Maximum number of rows that a page reads, and that maintenance changes in one transaction."""

_ABANDONED: Final = 90_000
"""Milliseconds after which the process of an unfinished send must have died."""

_CSV_ROW_DIGITS: Final = 4
"""Maximum digits of the number of a CSV row."""

_MINUTE: Final = 60_000
_DAY: Final = 86_400_000

_INFO: Final = b"sidekey send v1"

_SELECT: Final = (
    'SELECT seq, identity, "key", attempt, who, label, at, fingerprint, batch, batch_rows, integration, preset, '
    "target, method, host, outcome, status, code, ms, request_id FROM sidekey_sends"
)
_NUMBERS: Final = frozenset({"seq", "at", "batch_rows", "status", "ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSend:
    """A send to reserve. `content` is the submitted content. The row keeps only an HMAC of it.

    `attempt` is random. `batch` is the ID of a batch, or empty: the sends of one CSV file, whose last
    row is number `batch_rows`.
    """

    identity: str
    key: str
    who: str
    label: str
    content: str = field(repr=False)
    integration: str
    preset: str
    target: str
    method: str
    host: str
    per_minute: int
    per_day: int
    batch: str = ""
    batch_rows: int = 0
    attempt: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A send. `status` is that of the upstream's response, or 0. `code` is that of Sidekey's error, or empty."""

    seq: int
    identity: str
    key: str
    attempt: str
    who: str
    label: str
    at: int
    fingerprint: str = field(repr=False)
    batch: str
    batch_rows: int
    integration: str
    preset: str
    target: str
    method: str
    host: str
    outcome: str
    status: int
    code: str
    ms: int
    request_id: str

    @property
    def csv_row(self) -> int:
        """The number of the row in the CSV file of the batch."""
        return csv_row_number(self.key)


def csv_row_number(key: str) -> int:
    """Return the number of the CSV row with which a key of a batch ends, or 0."""
    number = key.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) <= _CSV_ROW_DIGITS else 0


class Result(NamedTuple):
    """The columns that the result of a send sets."""

    outcome: str
    status: int
    code: str
    ms: int
    request_id: str


class Existing(NamedTuple):
    """The send that has a key already, and whether it has the same content."""

    send: Send
    has_same_content: bool


class Reserved(NamedTuple):
    """A send that may be sent now: its row, and its numbered audit entry, which sends of a batch do not have."""

    send: Send
    audited: tuple[int, AuditEntry] | None


class Limited(NamedTuple):
    """The limit that refuses a send, and the seconds after which to try again."""

    limit: Literal["per_minute", "per_day"]
    retry_after: int


class OtherBatch(NamedTuple):
    """The batch of a send belongs to another person, preset or file, began after this CSV row, or began a day ago."""


@dataclass(frozen=True, slots=True)
class SendPage:
    """Sends, newest first, with one for each batch. `next` is the `before` of the next page, if any."""

    sends: tuple[Send, ...]
    next: int | None


async def find_existing(
    transaction: Transaction, authenticator: RowAuthenticator, identity: str, key: str, content: str
) -> Existing | None:
    """Return the send of an identity that has this key, if any, and compare its content."""
    send = await get(transaction, identity, key)
    if send is None:
        return None
    name, _, mac = send.fingerprint.partition(":")
    return Existing(send, bool(mac) and authenticator.is_mac(name, _INFO, content, mac))


async def get(transaction: Transaction, identity: str, key: str) -> Send | None:
    """Return the send of an identity that has this key, if any."""
    rows = await transaction.fetch(f'{_SELECT} WHERE identity = $1 AND "key" = $2', identity, key)
    return _parse(rows[0], await _now(transaction)) if rows else None


async def reserve(
    transaction: Transaction, authenticator: RowAuthenticator, new: NewSend, entry: AuditEntry
) -> Reserved | Existing | Limited | OtherBatch:
    """Write the row of a send, unless its key is in use or a limit is reached. The first of a batch is audited.

    The transaction is the only one that writes, so that limits hold across processes.
    """
    existing = await find_existing(transaction, authenticator, new.identity, new.key, new.content)
    if existing is not None:
        return existing
    name, now = authenticator.ring.first, await _now(transaction)
    is_first = True
    if new.batch:
        rows = await transaction.fetch(f"{_SELECT} WHERE batch = $1 AND batch <> '' ORDER BY seq LIMIT 1", new.batch)
        is_first = not rows
        if rows and not _belongs_to_batch(_parse(rows[0], now), new, now):
            return OtherBatch()
    inserted = await transaction.execute(
        _RESERVE,
        new.identity,
        new.key,
        new.attempt,
        new.who,
        new.label,
        now,
        f"{name}:{authenticator.mac(name, _INFO, new.content)}",
        new.batch,
        new.batch_rows,
        new.integration,
        new.preset,
        new.target,
        new.method,
        new.host,
        new.per_minute,
        new.per_day,
    )
    if not inserted:
        return await _find_limit(transaction, new, now)
    send = await get(transaction, new.identity, new.key)
    assert send is not None  # noqa: S101  for mypy: it was just inserted
    audited = (await audit.add(transaction, entry), entry) if is_first else None
    return Reserved(send, None if new.batch else audited)


def _belongs_to_batch(first: Send, new: NewSend, now: int) -> bool:
    """Return True if a send belongs to the batch that began with `first`, whose audit entry then covers it."""
    is_same_file = (first.identity, first.preset, first.batch_rows) == (new.identity, new.preset, new.batch_rows)
    return is_same_file and first.csv_row <= csv_row_number(new.key) and now - first.at < _DAY


_RESERVE: Final = """
INSERT INTO sidekey_sends SELECT (SELECT coalesce(max(seq), 0) + 1 FROM sidekey_sends),
  CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT),
  CAST($7 AS TEXT), CAST($8 AS TEXT), CAST($9 AS BIGINT), CAST($10 AS TEXT), CAST($11 AS TEXT), CAST($12 AS TEXT),
  CAST($13 AS TEXT), CAST($14 AS TEXT), 'sending', 0, '', 0, ''
WHERE (SELECT count(*) FROM sidekey_sends
       WHERE identity = CAST($1 AS TEXT) AND at > CAST($6 AS BIGINT) - 60000) < CAST($15 AS BIGINT)
  AND (SELECT count(*) FROM sidekey_sends
       WHERE identity = CAST($1 AS TEXT) AND at > CAST($6 AS BIGINT) - 86400000) < CAST($16 AS BIGINT)
ON CONFLICT (identity, "key") DO NOTHING
"""


async def _find_limit(transaction: Transaction, new: NewSend, now: int) -> Limited:
    """Return the limit that refuses a send, and when the oldest row that counts against it is old enough."""
    # The day first: its wait is the longer one if both limits are reached.
    if (at := await _oldest_counted(transaction, new.identity, now - _DAY, new.per_day)) is not None:
        return Limited("per_day", _whole_seconds(at + _DAY - now))
    at = await _oldest_counted(transaction, new.identity, now - _MINUTE, new.per_minute)
    return Limited("per_minute", _whole_seconds((now if at is None else at) + _MINUTE - now))


async def _oldest_counted(transaction: Transaction, identity: str, since: int, limit: int) -> int | None:
    """Return the time of the oldest row that uses up a limit, or None if the limit is not reached."""
    statement = "SELECT at FROM sidekey_sends WHERE identity = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3"
    rows = await transaction.fetch(statement, identity, since, limit - 1)
    return as_number(rows[0][0]) if rows else None


def _whole_seconds(milliseconds: int) -> int:
    return max(1, -(-milliseconds // 1000))


async def record(
    transaction: Transaction, new: NewSend, result: Result, audited: tuple[int, AuditEntry] | None
) -> None:
    """Write the result of an attempt and the outcome of its audit entry, unless the attempt has a result already."""
    statement = (
        "UPDATE sidekey_sends SET outcome = $4, status = $5, code = $6, ms = $7, request_id = $8 "
        "WHERE identity = $1 AND \"key\" = $2 AND attempt = $3 AND outcome = 'sending'"
    )
    changed = await transaction.execute(statement, new.identity, new.key, new.attempt, *result)
    if changed and audited is not None:
        outcome = {ACCEPTED: "ok", UNKNOWN: UNKNOWN}.get(result.outcome, "failed")
        await audit.add(transaction, replace(audited[1], outcome=outcome), audited)


async def page(
    transaction: Transaction, *, identity: str = "", preset: str = "", who: str = "", before: int | None = None
) -> SendPage:
    """Return the sends that match all of identity, preset and name of the person. An empty value matches every send.

    A page reads a bounded number of rows, so it may be empty and still have a next page.
    """
    key, value = ("identity", identity) if identity else ("preset", preset)
    values: list[str | int | None] = [(1 << 62) if before is None else before, *([value] if value else [])]
    selected = f"{_SELECT} WHERE seq < $1 {f'AND {key} = $2' if value else ''}"
    recent = f"{selected} ORDER BY seq DESC LIMIT {_MAX_READ}"
    bounds = f"SELECT count(*), min(seq) FROM ({recent}) AS recent"  # noqa: S608  of constants
    ((count, last),) = await transaction.fetch(bounds, *values)
    conditions = ""
    for column, text in (("preset", preset), ("who", who)):
        if text:
            values.append(text)
            conditions += f"{column} = ${len(values)} AND "
    # A batch is shown by its newest row.
    newest = "SELECT max(newest.seq) FROM sidekey_sends AS newest WHERE newest.batch = recent.batch AND batch <> ''"
    shown = f"{conditions}(batch = '' OR seq = ({newest})) ORDER BY seq DESC LIMIT {PAGE + 1}"
    rows = await transaction.fetch(f"SELECT * FROM ({recent}) AS recent WHERE {shown}", *values)  # noqa: S608  as above
    now = await _now(transaction)
    sends = tuple(_parse(row, now) for row in rows[:PAGE])
    if len(rows) > PAGE:
        return SendPage(sends, sends[-1].seq)
    return SendPage(sends, as_number(last) if count == _MAX_READ else None)


async def get_batch(transaction: Transaction, batch: str) -> tuple[Send, ...]:
    """Return the sends of a batch, in the order in which they were reserved."""
    rows = await transaction.fetch(f"{_SELECT} WHERE batch = $1 AND batch <> '' ORDER BY seq", batch)
    now = await _now(transaction)
    return tuple(_parse(row, now) for row in rows)


async def delete_old(transaction: Transaction, history: float) -> bool:
    """Delete some of the sends older than `history` seconds, and the fingerprints of sends older than a day.

    Return True if more may be left.
    """
    now = await _now(transaction)
    deleted = await transaction.execute(
        "DELETE FROM sidekey_sends WHERE seq IN (SELECT seq FROM sidekey_sends WHERE at < $1 LIMIT $2)",
        now - int(history * 1000),
        _MAX_READ,
    )
    forgotten = await transaction.execute(
        "UPDATE sidekey_sends SET fingerprint = '' WHERE seq IN "
        "(SELECT seq FROM sidekey_sends WHERE at < $1 AND fingerprint <> '' LIMIT $2)",
        now - _DAY,
        _MAX_READ,
    )
    return _MAX_READ in (deleted, forgotten)


async def _now(transaction: Transaction) -> int:
    return int(await transaction.now() * 1000)


def _parse(row: tuple[Any, ...], now: int) -> Send:
    names = (column.name for column in fields(Send))
    columns: dict[str, Any] = {
        name: as_number(value) if name in _NUMBERS else as_text(value) for name, value in zip(names, row, strict=True)
    }
    send = Send(**columns)
    abandoned = send.outcome == SENDING and now - send.at > _ABANDONED
    return replace(send, outcome=UNKNOWN) if abandoned or send.outcome not in OUTCOMES else send
