"""Opens the sealed values of a stored integration."""

from __future__ import annotations

from typing import Final

from sidekey.credentials.destination import is_stored
from sidekey.credentials.fields import WRITTEN, Reference
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.settings.secrets import ReferenceReader
from sidekey.store.records import IntegrationRow
from sidekey.store.ring import KeyRing
from sidekey.store.sealing import NotOpened, Purpose, open_sealed


class Vault(SecretHolder):
    """What a store's values are sealed with: its ID, which is part of what they are bound to, and its ring of keys."""

    __slots__ = ("ring", "store")

    def __init__(self, store: str, ring: KeyRing) -> None:
        self.store: Final = store
        self.ring: Final = ring

    def __repr__(self) -> str:
        return f"Vault({self.store}, {self.ring!r})"


class StoredReader(ReferenceReader):
    """Reads the references of one stored integration.

    It opens sealed values, and nothing else does. `purpose` is made of the settings that are about to be used, so that
    a value that was entered for another place or destination does not open, whatever changed the document.
    """

    __slots__ = ("_purpose", "_row", "_vault")

    def __init__(self, vault: Vault, row: IntegrationRow, purpose: Purpose) -> None:
        self._vault = vault
        self._row = row
        self._purpose = purpose

    def __repr__(self) -> str:
        return f"StoredReader({self._row.id})"

    def __call__(self, reference: Reference) -> str:
        """The value. Raises ValueError that says why it is not opened."""
        if is_stored(reference):
            sealed = self._row.secrets.get(reference.value)
            if sealed is None:
                raise ValueError("no secret is stored here: enter it")
            return self._open(reference.value, sealed.sealed)
        if reference.source in WRITTEN:
            return reference.value
        raise ValueError("only a config file may name a file or an environment variable")

    def _open(self, secret: str, sealed: str) -> str:
        vault, row = self._vault, self._row
        reason = ""
        for binding in self._purpose.bindings(vault.store, row.row, row.id, secret):
            try:
                return open_sealed(vault.ring, sealed, binding)
            except NotOpened as refused:
                # Why the first one was refused: it is for the destination of now.
                reason = reason or str(refused)
        raise ValueError(f"the stored secret cannot be opened: {reason}")
