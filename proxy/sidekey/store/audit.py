"""The audit: who did what, when, from where, with which outcome, and to which fields. It contains no values."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sidekey.store.canonical_json import canonical
from sidekey.store.database import Transaction, as_number

PAGE: Final = 50
"""Maximum number of entries in a page."""

MAX_FIELDS: Final = 100
"""Maximum number of field names in an entry."""

MAX_FIELD_LENGTH: Final = 200
"""Maximum length of a field name, because documents limit the length of no key."""

WINDOW: Final = 5000
"""Maximum number of entries that one search reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One event.

    `who` is the name of an operator, caller or command, and `action` a verb ("create", "update", ...). `label` is the
    name of a person at the OIDC issuer: users choose it, so nothing may compare it. `kind`, `id` and
    `row_id` name the row that the entry concerns, and are empty if there is none. `fields` are the names or JSON
    pointers of the changed fields, and `source` is the address of the client. `outcome` is "ok", "failed" or "sent" for
    a test or a send, a code of the API, or "more not listed". `at` is in seconds since the epoch, and 0 means now.
    """

    who: str
    action: str
    kind: str = ""
    id: str = ""
    row_id: str = ""
    fields: tuple[str, ...] = ()
    source: str = ""
    outcome: str = "ok"
    at: int = 0
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Restricts a search to entries with these values. An empty value matches every entry.

    The entry contains each word of `q`, and its `who` or `label` contains `who`, in any case. `kind` and `id` match
    whole.
    """

    q: str = ""
    who: str = ""
    kind: str = ""
    id: str = ""


MATCH_ALL: Final = AuditFilter()
"""The filter that matches every entry."""


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries with their numbers, newest first. `next` is the `before` of the next page, if any.

    A page of a search may be empty and have a `next`: then older entries were not searched yet.
    """

    entries: tuple[tuple[int, AuditEntry], ...]
    next: int | None


async def add(transaction: Transaction, entry: AuditEntry, previous: tuple[int, AuditEntry] | None = None) -> int:
    """Write an entry and return its number. The transaction must be the only one that writes.

    The entry replaces action, outcome, source and fields of the `previous` one of the same operator, unless another
    entry has its number now, as after a restore of the database.
    """
    text = _serialize(entry)
    if previous is not None:
        number, previous_entry = previous
        statement = "UPDATE sidekey_audit SET entry = $1 WHERE seq = $2 AND who = $3 AND entry = $4"
        if await transaction.execute(statement, text, number, previous_entry.who, _serialize(previous_entry)):
            return number
    ((number,),) = await transaction.fetch("SELECT coalesce(max(seq), 0) + 1 FROM sidekey_audit")
    await transaction.execute(
        "INSERT INTO sidekey_audit (seq, at, kind, id, row_id, who, label, entry) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        number,
        entry.at or int(time.time()),
        entry.kind,
        entry.id,
        entry.row_id,
        entry.who,
        entry.label,
        text,
    )
    return as_number(number)


def _serialize(entry: AuditEntry) -> str:
    """Serialize the members that have no column, as an array, so that a search does not find their names."""
    fields = [name[:MAX_FIELD_LENGTH] for name in entry.fields[:MAX_FIELDS]]
    return canonical([entry.action, entry.outcome, entry.source, fields])


_COLUMNS: Final = "seq, at, kind, id, row_id, who, label, entry"


async def page(
    transaction: Transaction,
    *,
    before: int | None = None,
    row_id: str | None = None,
    audit_filter: AuditFilter = MATCH_ALL,
) -> AuditPage:
    """Return entries before this number (None: the newest): of one row, or matching ones of `WINDOW`."""
    newest = (1 << 62) if before is None else before
    if row_id is not None:
        select = f"SELECT {_COLUMNS} FROM sidekey_audit WHERE seq < $1 AND row_id = $2 ORDER BY seq DESC LIMIT $3"  # noqa: S608
        return _parse_page(await transaction.fetch(select, newest, row_id, PAGE + 1))
    words = audit_filter.q.split()
    text = "lower(who || ' ' || label || ' ' || kind || ' ' || id || ' ' || entry)"
    contains = "".join(f"AND {text} LIKE CAST(${index} AS TEXT) ESCAPE '\\' " for index in range(5, 5 + len(words)))
    rows = await transaction.fetch(
        f"SELECT {_COLUMNS} FROM (SELECT * FROM sidekey_audit WHERE seq < $1 ORDER BY seq DESC LIMIT {WINDOW}) "  # noqa: S608
        "AS recent WHERE lower(who || ' ' || label) LIKE CAST($2 AS TEXT) ESCAPE '\\' "
        "AND (CAST($3 AS TEXT) = '' OR kind = CAST($3 AS TEXT)) AND (CAST($4 AS TEXT) = '' OR id = CAST($4 AS TEXT)) "
        f"{contains}ORDER BY seq DESC LIMIT {PAGE + 1}",
        newest,
        _pattern(audit_filter.who),
        audit_filter.kind,
        audit_filter.id,
        *map(_pattern, words),
    )
    if len(rows) > PAGE:
        return _parse_page(rows)
    # The newest entry below the window, if there is one.
    ((next_number,),) = await transaction.fetch(
        "SELECT max(seq) FROM sidekey_audit WHERE seq < "
        "(SELECT seq FROM sidekey_audit WHERE seq < $1 ORDER BY seq DESC LIMIT 1 OFFSET $2)",
        newest,
        WINDOW - 1,
    )
    return AuditPage(_parse_page(rows).entries, None if next_number is None else as_number(next_number) + 1)


def _pattern(text: str) -> str:
    """Build the LIKE pattern for 'contains this text'. The database may fold the case of ASCII letters only."""
    escaped = text.lower().replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _parse_page(rows: Sequence[tuple[Any, ...]]) -> AuditPage:
    entries = tuple((number, _parse_entry(*columns)) for number, *columns in rows[:PAGE])
    return AuditPage(entries, entries[-1][0] if len(rows) > PAGE else None)


async def delete_old(transaction: Transaction, before: int) -> int:
    """Delete the entries before this time, and return how many there were."""
    return await transaction.execute("DELETE FROM sidekey_audit WHERE at < $1", before)


def _parse_entry(at: int, *texts: str) -> AuditEntry:
    kind, id, row_id, who, label, text = texts  # noqa: A001
    entry = AuditEntry(who=who, label=label, action="altered", kind=kind, id=id, row_id=row_id, at=at)
    try:
        action, outcome, source, fields = json.loads(text)
        return replace(entry, action=action, outcome=outcome, source=source, fields=tuple(fields))
    except (TypeError, ValueError):
        # An entry has no MAC, so others can alter it. The page still lists it.
        return entry
