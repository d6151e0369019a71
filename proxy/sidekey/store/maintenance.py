"""Verify a whole store, and write it with another key.

`PurposeOf` returns what an integration's secrets may be used for, by the settings in its document. It raises ValueError
if the document is not valid any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sidekey.store import audit, leases, sessions
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Transaction, as_text, shown
from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, VerifiedRow
from sidekey.store.records import IntegrationRow, Record, SealedField
from sidekey.store.repository import RowRepository, put_row
from sidekey.store.sealing import VERSION, Binding, NotOpened, Purpose, open_sealed, seal
from sidekey.store.state import Name, State

PurposeOf = Callable[[IntegrationRow], Purpose]

BATCH: Final = 50
"""Rows that are written again in one transaction: others write in between."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many rows were written again, and why others could not be: then the former keys are still needed."""

    rows: int
    stuck: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The keys that the store is written with, how many rows of each kind there are, and everything that is wrong."""

    revision: int
    counts: Mapping[str, int]
    keys: tuple[str, ...]
    findings: tuple[str, ...]


async def rotate(keeper: RowRepository, purpose_of: PurposeOf, who: str) -> Rotated:
    """Write with the first key of the ring what is written with another one, tombstones too; versions stay.

    Every step is a transaction of its own, and reads again what is left to do: an interrupted rotation can be started
    again. Raises StoreUnavailable, StoreRefused.
    """
    done = 0
    stuck: dict[Name, tuple[str, ...]] = {}
    while True:
        async with keeper.writing() as (transaction, before):
            first = keeper.seals.ring.first
            due = [name for name, held in before.rows.items() if name not in stuck and _names_another(held, first)]
            written = dict(before.rows)
            for name in due[:BATCH]:
                held = before.rows[name]
                record: Record | None = None
                body = TOMBSTONE
                if not held.deleted:
                    record, problems = _resealed(held, keeper.seals, purpose_of)
                    if record is None:
                        stuck[name] = problems
                        continue
                    body = record.body()
                line = keeper.seals.line(name, held.line.row, held.line.version, before.revision + 1, body)
                await put_row(transaction, line, body, line.version)
                written[name] = VerifiedRow(line, record)
                done += 1
            if not due:
                found = [text for texts in stuck.values() for text in texts]
                found += [
                    f"lease {shown(name)}: it was altered, and is gone: enter the refresh token again"
                    for name in await leases.seal_again(transaction, keeper.seals)
                ]
                await sessions.sign_again(transaction, keeper.seals)
                if not found:
                    await transaction.execute('DELETE FROM sidekey_keys WHERE "key" <> $1', first)
                outcome = "stuck" if found else "ok"
                await audit.add(transaction, AuditEntry(who=who, action="rotate-key", id=first, outcome=outcome))
            after = await keeper.complete(transaction, before, written)
        keeper.adopt(after)
        if not due:
            return Rotated(done, tuple(found))


async def verify(keeper: RowRepository, purpose_of: PurposeOf) -> Verified:
    """Read everything, and list what is wrong. Raises StoreUnavailable, StoreRefused."""
    state = await keeper.read(whole=True)
    damaged = await keeper.damaged()
    findings = [damaged] if damaged else []
    findings += [_of_altered(*name) for name in sorted(state.altered)]
    for held in state.rows.values():
        if isinstance(held.record, IntegrationRow) and held.verified:
            findings += _resealed(held, keeper.seals, purpose_of)[1]
    altered, keys = await keeper.query(lambda transaction: _read_others(transaction, keeper.seals))
    findings += [
        f"lease {shown(name)}: it was altered: run sidekey store rotate-key, and enter the refresh token again"
        for name in altered
    ]
    return Verified(state.revision, _counts(state), keys, tuple(findings))


async def _read_others(transaction: Transaction, seals: RowAuthenticator) -> tuple[list[str], tuple[str, ...]]:
    """Read the names of altered leases, and the keys that the store is written with."""
    found = await transaction.fetch('SELECT "key" FROM sidekey_keys ORDER BY "key"')
    return await leases.altered(transaction, seals), tuple(shown(as_text(key)) for (key,) in found)


def _names_another(held: VerifiedRow, first: str) -> bool:
    """Return True if a row or one of its values was written with another key; an unverified row may be."""
    if not held.verified or held.line.key != first:
        return True
    return isinstance(held.record, IntegrationRow) and any(
        not each.sealed.startswith(f"{VERSION}:{first}:") for each in held.record.secrets.values()
    )


def _resealed(
    held: VerifiedRow, seals: RowAuthenticator, purpose_of: PurposeOf
) -> tuple[Record | None, tuple[str, ...]]:
    """Return the record with its secrets sealed by the first key, or None and why that is not possible."""
    record, line = held.record, held.line
    if record is None or not held.verified:
        return None, (_of_altered(*line.name),)
    if not isinstance(record, IntegrationRow) or not record.secrets:
        return record, ()
    try:
        purpose = purpose_of(record)
    except ValueError as error:
        return None, (f"{line.kind} {line.id}: {error}",)
    problems = []
    secrets: dict[str, SealedField] = {}
    for secret, each in record.secrets.items():
        found = _sealed_again(each.sealed, purpose.bindings(seals.store, record.row, record.id, secret), seals)
        if isinstance(found, NotOpened):
            problems.append(f"{line.kind} {line.id}: secret {secret} does not open: {found}")
        else:
            secrets[secret] = replace(each, sealed=found)
    return (None, tuple(problems)) if problems else (replace(record, secrets=secrets), ())


def _sealed_again(sealed: str, bindings: Sequence[Binding], seals: RowAuthenticator) -> str | NotOpened:
    """A value sealed by the first key, bound to what it was bound to; or why the first binding does not open it."""
    refused: NotOpened | None = None
    for binding in bindings:
        try:
            return seal(seals.ring, open_sealed(seals.ring, sealed, binding), binding)
        except NotOpened as error:
            refused = refused or error
    return refused or NotOpened("it may go nowhere")


def _of_altered(kind: str, name: str) -> str:
    return f"{shown(kind)} {shown(name)}: it was altered: write it again, or delete it"


def _counts(state: State) -> dict[str, int]:
    return {
        "integrations": len(state.integrations),
        "presets": len(state.presets),
        "callers": len(state.callers),
        "tokens": len(state.tokens),
    }
