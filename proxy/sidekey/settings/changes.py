"""Compare two configs: the paths of the keys that differ, never their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from sidekey.runtime.snapshot import Caller, Integration, Snapshot
from sidekey.settings.config_errors import Loc, show


class Difference(NamedTuple):
    """A key that one of two documents lacks, or that has another value."""

    kind: Literal["added", "removed", "changed"]
    place: Loc


class Changes(NamedTuple):
    """Sorted paths of the config. `revision` is that of the store, if it is another one."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    revision: int | None = None


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], equal: Callable[[Any, Any], bool], place: Loc = ()
) -> Iterator[Difference]:
    """Compare two nested mappings, and lists as a whole. A key without a value (None) counts as missing."""
    for key in sorted({*before, *after}):
        one, other, where = before.get(key), after.get(key), (*place, key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from differences(one, other, equal, where)
        elif not equal(one, other):
            yield Difference("added" if one is None else "removed" if other is None else "changed", where)


def compare(before: Snapshot, after: Snapshot) -> Changes:
    """Compare what two snapshots were built from. Blocks: thousands of integrations may differ."""
    places: dict[str, set[Loc]] = {"added": set(), "removed": set(), "changed": set()}
    for kind, place in differences(_document(before, after), _document(after, before), _equal):
        places[kind].add(place)
    reported = set[Loc]().union(*places.values())
    places["changed"] |= {place for place in _secrets(before, after) if not _is_within(place, reported)}
    revisions = [0 if each.stored is None else each.stored.revision for each in (before, after)]
    paths = {kind: tuple(sorted(map(show, found))) for kind, found in places.items()}
    return Changes(**paths, revision=revisions[1] if revisions[0] != revisions[1] else None)


def _equal(one: Any, other: Any) -> bool:
    # In Python 1 is True.
    return type(one) is type(other) and bool(one == other)


def _document(snapshot: Snapshot, other: Snapshot) -> dict[str, Any]:
    """Build the document of a snapshot: settings, and in place of global references what was read from them.

    An integration that both snapshots share is left out.
    """
    settings, admin, store = _plain(snapshot.written), snapshot.admin, snapshot.store
    tokens = {name: {"token": each.digest, "role": each.role} for name, each in admin.tokens.items()}
    return {
        **settings,
        "admin": {**settings["admin"], "tokens": tokens, "tls": admin.certificate},
        "ca": {**settings["ca"], "certificate": snapshot.ca.own, "extra_roots": snapshot.ca.extra_roots},
        "callers": {each.name: _caller(digest, each) for digest, each in (snapshot.callers or {}).items()},
        "integrations": {
            name: _integration(each)
            for name, each in snapshot.integrations.items()
            if other.integrations.get(name) is not each
        },
        "network": {**settings["network"], "trusted_ca": snapshot.trust},
        "presets": {name: each.document for name, each in snapshot.presets.items()},
        "store": None if store is None else {**settings["store"], "keys": store.keys, "url": store.url},
    }


def _caller(digest: bytes, caller: Caller) -> dict[str, Any]:
    granted = {"integrations": caller.integrations, "presets": caller.presets}
    return {"token": digest, **{key: "*" if ids is None else ids for key, ids in granted.items()}}


def _integration(integration: Integration) -> Any:
    if integration.written is None:
        # A stored integration that cannot be used has no settings.
        return integration.kind
    document = _plain(integration.written)
    if document["trusted_ca"] is not None:
        # With the digest of the file.
        document["trusted_ca"] = integration.trust
    return document


def _plain(value: Any) -> Any:
    """Convert models to mappings, and nothing else: `model_dump` redacts references, and all of them are then equal."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return {field.alias or name: _plain(getattr(value, name)) for name, field in fields}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _secrets(before: Snapshot, after: Snapshot) -> Iterator[Loc]:
    """Yield the places in integrations where another secret was read, or where only one of the two could be read."""
    for name, integration in after.integrations.items():
        previous = before.integrations.get(name, integration)
        if previous is not integration:
            one, other = dict(previous.digests), dict(integration.digests)
            differing = (keys for keys in one.keys() | other.keys() if one.get(keys) != other.get(keys))
            yield from (("integrations", name, *keys) for keys in differing)


def _is_within(place: Loc, places: set[Loc]) -> bool:
    return any(place[:length] in places for length in range(1, len(place) + 1))
