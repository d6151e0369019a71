"""Verify a whole store, and rotate its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sidekey.store import audit, leases, sessions
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Transaction, as_text, printable
from sidekey.store.integrity import TOMBSTONE, RowAuthenticator, VerifiedRow
from sidekey.store.records import IntegrationRow, Record, SealedField
from sidekey.store.repository import RowRepository, put_row
from sidekey.store.sealing import VERSION, Binding, NotOpened, Purpose, open_sealed, seal
from sidekey.store.state import Name, State

PurposeOf = Callable[[IntegrationRow], Purpose]
"""Returns the purpose of an integration's secrets. Raises ValueError if its document is no longer valid."""

BATCH: Final = 50
"""Rows that one transaction rewrites, so that other processes can write in between."""


@dataclass(frozen=True, slots=True)
class RotationResult:
    """Number of rewritten rows, and the reasons why some rows still need a previous key."""

    rows: int
    stuck: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The keys in use, the number of rows of each kind, and all findings."""

    revision: int
    counts: Mapping[str, int]
    keys: tuple[str, ...]
    findings: tuple[str, ...]


async def rotate(repository: RowRepository, purpose_of: PurposeOf, who: str) -> RotationResult:
    """Re-encrypt and re-sign with the first key all rows of other keys, tombstones included. Keep their versions.

    Each step is a separate transaction, which reads what is left to do. An interrupted rotation can be started
    again. Raises StoreUnavailable, StoreRefused.
    """
    rewritten = 0
    stuck: dict[Name, tuple[str, ...]] = {}
    while True:
        async with repository.writing() as (transaction, previous):
            first = repository.authenticator.ring.first
            pending = [name for name, row in previous.rows.items() if name not in stuck and _needs_rotation(row, first)]
            rows = dict(previous.rows)
            for name in pending[:BATCH]:
                row = previous.rows[name]
                record: Record | None = None
                body = TOMBSTONE
                if not row.deleted:
                    record, reasons = _reseal_record(row, repository.authenticator, purpose_of)
                    if record is None:
                        stuck[name] = reasons
                        continue
                    body = record.body()
                header = repository.authenticator.sign(
                    name, row.header.row_id, row.header.version, previous.revision + 1, body
                )
                await put_row(transaction, header, body, header.version)
                rows[name] = VerifiedRow(header, record)
                rewritten += 1
            if not pending:
                unresolved = [text for texts in stuck.values() for text in texts]
                unresolved += [
                    f"lease {printable(name)}: it was altered, and is gone: enter the refresh token again"
                    for name in await leases.reencrypt(transaction, repository.authenticator)
                ]
                await sessions.renew_macs(transaction, repository.authenticator)
                if not unresolved:
                    await transaction.execute('DELETE FROM sidekey_keys WHERE "key" <> $1', first)
                outcome = "stuck" if unresolved else "ok"
                await audit.add(transaction, AuditEntry(who=who, action="rotate-key", id=first, outcome=outcome))
            state = await repository.complete(transaction, previous, rows)
        repository.adopt(state)
        if not pending:
            return RotationResult(rewritten, tuple(unresolved))


async def verify(repository: RowRepository, purpose_of: PurposeOf) -> VerificationResult:
    """Verify all rows, secrets and leases, and list the findings. Raises StoreUnavailable, StoreRefused."""
    state = await repository.refresh(verify_all=True)
    damage = await repository.find_damage()
    findings = [damage] if damage else []
    findings += [_altered_message(*name) for name in sorted(state.altered)]
    for row in state.rows.values():
        if isinstance(row.record, IntegrationRow) and row.verified:
            findings += _reseal_record(row, repository.authenticator, purpose_of)[1]
    altered, keys = await repository.query(
        lambda transaction: _read_altered_leases_and_keys(transaction, repository.authenticator)
    )
    findings += [
        f"lease {printable(name)}: it was altered: run sidekey store rotate-key, and enter the refresh token again"
        for name in altered
    ]
    return VerificationResult(state.revision, _row_counts(state), keys, tuple(findings))


async def _read_altered_leases_and_keys(
    transaction: Transaction, authenticator: RowAuthenticator
) -> tuple[list[str], tuple[str, ...]]:
    """Read the names of altered leases, and the keys that the store is written with."""
    keys = await transaction.fetch('SELECT "key" FROM sidekey_keys ORDER BY "key"')
    return await leases.find_altered(transaction, authenticator), tuple(printable(as_text(key)) for (key,) in keys)


def _needs_rotation(row: VerifiedRow, first: str) -> bool:
    """Return True if a row or one of its values uses another key, or if the row does not verify."""
    if not row.verified or row.header.key != first:
        return True
    return isinstance(row.record, IntegrationRow) and any(
        not secret.sealed.startswith(f"{VERSION}:{first}:") for secret in row.record.secrets.values()
    )


def _reseal_record(
    row: VerifiedRow, authenticator: RowAuthenticator, purpose_of: PurposeOf
) -> tuple[Record | None, tuple[str, ...]]:
    """Return the record with its secrets re-encrypted with the first key, or None and the reasons."""
    record, header = row.record, row.header
    if record is None or not row.verified:
        return None, (_altered_message(*header.name),)
    if not isinstance(record, IntegrationRow) or not record.secrets:
        return record, ()
    try:
        purpose = purpose_of(record)
    except ValueError as error:
        return None, (f"{header.kind} {header.id}: {error}",)
    reasons = []
    secrets: dict[str, SealedField] = {}
    for secret, sealed_field in record.secrets.items():
        resealed = _reseal(
            sealed_field.sealed, purpose.bindings(authenticator.store, record.row_id, record.id, secret), authenticator
        )
        if isinstance(resealed, NotOpened):
            reasons.append(f"{header.kind} {header.id}: secret {secret} does not open: {resealed}")
        else:
            secrets[secret] = replace(sealed_field, sealed=resealed)
    return (None, tuple(reasons)) if reasons else (replace(record, secrets=secrets), ())


def _reseal(sealed: str, bindings: Sequence[Binding], authenticator: RowAuthenticator) -> str | NotOpened:
    """Re-encrypt a value with the first key, or return why the first binding does not open it."""
    first_error: NotOpened | None = None
    for binding in bindings:
        try:
            return seal(authenticator.ring, open_sealed(authenticator.ring, sealed, binding), binding)
        except NotOpened as error:
            first_error = first_error or error
    return first_error or NotOpened("its integration has no destination that it may be sent to")


def _altered_message(kind: str, name: str) -> str:
    return f"{printable(kind)} {printable(name)}: it was altered: write it again, or delete it"


def _row_counts(state: State) -> dict[str, int]:
    return {
        "integrations": len(state.integrations),
        "presets": len(state.presets),
        "callers": len(state.callers),
        "tokens": len(state.tokens),
    }
