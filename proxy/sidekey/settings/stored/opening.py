"""Opens what is sealed of a stored integration, and seals what was entered for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sidekey.credentials.base import Sealed
from sidekey.credentials.destination import Json, accepted
from sidekey.credentials.fields import WRITTEN, Reference
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.secrets import ReferenceReader
from sidekey.settings.stored.document import KEPT, MalformedError, Saved, listed_in, replaced
from sidekey.settings.stored.saving import Draft, secrets_of
from sidekey.store.records import IntegrationRow, SealedField
from sidekey.store.ring import KeyRing
from sidekey.store.sealing import Binding, NotOpened, open_sealed, seal


class Vault(Sealed):
    """What a store's values are sealed with: its ID, which is part of what they are bound to, and its ring of keys."""

    __slots__ = ("ring", "store")

    def __init__(self, store: str, ring: KeyRing) -> None:
        self.store: Final = store
        self.ring: Final = ring

    def __repr__(self) -> str:
        return f"Vault({self.store}, {self.ring!r})"


class StoredReader(ReferenceReader):
    """Reads the references of one stored integration for the settings that are about to be used.

    It opens sealed values, and nothing else does. What they are bound to is made of these settings, so that a value
    that was entered for another destination does not open, whatever changed the document.
    """

    __slots__ = ("_destinations", "_row", "_settings", "_vault")

    def __init__(self, vault: Vault, row: IntegrationRow, settings: IntegrationSettings) -> None:
        self._vault = vault
        self._row = row
        self._settings = settings
        self._destinations: tuple[Mapping[str, Json], ...] | None = None

    def __repr__(self) -> str:
        return f"StoredReader({self._row.id})"

    def __call__(self, reference: Reference) -> str:
        """The value. Raises ValueError that says why it is not opened."""
        if reference.source in ("stored", "stored_url"):
            sealed = self._row.secrets.get(reference.value)
            if sealed is None:
                raise ValueError("no secret is stored here: enter it")
            return self._open(reference.value, sealed.sealed)
        if reference.source in WRITTEN:
            return reference.value
        raise ValueError("only a config file may name a file or an environment variable")

    def raw(self, reference: Reference, largest: int) -> bytes:
        """The bytes of the value. Raises ValueError."""
        del largest
        return self(reference).encode()

    def _open(self, where: str, sealed: str) -> str:
        vault, row = self._vault, self._row
        if self._destinations is None:
            self._destinations = accepted(self._settings)
        reason = ""
        for destination in self._destinations:
            binding = Binding(vault.store, row.row, row.id, where, destination)
            try:
                return open_sealed(vault.ring, sealed, binding)
            except NotOpened as refused:
                # Why the first one was refused: it is for the destination of now.
                reason = reason or str(refused)
        raise ValueError(f"the stored secret cannot be opened: {reason}")


def is_stored(vault: Vault, row: IntegrationRow, draft: Draft) -> bool:
    """Whether a draft, with all of its secrets, is what a row has: in lists in the same order, by whichever row IDs."""
    try:
        before, now = Saved.load(row.document), Saved.load(draft.saved.text())
    except MalformedError:
        return False
    if _without_rows(before) != _without_rows(now):
        return False
    places = {each.pointer: each.where for each in listed_in(now.written)}
    stored = {each.where: each.pointer for each in listed_in(before.written)}
    reader = StoredReader(vault, row, draft.settings)

    def text_of(reference: Reference) -> str:
        where = places.get(reference.value, reference.value)
        return reader(replace(reference, value=stored.get(where, where)))

    try:
        return all(text_of(each) == draft.entered.get(each.value) for each in secrets_of(draft.settings).values())
    except ValueError:
        # One does not open: it is entered again.
        return False


def _without_rows(saved: Saved) -> str:
    kept = dict.fromkeys((each.pointer for each in listed_in(saved.written)), KEPT)
    return replace(saved, written=replaced(saved.written, kept)).text()


def sealed_fields(
    vault: Vault,
    row: str,
    id: str,  # noqa: A002 - its name
    draft: Draft,
    former: Mapping[str, SealedField],
    *,
    by: str,
    now: int,
) -> dict[str, SealedField]:
    """What is stored of secrets once a draft is saved in the row of this (lasting) ID, for the integration `id`.

    What is kept of `former` stays as it is: nothing is sealed for another destination than it was entered for.
    """
    fields = {where: former[where] for where in draft.kept}
    for where, text in draft.entered.items():
        binding = Binding(vault.store, row, id, where, draft.destination)
        fields[where] = SealedField(seal(vault.ring, text, binding), now, by)
    return fields
