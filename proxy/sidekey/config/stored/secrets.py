"""Bind the secrets of an integration to a purpose: their locations and destinations. Open them for no other purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from sidekey.config.diff import find_differences
from sidekey.config.errors import Loc, format_loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.config.stored.document import secrets_in
from sidekey.credentials.destination import accepted_destinations, is_stored, references_in, tied_secrets
from sidekey.credentials.fields import WRITTEN, Reference
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.store.canonical_json import Json, canonical, equal
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import KeyRing, NotOpened, Purpose, open_sealed

_MAX_REASONS: Final = 3


def secret_ids(settings: IntegrationSettings) -> frozenset[str]:
    """Return the IDs of the stored secrets that settings refer to."""
    return frozenset(reference.value for _, reference in references_in(settings) if is_stored(reference))


def build_purpose(document: Mapping[str, Any], table: Mapping[str, Any], settings: IntegrationSettings) -> Purpose:
    """Build the purpose of the secrets of a saved document. `table` is the document with its profile expanded.

    A location has the paths to the secret in the document (`written`) and, if they differ, in the table (`used`). So
    neither an edit nor a profile can move the secret to another field. `beside` identifies its counterparts, such as
    the certificate of a key.

    Locations are authenticated with the sealed values: after any change of their format, no stored secret opens.
    """
    secrets = secret_ids(settings)
    paths = _secret_paths(document, secrets)
    used = paths if table is document else _secret_paths(table, secrets)
    counterparts = _counterparts(settings)
    locations: dict[str, Mapping[str, Json]] = {}
    for secret in secrets:
        location: dict[str, Json] = {"written": paths.get(secret, [])}
        if used.get(secret) != location["written"]:
            location["used"] = used.get(secret, [])
        if secret in counterparts:
            location["beside"] = counterparts[secret]
        locations[secret] = location
    return Purpose(locations, accepted_destinations(settings))


def _secret_paths(raw: Mapping[str, Any], secrets: Collection[str]) -> dict[str, list[list[Json]]]:
    """Return the paths of each secret: keys, and instead of an index, a digest of the list entry without its secrets.

    A list entry that is a secret itself has no digest, so that it can move within its list.
    """
    locs = [(secret.loc, secret.id) for secret in secrets_in(raw) if secret.id in secrets]
    secret_locs = {loc for loc, _ in locs}
    digests: dict[Loc, Json] = {}
    paths: dict[str, list[list[Json]]] = {}
    for loc, secret in locs:
        path: list[Json] = []
        node: Any = raw
        for length, part in enumerate(loc, 1):
            node = node[part]
            above = loc[:length]
            if isinstance(part, str):
                path.append(part)
            elif above not in secret_locs:
                if above not in digests:
                    public = canonical(_without_secrets(node, secret_locs, above)).encode()
                    digests[above] = [hashlib.sha256(public).hexdigest()]
                path.append(digests[above])
        paths.setdefault(secret, []).append(path)
    return {secret: sorted(secret_paths, key=canonical) for secret, secret_paths in paths.items()}


def _without_secrets(raw: Any, secret_locs: Collection[Loc], loc: Loc) -> Any:
    """Return a copy of a list entry without its secrets."""
    if isinstance(raw, Mapping):
        below = ((key, value, (*loc, key)) for key, value in raw.items())
        return {key: _without_secrets(value, secret_locs, at) for key, value, at in below if at not in secret_locs}
    if isinstance(raw, list):
        entries = ((value, (*loc, index)) for index, value in enumerate(raw))
        return [_without_secrets(value, secret_locs, at) for value, at in entries if at not in secret_locs]
    return raw


def _counterparts(settings: IntegrationSettings) -> dict[str, dict[str, Json]]:
    """Identify the counterparts of each secret: certificate and passphrase of a key, and the key of either."""
    pairs = list(tied_secrets(settings))
    references = dict(references_in(settings)) if pairs else {}
    counterparts: dict[str, dict[str, Json]] = {}
    for loc, name in pairs:
        reference, counterpart = references[loc], references.get((*loc[:-1], name))
        if counterpart is None:
            continue
        if is_stored(counterpart):
            counterparts.setdefault(counterpart.value, {})[str(loc[-1])] = _identify(reference)
        if is_stored(reference):
            counterparts.setdefault(reference.value, {})[name] = _identify(counterpart)
    return counterparts


def _identify(reference: Reference) -> str:
    return reference.value if is_stored(reference) else hashlib.sha256(reference.value.encode()).hexdigest()


def purpose_changes(before: Purpose, after: Purpose, secrets: Iterable[str]) -> dict[str, str]:
    """Return why secrets sealed for `before` may not be used for `after`, by ID. No reason contains a value."""
    destination_changes: list[str] = []
    if not any(equal(before.destinations[0], destination) for destination in after.destinations):
        destination_changes = [*_changed_keys(before.destinations[0], after)] or ["the destination has changed"]
    reasons: dict[str, str] = {}
    for secret in secrets:
        location, new_location = before.locations[secret], after.locations[secret]
        changes = (
            destination_changes
            if equal(location, new_location)
            else [*(_describe_move(location, new_location) or ["its location has changed"]), *destination_changes]
        )
        if changes:
            more = [f"and {len(changes) - _MAX_REASONS} more"] if len(changes) > _MAX_REASONS else []
            reasons[secret] = ", ".join((*changes[:_MAX_REASONS], *more))
    return reasons


def _changed_keys(before: Mapping[str, Json], after: Purpose) -> Iterator[str]:
    # Compare with the accepted destination that has `redact_response` as `before` does. If there are two, the last one
    # lacks it, because redaction may be enabled for a secret that was entered without it.
    destination = after.destinations[0 if "redact_response" in before else -1]
    return (f"{format_loc(difference.loc)} has changed" for difference in find_differences(before, destination, equal))


def _describe_move(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Describe the differences between two locations of a secret."""
    moves: list[str] = []
    if before["written"] != after["written"]:
        keys, new_keys = (
            [format_loc([part for part in path if isinstance(part, str)]) for path in location["written"]]
            for location in (before, after)
        )
        list_changed = "its list entry has changed"
        moves.append(list_changed if keys == new_keys else f"it was in {' and '.join(keys)}")
    elif before.get("used") != after.get("used"):
        moves.append("the provider uses it elsewhere")
    counterparts = find_differences(before.get("beside", {}), after.get("beside", {}), equal)
    return moves + [f"{format_loc(difference.loc)} beside it has changed" for difference in counterparts]


class SealingKeys(SecretHolder):
    """The key ring of a store, and the store's ID, to which sealed values are bound."""

    __slots__ = ("ring", "store")

    def __init__(self, store: str, ring: KeyRing) -> None:
        self.store: Final = store
        self.ring: Final = ring

    def __repr__(self) -> str:
        return f"SealingKeys({self.store}, {self.ring!r})"


class StoredReader(ReferenceReader):
    """Reads the references of one stored integration. Nothing else opens sealed values.

    The caller builds `purpose` from the settings that it is about to use. A value that was entered for another location
    or destination does not open, however the document was changed.
    """

    __slots__ = ("_purpose", "_row", "_sealing_keys")

    def __init__(self, sealing_keys: SealingKeys, row: IntegrationRow, purpose: Purpose) -> None:
        self._sealing_keys = sealing_keys
        self._row = row
        self._purpose = purpose

    def __repr__(self) -> str:
        return f"StoredReader({self._row.id})"

    def __call__(self, reference: Reference) -> str:
        """Return the value. Raises ValueError with the reason."""
        if is_stored(reference):
            sealed = self._row.secrets.get(reference.value)
            if sealed is None:
                raise ValueError("no secret is stored here: enter it")
            return self._open(reference.value, sealed.sealed)
        if reference.source in WRITTEN:
            return reference.value
        raise ValueError("only a config file may name a file or an environment variable")

    def _open(self, secret: str, sealed: str) -> str:
        sealing_keys, row = self._sealing_keys, self._row
        reason = ""
        for binding in self._purpose.bindings(sealing_keys.store, row.row_id, row.id, secret):
            try:
                return open_sealed(sealing_keys.ring, sealed, binding)
            except NotOpened as error:
                # The first binding has the current destination, so its reason is the useful one.
                reason = reason or str(error)
        raise ValueError(f"the stored secret cannot be opened: {reason}")
