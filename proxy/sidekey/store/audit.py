"""The audit: who did what, when, from where, with which outcome, and to which fields. It contains no values."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

from sidekey.store.canonical import canonical
from sidekey.store.database import Transaction, as_number

PAGE: Final = 50
"""Maximum number of entries in a page."""

MOST_FIELDS: Final = 100
"""Maximum number of field names in an entry."""

LONGEST_FIELD: Final = 200
"""Maximum length of a field name, because documents limit the length of no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One event.

    `who` is the name of a token, caller or command, and `action` a verb ("create", "update", ...). `kind`, `id` and
    `row` name the row that it concerns, and are empty if there is none. `fields` are the names or JSON pointers of the
    changed fields, and `source` is the address of the client. `outcome` is "ok", "failed" or "sent" for a test, a code
    of the API, or "more not listed". `at` is in seconds since the epoch, and 0 means now.
    """

    who: str
    action: str
    kind: str = ""
    id: str = ""
    row: str = ""
    fields: tuple[str, ...] = ()
    source: str = ""
    outcome: str = "ok"
    at: int = 0


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries with their numbers, newest first. `next` is the `before` of the next page, if any."""

    entries: tuple[tuple[int, AuditEntry], ...]
    next: int | None


async def add(transaction: Transaction, entry: AuditEntry, previous: tuple[int, AuditEntry] | None = None) -> int:
    """Write an entry and return its number; the transaction is the only one that writes.

    The entry replaces the `previous` one, unless another text has that number by now: a database may be restored.
    """
    text = _text_of(entry)
    if previous is not None:
        number, replaced = previous
        statement = "UPDATE sidekey_audit SET entry = $1 WHERE seq = $2 AND entry = $3"
        if await transaction.execute(statement, text, number, _text_of(replaced)):
            return number
    ((number,),) = await transaction.fetch("SELECT coalesce(max(seq), 0) + 1 FROM sidekey_audit")
    await transaction.execute(
        "INSERT INTO sidekey_audit (seq, at, kind, id, row_id, entry) VALUES ($1, $2, $3, $4, $5, $6)",
        number,
        entry.at or int(time.time()),
        entry.kind,
        entry.id,
        entry.row,
        text,
    )
    return as_number(number)


def _text_of(entry: AuditEntry) -> str:
    """Serialize the members that have no column."""
    return canonical(
        {
            "action": entry.action,
            "fields": [name[:LONGEST_FIELD] for name in entry.fields[:MOST_FIELDS]],
            "outcome": entry.outcome,
            "source": entry.source,
            "who": entry.who,
        }
    )


async def page(transaction: Transaction, *, before: int | None = None, row: str | None = None) -> AuditPage:
    """Return the entries before this number (None: the newest), of one row or of all rows."""
    newest = (1 << 62) if before is None else before
    select = "SELECT seq, at, kind, id, row_id, entry FROM sidekey_audit WHERE seq < $1"
    if row is None:
        found = await transaction.fetch(f"{select} ORDER BY seq DESC LIMIT $2", newest, PAGE + 1)
    else:
        found = await transaction.fetch(f"{select} AND row_id = $2 ORDER BY seq DESC LIMIT $3", newest, row, PAGE + 1)
    entries = tuple((number, _entry(*columns)) for number, *columns in found[:PAGE])
    return AuditPage(entries, entries[-1][0] if len(found) > PAGE else None)


async def drop(transaction: Transaction, before: int) -> int:
    """Delete the entries before this time, and return how many there were."""
    return await transaction.execute("DELETE FROM sidekey_audit WHERE at < $1", before)


def _entry(at: int, kind: str, id: str, row: str, text: str) -> AuditEntry:  # noqa: A002
    try:
        members = json.loads(text)
        return AuditEntry(
            who=members["who"],
            action=members["action"],
            kind=kind,
            id=id,
            row=row,
            fields=tuple(members["fields"]),
            source=members["source"],
            outcome=members["outcome"],
            at=at,
        )
    except (KeyError, TypeError, ValueError):
        # An entry has no MAC, so others can alter it. It keeps its place in the list.
        return AuditEntry(who="", action="altered", kind=kind, id=id, row=row, at=at)
