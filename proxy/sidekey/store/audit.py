"""The audit: who did what, when, from where and with which outcome; which fields, and never a value."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

from sidekey.store.canonical import canonical
from sidekey.store.database import Transaction, as_number

PAGE: Final = 50
"""Entries of a page, where nothing else is asked for."""

MOST_FIELDS: Final = 100
"""Names of fields that an entry has at most."""

LONGEST_FIELD: Final = 200
"""Characters of such a name: keys of documents may be as long as whoever writes them likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One event.

    `who` is the name of a token, caller or command, `action` what they did ("create", "update", ...), `kind`, `id` and
    `row` what they did it to (empty: nothing that has a row), `fields` the names or JSON pointers of what was changed,
    `source` the address they came from, `outcome` "ok", "failed" or "sent" of a test, a code of the API, or "more not
    listed". `at` is in seconds since the epoch, 0 means now.
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
    """Entries from the newest to the oldest with their numbers; `next` is the `before` of the next page, if any."""

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
    """Serialize what has no column of its own."""
    return canonical(
        {
            "action": entry.action,
            "fields": [name[:LONGEST_FIELD] for name in entry.fields[:MOST_FIELDS]],
            "outcome": entry.outcome,
            "source": entry.source,
            "who": entry.who,
        }
    )


async def page(
    transaction: Transaction, *, before: int | None = None, row: str | None = None, limit: int = PAGE
) -> AuditPage:
    """The entries before the one of that number (None: from the newest on), of one row or of all."""
    newest = (1 << 62) if before is None else before
    columns = "SELECT seq, at, kind, id, row_id, entry FROM sidekey_audit WHERE seq < $1"
    if row is None:
        found = await transaction.fetch(f"{columns} ORDER BY seq DESC LIMIT $2", newest, limit + 1)
    else:
        found = await transaction.fetch(f"{columns} AND row_id = $2 ORDER BY seq DESC LIMIT $3", newest, row, limit + 1)
    entries = tuple((each[0], _entry(*each[1:])) for each in found[:limit])
    return AuditPage(entries, entries[-1][0] if len(found) > limit else None)


async def drop(transaction: Transaction, before: int) -> int:
    """Drop what is older than this moment; how many entries."""
    return await transaction.execute("DELETE FROM sidekey_audit WHERE at < $1", before)


def _entry(at: int, kind: str, id: str, row: str, text: str) -> AuditEntry:  # noqa: A002
    try:
        said = json.loads(text)
        return AuditEntry(
            who=said["who"],
            action=said["action"],
            kind=kind,
            id=id,
            row=row,
            fields=tuple(said["fields"]),
            source=said["source"],
            outcome=said["outcome"],
            at=at,
        )
    except (KeyError, TypeError, ValueError):
        # Nothing vouches for an entry. One that is not ours any more keeps its place.
        return AuditEntry(who="", action="altered", kind=kind, id=id, row=row, at=at)
