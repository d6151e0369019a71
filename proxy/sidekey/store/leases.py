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

A result is bound to where it may go. Whoever asks for another destination does not get it; and where it has taken the
place of the token that the lineage begins with, that one is spent, and unknown to them.

Each lease has an HMAC; results and lineages are sealed, since a lineage may be made of secrets, and a lease is found by
an HMAC of its lineage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from sidekey.store.canonical import canonical
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.errors import StoreError, StoreRefused
from sidekey.store.integrity import Seals
from sidekey.store.sealing import Binding, NotOpened, open_sealed, seal

_INFO: Final = b"sidekey lease v1"
_CHAIN: Final = b"sidekey lineage v1"
_LINEAGE: Final = "lineage"
_RESULT: Final = "result"
_SELECT: Final = 'SELECT name, chain, fence, until, stage, spent, lineage, result, "key", mac FROM sidekey_leases'

Stage = Literal["free", "held", "intended"]


class LeaseLost(StoreError):
    """Another process has taken the lease, or it is gone: nothing may be done by it any more."""


class Bound(NamedTuple):
    """Whose token it is, and with what it begins; and where what comes of it may go.

    Whatever makes the token another one must make it another `lineage`.
    """

    lineage: str
    to: str

    def __repr__(self) -> str:
        return "Bound()"

    def text(self) -> str:
        """One spelling, to be sealed or hashed."""
        return canonical([self.lineage, self.to])


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds until its time is over.

    `name` says whose: the row of a stored integration, or another word for one of a file. `now` is the database's
    clock, in seconds since the epoch. `result` is what the last holder left, in its own words; None: nothing of this
    lineage for this destination.
    """

    name: str
    bound: Bound
    fence: int
    now: float
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotLeased:
    """The lease is another's; or the token is `unknown`, which also is one that went on to another destination.

    `now` is the database's clock. `result` is what the last holder left, which may have been used before, and may be
    used by others as well.
    """

    unknown: bool
    now: float
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """A lease as it is stored. `chain` is the HMAC of its lineage, by the key of the row.

    `spent`: what the lineage begins with is so; only `result` goes on.
    `lineage` and `result` are sealed; the first is that of `Bound`, the second empty where there is none.
    """

    name: str
    chain: str = ""
    fence: int = 0
    until: int = 0
    stage: str = "free"
    spent: int = 0
    lineage: str = ""
    result: str = ""
    key: str = ""
    mac: str = ""

    @classmethod
    def read(cls, columns: tuple[Any, ...]) -> _Row:
        """Of the columns of a lease."""
        name, chain, fence, until, stage, spent, *texts = columns
        return cls(
            as_text(name),
            as_text(chain),
            as_number(fence),
            as_number(until),
            as_text(stage),
            as_number(spent),
            *map(as_text, texts),
        )

    def text(self, key: str) -> str:
        """What its MAC is made of."""
        columns = (self.name, self.chain, self.fence, self.until, self.stage, self.spent)
        return canonical([*columns, self.lineage, self.result, key])


async def take(
    transaction: Transaction, seals: Seals, name: str, bounds: Sequence[Bound], seconds: int
) -> Lease | NotLeased:
    """Take the lease of a lineage for so long, where nobody holds it; what it brings is for the first of `bounds`."""
    bound = bounds[0]
    row = await _find(transaction, seals, name, bound.lineage)
    now = await transaction.now()
    if row is None:
        row, result = _Row(name), None
    else:
        intact = _is_intact(seals, row)
        results = (_result(seals, row, each) for each in bounds) if intact else ()
        result = next((each for each in results if each is not None), None)
        lost = not intact or (row.spent and result is None)
        unknown = lost or (row.stage == "intended" and row.until <= now)
        if unknown or (row.stage != "free" and row.until > now):
            return NotLeased(unknown, now, result)
    fence = row.fence + 1
    await _put(transaction, seals, replace(row, fence=fence, until=int(now) + seconds, stage="held"), bound)
    return Lease(name, bound, fence, now, result)


async def intend(transaction: Transaction, seals: Seals, lease: Lease, seconds: int) -> None:
    """Note that its token is going to be presented, within so long; 0: it may be spent. Raises LeaseLost."""
    row = await _mine(transaction, seals, lease)
    until = int(await transaction.now()) + seconds
    await _put(transaction, seals, replace(row, stage="intended", until=until), lease.bound)


async def finish(transaction: Transaction, seals: Seals, lease: Lease, result: str, *, spent: bool) -> None:
    """Leave what the call gave, for all, and give the lease back. Raises LeaseLost.

    `spent`: it takes the place of what the lineage begins with. Also after its time: where nobody knew what had become
    of the token, they do now.
    """
    row = await _mine(transaction, seals, lease)
    free = replace(row, stage="free", until=0, spent=1 if spent else row.spent)
    await _put(transaction, seals, free, lease.bound, result)


async def release(transaction: Transaction, seals: Seals, lease: Lease) -> None:
    """Give the lease back, where its token was certainly not spent. Raises LeaseLost."""
    row = await _mine(transaction, seals, lease)
    await _put(transaction, seals, replace(row, stage="free", until=0), lease.bound)


async def seal_again(transaction: Transaction, seals: Seals) -> list[str]:
    """Seal by the first key what is sealed by another. Delete altered leases, and return their names."""
    dropped = []
    async for row in _all(transaction):
        bound = _bound(seals, row)
        if bound is None:
            await _delete(transaction, row)
            dropped.append(row.name)
        elif row.key != seals.ring.first:
            await _put(transaction, seals, row, bound)
    return dropped


async def altered(transaction: Transaction, seals: Seals) -> list[str]:
    """The names of those that do not bear their MAC."""
    return [row.name async for row in _all(transaction) if _bound(seals, row) is None]


async def _find(transaction: Transaction, seals: Seals, name: str, lineage: str) -> _Row | None:
    """The lease of a lineage. Raises StoreRefused where it may be one that goes by a key which this ring lacks."""
    for key in seals.ring.ids:
        found = await transaction.fetch(
            f"{_SELECT} WHERE name = $1 AND chain = $2", name, _chain(seals, key, name, lineage)
        )
        if found:
            return _Row.read(found[0])
    keys = await transaction.fetch('SELECT DISTINCT "key" FROM sidekey_leases WHERE name = $1', name)
    foreign = next((as_text(key) for (key,) in keys if as_text(key) not in seals.ring), None)
    if foreign is not None:
        raise StoreRefused(f"store.keys: key {foreign} is missing: a lease is written with it")
    return None


async def _delete(transaction: Transaction, row: _Row) -> None:
    await transaction.execute("DELETE FROM sidekey_leases WHERE name = $1 AND chain = $2", row.name, row.chain)


async def _all(transaction: Transaction) -> AsyncIterator[_Row]:
    for each in await transaction.fetch(_SELECT):
        yield _Row.read(each)


async def _mine(transaction: Transaction, seals: Seals, lease: Lease) -> _Row:
    row = await _find(transaction, seals, lease.name, lease.bound.lineage)
    if row is None or row.fence != lease.fence or row.stage == "free" or not _is_intact(seals, row):
        raise LeaseLost(f"the lease of {lease.name} is another's")
    return row


async def _put(transaction: Transaction, seals: Seals, row: _Row, bound: Bound, result: str | None = None) -> None:
    """Write a row by the first key, all of it: with this result, or else with the one it had."""
    first = seals.ring.first
    if row.key != first:
        # It goes by an HMAC of the first key from now on; whoever has that key looks for both.
        await _delete(transaction, row)
        if result is None:
            # What it had stays bound to where that may go.
            bound = _own(seals, row) or bound
            result = _result(seals, row, bound)
        chain = _chain(seals, first, row.name, bound.lineage)
        row = replace(row, chain=chain, lineage=_sealed(seals, row.name, _LINEAGE, None, bound.text()))
    if result is not None:
        row = replace(
            row,
            lineage=_sealed(seals, row.name, _LINEAGE, None, bound.text()),
            result=_sealed(seals, row.name, _RESULT, _short(bound), result),
        )
    values = (row.fence, row.until, row.stage, row.spent, row.lineage, row.result)
    await transaction.execute(
        'INSERT INTO sidekey_leases (name, chain, fence, until, stage, spent, lineage, result, "key", mac) '
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
        "ON CONFLICT (name, chain) DO UPDATE SET fence = excluded.fence, until = excluded.until, "
        "stage = excluded.stage, spent = excluded.spent, lineage = excluded.lineage, "
        'result = excluded.result, "key" = excluded."key", mac = excluded.mac',
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


def _bound(seals: Seals, row: _Row) -> Bound | None:
    """To what a row is bound; None: it was altered, or the ring lacks its key."""
    return _own(seals, row) if _is_intact(seals, row) else None


def _own(seals: Seals, row: _Row) -> Bound | None:
    """To what a row is bound, also where it is about to be another; None: it is new."""
    text = _opened(seals, row.lineage, row.name, _LINEAGE, None)
    return None if text is None else Bound(*json.loads(text))


def _result(seals: Seals, row: _Row, bound: Bound) -> str | None:
    """What the last holder left. Bound to the lineage, and to where it may go."""
    return _opened(seals, row.result, row.name, _RESULT, _short(bound))


def _sealed(seals: Seals, name: str, field_name: str, to: str | None, text: str) -> str:
    return seal(seals.ring, text, Binding(seals.store, name, name, field_name, to))


def _opened(seals: Seals, sealed: str, name: str, field_name: str, to: str | None) -> str | None:
    try:
        return open_sealed(seals.ring, sealed, Binding(seals.store, name, name, field_name, to)) if sealed else None
    except NotOpened:
        return None


def _short(bound: Bound) -> str:
    return hashlib.sha256(bound.text().encode()).hexdigest()
