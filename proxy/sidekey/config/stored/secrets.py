"""The purpose of the secrets of an integration: the place and the destination that each is sealed for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from sidekey.config.diff import differences
from sidekey.config.errors import show
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.config.stored.document import Place, secrets_in
from sidekey.credentials.destination import accepted, is_stored, pairs_in, references_in
from sidekey.credentials.fields import WRITTEN, Reference
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.store.canonical_json import Json, canonical, same
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import KeyRing, NotOpened, Purpose, open_sealed

_MAX_REASONS: Final = 3


def secret_ids(settings: IntegrationSettings) -> frozenset[str]:
    """Return the IDs of the stored secrets that settings refer to."""
    return frozenset(each.value for _, each in references_in(settings) if is_stored(each))


def purpose_of(written: Mapping[str, Any], table: Mapping[str, Any], settings: IntegrationSettings) -> Purpose:
    """Return the purpose of the secrets of a saved document; `table` is the document with its profile filled in.

    A place has the keys that lead to the secret in both, so that neither an edit nor a profile moves it to another
    field. It also has what the secret goes with, such as the certificate of a key, so that neither is kept alone.
    """
    secrets = secret_ids(settings)
    names = _names(written, secrets)
    used = names if table is written else _names(table, secrets)
    beside = _beside(settings)
    places: dict[str, Mapping[str, Json]] = {}
    for secret in secrets:
        place: dict[str, Json] = {"written": names.get(secret, [])}
        if used.get(secret) != place["written"]:
            place["used"] = used.get(secret, [])
        if secret in beside:
            place["beside"] = beside[secret]
        places[secret] = place
    return Purpose(places, accepted(settings))


def _names(raw: Mapping[str, Any], secrets: Collection[str]) -> dict[str, list[list[Json]]]:
    """Return the names of the places of each secret: its keys, and a digest for each entry of a list above it.

    Entries that are secrets have no name, so that they may be moved in their list.
    """
    places = [(each.place, each.id) for each in secrets_in(raw) if each.id in secrets]
    at = {place for place, _ in places}
    digests: dict[Place, Json] = {}
    names: dict[str, list[list[Json]]] = {}
    for place, secret in places:
        name: list[Json] = []
        node: Any = raw
        for length, part in enumerate(place, 1):
            node = node[part]
            above = place[:length]
            if isinstance(part, str):
                name.append(part)
            elif above not in at:
                if above not in digests:
                    public = canonical(_public(node, at, above)).encode()
                    digests[above] = [hashlib.sha256(public).hexdigest()]
                name.append(digests[above])
        names.setdefault(secret, []).append(name)
    return {secret: sorted(found, key=canonical) for secret, found in names.items()}


def _public(raw: Any, secrets: Collection[Place], place: Place) -> Any:
    """Return an entry of a list without its secrets."""
    if isinstance(raw, Mapping):
        below = ((key, value, (*place, key)) for key, value in raw.items())
        return {key: _public(value, secrets, where) for key, value, where in below if where not in secrets}
    if isinstance(raw, list):
        entries = ((value, (*place, index)) for index, value in enumerate(raw))
        return [_public(value, secrets, where) for value, where in entries if where not in secrets]
    return raw


def _beside(settings: IntegrationSettings) -> dict[str, dict[str, Json]]:
    """Return what each secret goes with: a key with its certificate and passphrase, and both with the key."""
    pairs = list(pairs_in(settings))
    references = dict(references_in(settings)) if pairs else {}
    beside: dict[str, dict[str, Json]] = {}
    for place, name in pairs:
        one, other = references[place], references.get((*place[:-1], name))
        if other is None:
            continue
        if is_stored(other):
            beside.setdefault(other.value, {})[str(place[-1])] = _identity(one)
        if is_stored(one):
            beside.setdefault(one.value, {})[name] = _identity(other)
    return beside


def _identity(half: Reference) -> str:
    return half.value if is_stored(half) else hashlib.sha256(half.value.encode()).hexdigest()


def changes_of(before: Purpose, after: Purpose, secrets: Iterable[str]) -> dict[str, str]:
    """Return why secrets that were sealed for one purpose may not be used for another, by ID. It contains no value."""
    moved: list[str] = []
    if not any(same(before.destinations[0], each) for each in after.destinations):
        moved = [*_changed_keys(before.destinations[0], after)] or ["the destination has changed"]
    reasons: dict[str, str] = {}
    for secret in secrets:
        one, other = before.places[secret], after.places[secret]
        found = moved if same(one, other) else [*(_moves(one, other) or ["its place has changed"]), *moved]
        if found:
            more = [f"and {len(found) - _MAX_REASONS} more"] if len(found) > _MAX_REASONS else []
            reasons[secret] = ", ".join((*found[:_MAX_REASONS], *more))
    return reasons


def _changed_keys(before: Mapping[str, Json], after: Purpose) -> Iterator[str]:
    # The last destination is without redaction, which may be switched on.
    other = after.destinations[0 if "redact_response" in before else -1]
    return (f"{show(each.place)} has changed" for each in differences(before, other, same))


def _moves(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return how the place of a secret has changed."""
    found: list[str] = []
    if before["written"] != after["written"]:
        keys, other = (
            [show([part for part in name if isinstance(part, str)]) for name in place["written"]]
            for place in (before, after)
        )
        list_changed = "what is public beside it in a list has changed"
        found.append(list_changed if keys == other else f"it was in {' and '.join(keys)}")
    elif before.get("used") != after.get("used"):
        found.append("the provider uses it elsewhere")
    beside = differences(before.get("beside", {}), after.get("beside", {}), same)
    return found + [f"{show(each.place)} beside it has changed" for each in beside]


class SealingKeys(SecretHolder):
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

    def __init__(self, vault: SealingKeys, row: IntegrationRow, purpose: Purpose) -> None:
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
