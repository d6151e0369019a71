"""Leases: one process at a time renews a shared token, and the other processes use the result.

A call that presents a rotating refresh token spends the token. No token may be presented twice, so the holder of the
lease commits its intent before the call. If the holder dies after that, the token may be spent, and no process presents
it again. Entering another refresh token begins another lineage.

```text
              lease                 intent                  finish, release
    free ───────────────► held ───────────────► intended ───────────────────► free
                           │ finish, release       │ expires
                           ▼                       ▼
                          free                  may be spent, until another lineage begins
```

Each holder gets the next fencing number, and calls of earlier holders are refused. Each lineage has its own lease,
which stays when another token is entered: processes read a changed file at different moments, and the first token of
either lineage must not be presented again meanwhile.

A result is bound to its destination, and a process with another destination does not get it. If the result replaced the
first token of the lineage, such a process has no token that it may present: it gets `NotLeased` with `may_be_spent`.

Each lease has an HMAC. Results and lineages are sealed, because a lineage may contain secrets, and a lease is found by
an HMAC of its lineage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from sidekey.store.canonical_json import canonical
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.errors import StoreError, StoreRefused
from sidekey.store.integrity import RowAuthenticator
from sidekey.store.sealing import Binding, NotOpened, open_sealed, seal

_INFO: Final = b"sidekey lease v1"
_CHAIN: Final = b"sidekey lineage v1"
_LINEAGE: Final = "lineage"
_RESULT: Final = "result"
_SELECT: Final = 'SELECT name, chain, fence, until, stage, spent, lineage, result, "key", mac FROM sidekey_leases'


class LeaseLost(StoreError):
    """Another process has taken the lease, or the lease is gone."""


class LeaseBinding(NamedTuple):
    """The lineage of a token, and the destination of its results. Another token must have another `lineage`."""

    lineage: str
    destination: str

    def __repr__(self) -> str:
        return "LeaseBinding()"

    def text(self) -> str:
        """Serialize it for sealing and hashing."""
        return canonical([self.lineage, self.destination])


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that this process holds until it expires.

    `name` is the row of a stored integration, or a name for an integration of a file. `now` is the database's clock, in
    seconds since the epoch. `result` is the text that the last holder stored for this lineage and destination, if any.
    """

    name: str
    binding: LeaseBinding
    fence: int
    now: float
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotLeased:
    """Another process holds the lease, or the token `may_be_spent` and must not be presented.

    `now` is the database's clock. `result` is the text that the last holder stored, if any. Other processes may use it
    too.
    """

    may_be_spent: bool
    now: float
    result: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """A stored lease. `chain` is the HMAC of its lineage with the key of the row.

    `stage` is free, held or intended. `spent` is 1 if the first token of the lineage is spent, so that only `result`
    can continue it. `lineage` is a sealed `LeaseBinding`. `result` is sealed too, or empty.
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
        """Parse the columns of a lease."""
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
        """Serialize the lease for its MAC."""
        columns = (self.name, self.chain, self.fence, self.until, self.stage, self.spent)
        return canonical([*columns, self.lineage, self.result, key])


async def acquire(
    transaction: Transaction, authenticator: RowAuthenticator, name: str, bindings: Sequence[LeaseBinding], seconds: int
) -> Lease | NotLeased:
    """Acquire the lease of a lineage unless it is held. The result will be bound to the first of `bindings`."""
    binding = bindings[0]
    row = await _find(transaction, authenticator, name, binding.lineage)
    now = await transaction.now()
    if row is None:
        row, result = _Row(name), None
    else:
        intact = _is_intact(authenticator, row)
        opened = (_open_result(authenticator, row, binding) for binding in bindings) if intact else ()
        result = next((text for text in opened if text is not None), None)
        # An altered row proves nothing. If the token is spent, only the result continues the lineage.
        has_no_token = not intact or (row.spent and result is None)
        holder_died = row.stage == "intended" and row.until <= now
        may_be_spent = has_no_token or holder_died
        if may_be_spent or (row.stage != "free" and row.until > now):
            return NotLeased(may_be_spent, now, result)
    fence = row.fence + 1
    await _put(transaction, authenticator, replace(row, fence=fence, until=int(now) + seconds, stage="held"), binding)
    return Lease(name, binding, fence, now, result)


async def record_intent(transaction: Transaction, authenticator: RowAuthenticator, lease: Lease, seconds: int) -> None:
    """Record that the token will be presented in the next `seconds`, or with 0 that it may be spent.

    Raises LeaseLost.
    """
    row = await _held_row(transaction, authenticator, lease)
    until = int(await transaction.now()) + seconds
    await _put(transaction, authenticator, replace(row, stage="intended", until=until), lease.binding)


async def finish(
    transaction: Transaction, authenticator: RowAuthenticator, lease: Lease, result: str, *, replaces_token: bool
) -> None:
    """Store the result of a call for all processes, and release the lease. Raises LeaseLost.

    `replaces_token` means that the result replaces the first token of the lineage, which is spent. An expired lease can
    still be finished: then it is known whether the token is spent.
    """
    row = await _held_row(transaction, authenticator, lease)
    free = replace(row, stage="free", until=0, spent=1 if replaces_token else row.spent)
    await _put(transaction, authenticator, free, lease.binding, result)


async def release(transaction: Transaction, authenticator: RowAuthenticator, lease: Lease) -> None:
    """Release the lease of a token that was certainly not presented. Raises LeaseLost."""
    row = await _held_row(transaction, authenticator, lease)
    await _put(transaction, authenticator, replace(row, stage="free", until=0), lease.binding)


async def reencrypt(transaction: Transaction, authenticator: RowAuthenticator) -> list[str]:
    """Re-encrypt leases of other keys with the first key. Delete altered leases, and return their names."""
    dropped = []
    async for row in _read_all(transaction):
        binding = _verified_binding(authenticator, row)
        if binding is None:
            await _delete(transaction, row)
            dropped.append(row.name)
        elif row.key != authenticator.ring.first:
            await _put(transaction, authenticator, row, binding)
    return dropped


async def find_altered(transaction: Transaction, authenticator: RowAuthenticator) -> list[str]:
    """Return the names of leases with an invalid MAC."""
    return [row.name async for row in _read_all(transaction) if _verified_binding(authenticator, row) is None]


async def _find(transaction: Transaction, authenticator: RowAuthenticator, name: str, lineage: str) -> _Row | None:
    """Find the lease of a lineage. Raises StoreRefused if it may be written with a key that this ring lacks."""
    for key in authenticator.ring.ids:
        rows = await transaction.fetch(
            f"{_SELECT} WHERE name = $1 AND chain = $2", name, _chain_mac(authenticator, key, name, lineage)
        )
        if rows:
            return _Row.read(rows[0])
    keys = await transaction.fetch('SELECT DISTINCT "key" FROM sidekey_leases WHERE name = $1', name)
    missing = next((as_text(key) for (key,) in keys if as_text(key) not in authenticator.ring), None)
    if missing is not None:
        raise StoreRefused(f"store.keys: key {missing} is missing: a lease was written with it")
    return None


async def _delete(transaction: Transaction, row: _Row) -> None:
    await transaction.execute("DELETE FROM sidekey_leases WHERE name = $1 AND chain = $2", row.name, row.chain)


async def _read_all(transaction: Transaction) -> AsyncIterator[_Row]:
    for columns in await transaction.fetch(_SELECT):
        yield _Row.read(columns)


async def _held_row(transaction: Transaction, authenticator: RowAuthenticator, lease: Lease) -> _Row:
    row = await _find(transaction, authenticator, lease.name, lease.binding.lineage)
    if row is None or row.fence != lease.fence or row.stage == "free" or not _is_intact(authenticator, row):
        raise LeaseLost(f"another process has the lease of {lease.name}")
    return row


async def _put(
    transaction: Transaction,
    authenticator: RowAuthenticator,
    row: _Row,
    binding: LeaseBinding,
    result: str | None = None,
) -> None:
    """Write a row with the first key, with a new `result` or with its present one."""
    first = authenticator.ring.first
    if row.key != first:
        # The first key makes `chain` from now on. Processes with both keys search for both.
        await _delete(transaction, row)
        if result is None:
            # The present result keeps its destination.
            binding = _open_binding(authenticator, row) or binding
            result = _open_result(authenticator, row, binding)
        chain = _chain_mac(authenticator, first, row.name, binding.lineage)
        row = replace(row, chain=chain, lineage=_seal(authenticator, row.name, _LINEAGE, None, binding.text()))
    if result is not None:
        row = replace(
            row,
            lineage=_seal(authenticator, row.name, _LINEAGE, None, binding.text()),
            result=_seal(authenticator, row.name, _RESULT, _digest_of(binding), result),
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
        authenticator.mac(first, _INFO, row.text(first)),
    )


def _is_intact(authenticator: RowAuthenticator, row: _Row) -> bool:
    return authenticator.is_mac(row.key, _INFO, row.text(row.key), row.mac)


def _chain_mac(authenticator: RowAuthenticator, key: str, name: str, lineage: str) -> str:
    return authenticator.mac(key, _CHAIN, canonical([name, lineage]))


def _verified_binding(authenticator: RowAuthenticator, row: _Row) -> LeaseBinding | None:
    """Return the lineage and destination of a row, or None if its MAC is not valid or the ring lacks its key."""
    return _open_binding(authenticator, row) if _is_intact(authenticator, row) else None


def _open_binding(authenticator: RowAuthenticator, row: _Row) -> LeaseBinding | None:
    """Return the lineage and destination of a row without verifying its MAC, or None for a new row."""
    text = _open(authenticator, row.lineage, row.name, _LINEAGE, None)
    return None if text is None else LeaseBinding(*json.loads(text))


def _open_result(authenticator: RowAuthenticator, row: _Row, binding: LeaseBinding) -> str | None:
    """Open the stored result, which is bound to the lineage and the destination."""
    return _open(authenticator, row.result, row.name, _RESULT, _digest_of(binding))


def _seal(authenticator: RowAuthenticator, name: str, field_name: str, destination: str | None, text: str) -> str:
    return seal(authenticator.ring, text, Binding(authenticator.store, name, name, field_name, destination))


def _open(
    authenticator: RowAuthenticator, sealed: str, name: str, field_name: str, destination: str | None
) -> str | None:
    try:
        return (
            open_sealed(authenticator.ring, sealed, Binding(authenticator.store, name, name, field_name, destination))
            if sealed
            else None
        )
    except NotOpened:
        return None


def _digest_of(binding: LeaseBinding) -> str:
    return hashlib.sha256(binding.text().encode()).hexdigest()
