"""What operators do to a whole store: verify it, accept it as it is, and write it with another key.

`DestinationsOf` says for which destinations an integration's secrets may have been entered, made of the settings that
its document means. It raises ValueError where the document means nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sidekey.store import audit, leases, sessions
from sidekey.store.audit import AuditEntry
from sidekey.store.canonical import Json
from sidekey.store.database import Transaction, as_text, shown
from sidekey.store.integrity import Held, Seals, digest
from sidekey.store.keeper import Keeper, put_head, put_row, read_head
from sidekey.store.records import IntegrationRow, Record, SealedField
from sidekey.store.sealing import VERSION, Binding, NotOpened, open_sealed, seal
from sidekey.store.state import State

DestinationsOf = Callable[[IntegrationRow], Sequence[Json]]

BATCH: Final = 50
"""Rows that are written again in one transaction: others write in between."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many rows were written again, and what could not be: then the former keys are still needed."""

    rows: int
    stuck: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What counts from now on: how many rows of each kind, and what of them cannot be used."""

    revision: int
    counts: Mapping[str, int]
    altered: tuple[str, ...]
    leases: tuple[str, ...]
    """Those that were altered, and are gone: their refresh tokens may be spent."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the store is written with, how many rows of each kind there are, and all that is wrong."""

    revision: int
    counts: Mapping[str, int]
    keys: tuple[str, ...]
    findings: tuple[str, ...]


async def rotate(keeper: Keeper, destinations_of: DestinationsOf, who: str) -> Rotated:
    """Write with the first key of the ring whatever is written with another; a version does not change by that.

    Every step is a transaction of its own, and what is left to do is asked of the store each time: who is interrupted
    begins again. Raises StoreUnavailable, StoreRefused.
    """
    done = 0
    stuck: dict[str, tuple[str, ...]] = {}
    while True:
        async with keeper.writing() as (transaction, before):
            first = keeper.seals.ring.first
            due = [row for row, held in before.rows.items() if row not in stuck and _names_another(held, first)]
            written = dict(before.rows)
            for row in due[:BATCH]:
                held = before.rows[row]
                record, problems = _resealed(held, keeper.seals, destinations_of)
                if record is None:
                    stuck[row] = problems
                    continue
                line = keeper.seals.line(record)
                await put_row(transaction, line, record.body(), before.revision + 1, record.version)
                written[row] = Held(line, line.text(), record)
                done += 1
            if not due:
                found = [text for texts in stuck.values() for text in texts]
                found += _altered_leases(await leases.seal_again(transaction, keeper.seals))
                await sessions.sign_again(transaction, keeper.seals)
                if not found:
                    await transaction.execute('DELETE FROM sidekey_keys WHERE "key" <> $1', first)
                outcome = "stuck" if found else "ok"
                await audit.add(transaction, AuditEntry(who=who, action="rotate-key", id=first, outcome=outcome))
            after = await keeper.vouch(transaction, before, written)
        keeper.adopt(after)
        if not due:
            return Rotated(done, tuple(found))


async def accept(keeper: Keeper, who: str) -> Accepted:
    """Let what is in the database count, whatever is gone or older. Raises StoreUnavailable, StoreRefused."""
    async with keeper.writing(disbelieved=True) as (transaction, _):
        seals = keeper.seals
        former = await read_head(transaction)
        believed = former is not None and seals.vouches(former)
        epoch = time.time_ns() // 1_000_000
        revision = 1
        if former is not None and believed:
            epoch, revision = max(epoch, former.epoch + 1), former.revision + 1
        rows = await keeper.every_row(transaction)
        # Where the head is not believed its revision begins again, and those above it would be read at each change.
        await transaction.execute("UPDATE sidekey_rows SET revision = $1", revision)
        head = seals.head(epoch, revision, digest(each.text for each in rows.values()))
        await keeper.note_key(transaction)
        await put_head(transaction, head)
        dropped = await leases.disown(transaction, seals)
        await sessions.end_all(transaction)
        await audit.add(transaction, AuditEntry(who=who, action="accept"))
        await transaction.announce()
    state = keeper.adopt(State.of(head, rows))
    return Accepted(revision, _counts(state), tuple(_altered(state)), tuple(map(shown, dropped)))


async def verify(keeper: Keeper, destinations_of: DestinationsOf) -> Verified:
    """Read all of it, and say what is wrong. Raises StoreUnavailable, StoreRefused."""
    state = await keeper.read("bodies")
    findings = [text for text in (await keeper.damaged(), state.problem) if text]
    findings += _altered(state)
    for held in state.rows.values():
        if isinstance(held.record, IntegrationRow) and held.intact:
            findings += _resealed(held, keeper.seals, destinations_of)[1]
    altered, keys = await keeper.query(lambda transaction: _outside(transaction, keeper.seals))
    findings += _altered_leases(altered)
    return Verified(state.revision, _counts(state), keys, tuple(findings))


async def _outside(transaction: Transaction, seals: Seals) -> tuple[list[str], tuple[str, ...]]:
    found = await transaction.fetch('SELECT "key" FROM sidekey_keys ORDER BY "key"')
    return await leases.altered(transaction, seals), tuple(shown(as_text(key)) for (key,) in found)


def _names_another(held: Held, first: str) -> bool:
    """Whether a row was written with another key, or has a value that was; an altered one may."""
    if not held.intact or held.line.key != first:
        return True
    return isinstance(held.record, IntegrationRow) and any(
        not each.sealed.startswith(f"{VERSION}:{first}:") for each in held.record.secrets.values()
    )


def _resealed(held: Held, seals: Seals, destinations_of: DestinationsOf) -> tuple[Record | None, tuple[str, ...]]:
    """The record with its secrets sealed by the first key, or why that cannot be."""
    record, line = held.record, held.line
    if record is None or not held.intact:
        return None, (_of_altered(line.kind, line.id),)
    if not isinstance(record, IntegrationRow) or not record.secrets:
        return record, ()
    try:
        destinations = destinations_of(record)
    except ValueError as error:
        return None, (f"{line.kind} {line.id}: {error}",)
    problems = []
    secrets: dict[str, SealedField] = {}
    for pointer, each in record.secrets.items():
        bindings = [Binding(seals.store, record.row, record.id, pointer, to) for to in destinations]
        found = _sealed_again(each.sealed, bindings, seals)
        if isinstance(found, NotOpened):
            problems.append(f"{line.kind} {line.id}: {pointer} does not open: {found}")
        else:
            secrets[pointer] = replace(each, sealed=found)
    return (None, tuple(problems)) if problems else (replace(record, secrets=secrets), ())


def _sealed_again(sealed: str, bindings: Sequence[Binding], seals: Seals) -> str | NotOpened:
    """A value sealed by the first key, bound to what it was bound to; or why the first binding does not open it."""
    refused: NotOpened | None = None
    for binding in bindings:
        try:
            return seal(seals.ring, open_sealed(seals.ring, sealed, binding), binding)
        except NotOpened as error:
            refused = refused or error
    return refused or NotOpened("it may go nowhere")


def _altered(state: State) -> list[str]:
    return [_of_altered(kind, name) for kind, name in sorted(state.altered)]


def _of_altered(kind: str, name: str) -> str:
    return f"{shown(kind)} {shown(name)}: it was altered: write it again, or delete it"


def _altered_leases(names: list[str]) -> list[str]:
    return [f"lease {shown(name)}: it was altered: enter the refresh token again" for name in names]


def _counts(state: State) -> dict[str, int]:
    return {
        "integrations": len(state.integrations),
        "presets": len(state.presets),
        "callers": len(state.callers),
        "tokens": len(state.tokens),
    }
