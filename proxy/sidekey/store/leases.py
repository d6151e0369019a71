"""Leases: one process at a time renews a token that only one may renew, and the others take what it got.

A token that rotates is spent by the call that presents it. So that it is never presented twice, the holder commits its
intent before the call: if it dies then, nobody knows whether the token was spent, and it is presented no more until
another is entered, which is another lineage.

```text
             lease                 intend                  finish, release
   free ───────────────► held ───────────────► intended ───────────────────► free
                          │ finish, release       │ its time is over
                          ▼                       ▼
                         free                  unknown: stays so until the lineage is another
```

Whoever takes a lease gets the next fencing number, and what an earlier holder still tries is refused. Each lineage has
a lease of its own, which stays when another token is entered: processes read a changed file at different moments, and
while some still have the former token, none of the two may be presented again from its beginning.

Leases are outside the head. Each has an HMAC; results and lineages are sealed, since a lineage may be made of secrets,
and a lease is found by an HMAC of its lineage.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from sidekey.store.canonical import canonical
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.errors import StoreError
from sidekey.store.integrity import Seals
from sidekey.store.sealing import Binding, NotOpened, open_sealed, seal

_INFO: Final = b"sidekey lease v1"
_CHAIN: Final = b"sidekey lineage v1"
_LINEAGE: Final = "lineage"
_RESULT: Final = "result"
_SELECT: Final = 'SELECT name, chain, fence, until, stage, rotates, lineage, result, "key", mac FROM sidekey_leases'

Stage = Literal["free", "held", "intended"]


class LeaseLost(StoreError):
    """Another process has taken the lease, or it is gone: nothing may be done by it any more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds until its time is over.

    `name` says whose: the row of a stored integration, or another word for one of a file. `lineage` says whose token it
    is and where it goes; whatever makes the token another one must make it another lineage. `result` is what the last
    holder left, in its own words; None: nothing of this lineage.
    """

    name: str
    lineage: str = field(repr=False)
    fence: int
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotLeased:
    """The lease is another's, `until` in seconds since the epoch of the database; or the token is `unknown`.

    `result` is what the last holder left, which may have been used before, and may be used by others as well.
    """

    unknown: bool
    until: int
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """A lease as it is stored. `chain` is the HMAC of its lineage, by the key of the row.

    `lineage` and `result` are sealed; empty: there is none.
    """

    name: str
    chain: str = ""
    fence: int = 0
    until: int = 0
    stage: str = "free"
    rotates: int = 0
    lineage: str = ""
    result: str = ""
    key: str = ""
    mac: str = ""

    @classmethod
    def read(cls, columns: tuple[Any, ...]) -> _Row:
        """Of the columns of a lease."""
        name, chain, fence, until, stage, rotates, *texts = columns
        return cls(
            as_text(name),
            as_text(chain),
            as_number(fence),
            as_number(until),
            as_text(stage),
            as_number(rotates),
            *map(as_text, texts),
        )

    def text(self, key: str) -> str:
        """What its MAC is made of."""
        columns = (self.name, self.chain, self.fence, self.until, self.stage, self.rotates, self.lineage, self.result)
        return canonical([*columns, key])


async def take(transaction: Transaction, seals: Seals, name: str, lineage: str, seconds: int) -> Lease | NotLeased:
    """Take the lease for so long, where nobody holds it."""
    row = await _find(transaction, seals, name, lineage)
    now = await transaction.now()
    if row is None:
        row, result = _Row(name), None
    else:
        intact = _is_intact(seals, row)
        result = _result(seals, row, lineage) if intact else None
        unknown = not intact or (row.stage == "intended" and row.until <= now)
        if unknown or (row.stage != "free" and row.until > now):
            return NotLeased(unknown, row.until, result)
    fence = row.fence + 1
    await _put(transaction, seals, replace(row, fence=fence, until=now + seconds, stage="held"), lineage)
    return Lease(name, lineage, fence, result)


async def intend(transaction: Transaction, seals: Seals, lease: Lease, seconds: int) -> None:
    """Note that its token is going to be presented, within so long; 0: it may be spent. Raises LeaseLost."""
    row = await _mine(transaction, seals, lease)
    until = await transaction.now() + seconds
    await _put(transaction, seals, replace(row, stage="intended", rotates=1, until=until), lease.lineage)


async def finish(transaction: Transaction, seals: Seals, lease: Lease, result: str) -> None:
    """Leave what the call gave, for all, and give the lease back. Raises LeaseLost.

    Also after its time: where nobody knew what had become of the token, they do now.
    """
    row = await _mine(transaction, seals, lease)
    await _put(transaction, seals, replace(row, stage="free", until=0), lease.lineage, result)


async def release(transaction: Transaction, seals: Seals, lease: Lease) -> None:
    """Give the lease back, where its token was certainly not spent. Raises LeaseLost."""
    row = await _mine(transaction, seals, lease)
    await _put(transaction, seals, replace(row, stage="free", until=0), lease.lineage)


async def read(transaction: Transaction, seals: Seals, name: str, lineage: str) -> str | None:
    """What the last holder left; None: nothing of this lineage."""
    row = await _find(transaction, seals, name, lineage)
    if row is None or not _is_intact(seals, row):
        return None
    return _result(seals, row, lineage)


async def disown(transaction: Transaction, seals: Seals) -> list[str]:
    """Make unknown what may be spent, since the database may be an older one. The names of what is altered: it goes."""
    dropped = []
    async for row in _all(transaction):
        lineage = _lineage(seals, row)
        if lineage is None:
            await _delete(transaction, row)
            dropped.append(row.name)
        elif row.rotates:
            await _put(transaction, seals, replace(row, fence=row.fence + 1, stage="intended", until=0), lineage)
    return dropped


async def seal_again(transaction: Transaction, seals: Seals) -> list[str]:
    """Seal by the first key what is sealed by another. The names of those that were altered, and stay as they are."""
    stuck = []
    async for row in _all(transaction):
        if row.key == seals.ring.first:
            continue
        lineage = _lineage(seals, row)
        if lineage is None:
            stuck.append(row.name)
        else:
            await _put(transaction, seals, row, lineage)
    return stuck


async def altered(transaction: Transaction, seals: Seals) -> list[str]:
    """The names of those that do not bear their MAC."""
    return [row.name async for row in _all(transaction) if _lineage(seals, row) is None]


async def _find(transaction: Transaction, seals: Seals, name: str, lineage: str) -> _Row | None:
    """The lease of a lineage, or one of its name that may be: this ring lacks the key that it goes by."""
    rows = [_Row.read(each) for each in await transaction.fetch(f"{_SELECT} WHERE name = $1", name)]
    chains = {_chain(seals, key, name, lineage) for key in seals.ring.ids} if rows else frozenset()
    unknown = (row for row in rows if row.key not in seals.ring)
    return next((row for row in rows if row.chain in chains), next(unknown, None))


async def _delete(transaction: Transaction, row: _Row) -> None:
    await transaction.execute("DELETE FROM sidekey_leases WHERE name = $1 AND chain = $2", row.name, row.chain)


async def _all(transaction: Transaction) -> AsyncIterator[_Row]:
    for each in await transaction.fetch(_SELECT):
        yield _Row.read(each)


async def _mine(transaction: Transaction, seals: Seals, lease: Lease) -> _Row:
    row = await _find(transaction, seals, lease.name, lease.lineage)
    if row is None or row.fence != lease.fence or row.stage == "free" or not _is_intact(seals, row):
        raise LeaseLost(f"the lease of {lease.name} is another's")
    return row


async def _put(transaction: Transaction, seals: Seals, row: _Row, lineage: str, result: str | None = None) -> None:
    """Write a row by the first key, all of it: with this result, or else with the one it had."""
    first = seals.ring.first
    if row.key != first:
        # It goes by an HMAC of the first key from now on; whoever has that key looks for both.
        await _delete(transaction, row)
        result = _result(seals, row, lineage) if result is None else result
        row = replace(
            row, chain=_chain(seals, first, row.name, lineage), lineage=_sealed_lineage(seals, row.name, lineage)
        )
    if result is not None:
        row = replace(row, result=_sealed_result(seals, row.name, lineage, result))
    values = (row.fence, row.until, row.stage, row.rotates, row.lineage, row.result)
    await transaction.execute(
        'INSERT INTO sidekey_leases (name, chain, fence, until, stage, rotates, lineage, result, "key", mac) '
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
        "ON CONFLICT (name, chain) DO UPDATE SET fence = excluded.fence, until = excluded.until, "
        "stage = excluded.stage, rotates = excluded.rotates, lineage = excluded.lineage, result = excluded.result, "
        '"key" = excluded."key", mac = excluded.mac',
        row.name,
        row.chain,
        *values,
        first,
        seals.mac(first, _INFO, row.text(first)),
    )


def _is_intact(seals: Seals, row: _Row) -> bool:
    return seals.bears(row.key, _INFO, row.text(row.key), row.mac)


def _chain(seals: Seals, key: str, name: str, lineage: str) -> str:
    return seals.mac(key, _CHAIN, canonical([name, lineage]))


def _lineage(seals: Seals, row: _Row) -> str | None:
    """The lineage of a row; None: the row was altered, or the ring lacks its key."""
    binding = Binding(seals.store, row.name, row.name, _LINEAGE, None)
    return _opened(seals, row.lineage, binding) if _is_intact(seals, row) else None


def _sealed_lineage(seals: Seals, name: str, lineage: str) -> str:
    return seal(seals.ring, lineage, Binding(seals.store, name, name, _LINEAGE, None))


def _result(seals: Seals, row: _Row, lineage: str) -> str | None:
    """What the last holder left. Bound to the lineage, and with it to where the token may go."""
    return _opened(seals, row.result, Binding(seals.store, row.name, row.name, _RESULT, _short(lineage)))


def _sealed_result(seals: Seals, name: str, lineage: str, result: str) -> str:
    return seal(seals.ring, result, Binding(seals.store, name, name, _RESULT, _short(lineage)))


def _opened(seals: Seals, sealed: str, binding: Binding) -> str | None:
    try:
        return open_sealed(seals.ring, sealed, binding) if sealed else None
    except NotOpened:
        return None


def _short(lineage: str) -> str:
    return hashlib.sha256(lineage.encode()).hexdigest()
