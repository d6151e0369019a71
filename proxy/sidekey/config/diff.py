"""Compare two configs: the paths of the keys that differ, never their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from sidekey.config.errors import Loc, format_loc
from sidekey.policy.callers import Caller, key_kind
from sidekey.publish import Changes
from sidekey.snapshot.admin import AdminToken
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import Integration, Snapshot


class Difference(NamedTuple):
    """A key that one of two documents lacks, or that has another value."""

    kind: Literal["added", "removed", "changed"]
    loc: Loc


def find_differences(
    before: Mapping[str, Any], after: Mapping[str, Any], equal: Callable[[Any, Any], bool], base: Loc = ()
) -> list[Difference]:
    """Compare two nested mappings in the order of their keys, and lists as a whole. None equals a missing key.

    A model counts as the mapping of its fields. The same object on both sides is skipped.
    """
    result: list[Difference] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is new:
            continue
        old = _fields(old) if isinstance(old, BaseModel) else old
        new = _fields(new) if isinstance(new, BaseModel) else new
        loc = (*base, key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            result += find_differences(old, new, equal, loc)
        elif not equal(old, new):
            result.append(Difference("added" if old is None else "removed" if new is None else "changed", loc))
    return result


def compare_snapshots(before: Snapshot, after: Snapshot) -> Changes:
    """Compare the documents of two snapshots. Blocks: thousands of integrations may differ."""
    old, new = _document_without_equals(before, after), _document_without_equals(after, before)
    locs: dict[str, set[Loc]] = {"added": set(), "removed": set(), "changed": set()}
    for kind, loc in find_differences(old, new, _equal):
        locs[kind].add(loc)
    reported = set[Loc]().union(*locs.values())
    for name in old["integrations"].keys() & new["integrations"].keys():
        previous, integration = before.integrations[name], after.integrations[name]
        if previous.digests != integration.digests:
            secrets = _changed_secrets(previous, integration)
            locs["changed"] |= {loc for loc in secrets if not _is_within(loc, reported)}
    revisions = [0 if snapshot.stored is None else snapshot.stored.revision for snapshot in (before, after)]
    paths = {kind: tuple(sorted(map(format_loc, of_kind))) for kind, of_kind in locs.items()}
    return Changes(**paths, revision=revisions[1] if revisions[0] != revisions[1] else None)


def _equal(first: Any, second: Any) -> bool:
    # In Python 1 equals True.
    return type(first) is type(second) and bool(first == second)


def _fields(model: Any) -> dict[str, Any]:
    """Return the fields of a model. `model_dump` would redact references, so that all references would be equal."""
    return {key: getattr(model, name) for key, name in _document_keys(model.__class__)}


@cache
def _document_keys(model: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    """Return the keys of a model in a document, each with the name of its field."""
    return tuple((field.alias or name, name) for name, field in model.model_fields.items())


def _document_without_equals(snapshot: Snapshot, other: Snapshot) -> dict[str, Any]:
    """Build the document of a snapshot, but omit objects that the other snapshot shares."""
    callers, other_callers = snapshot.callers or {}, other.callers or {}
    document = {
        "callers": _callers((key, caller) for key, caller in callers.items() if other_callers.get(key) != caller),
        "integrations": {
            name: _integration(integration)
            for name, integration in snapshot.integrations.items()
            if other.integrations.get(name) is not integration
        },
        "presets": {
            name: preset.document for name, preset in snapshot.presets.items() if other.presets.get(name) is not preset
        },
    }
    # Both were built from one load of the files if they share its settings.
    return document if snapshot.settings is other.settings else {**_globals(snapshot), **document}


def _globals(snapshot: Snapshot) -> dict[str, Any]:
    """Build the global keys: the settings, with the values that references were resolved to."""
    settings, admin, ca, store = _fields(snapshot.settings), snapshot.admin, snapshot.ca, snapshot.store
    tokens = {name: _token(token) for name, token in admin.tokens.items()}
    oidc = settings["admin"].oidc
    if oidc is not None and admin.oidc is not None:
        resolved = {"client_secret": admin.oidc.client_secret, "trusted_ca": admin.oidc.egress.trust}
        oidc = {**_fields(oidc), **resolved}
    return {
        **settings,
        "jwt_issuers": snapshot.jwt_issuers,
        "listen": {**_fields(settings["listen"]), "tls": snapshot.listen.tls},
        "admin": {**_fields(settings["admin"]), "tokens": tokens, "tls": admin.certificate, "oidc": oidc},
        "ca": {**_fields(settings["ca"]), "certificate": ca.operator_ca, "extra_roots": ca.extra_roots},
        "network": {**_fields(settings["network"]), "trusted_ca": snapshot.trust, "proxy": snapshot.network.proxy},
        "store": None if store is None else {**_fields(settings["store"]), "keys": store.keys, "url": store.url},
    }


def _token(token: AdminToken) -> dict[str, Any]:
    return {
        "token": token.digest,
        "role": token.role,
        "presets": token.presets,
        "per_minute": token.per_minute,
        "per_day": token.per_day,
    }


def _callers(entries: Iterable[tuple[bytes, Caller]]) -> dict[str, dict[str, Any]]:
    """Return the callers with these keys by name. A key that both snapshots have is omitted."""
    callers: dict[str, dict[str, Any]] = {}
    for key, caller in entries:
        granted = {"integrations": caller.integrations, "presets": caller.presets}
        document = callers.setdefault(caller.name, {name: "*" if ids is None else ids for name, ids in granted.items()})
        document[key_kind(key)] = key
    return callers


def _integration(integration: Integration) -> Any:
    if integration.settings is None:
        # A stored integration that cannot be used has no settings.
        return integration.kind
    document = _fields(integration.settings)
    if document["trusted_ca"] is not None:
        # Contains the digest of the file, which the settings only name.
        document["trusted_ca"] = integration.egress.trust
    if isinstance(integration.egress.proxy, ParentProxy):
        document["proxy"] = integration.egress.proxy
    return document


def _changed_secrets(before: Integration, after: Integration) -> Iterator[Loc]:
    """Yield the locations of secrets that changed, or that only one of the snapshots could read."""
    old, new = dict(before.digests), dict(after.digests)
    differing = (keys for keys in old.keys() | new.keys() if old.get(keys) != new.get(keys))
    yield from (("integrations", after.id, *keys) for keys in differing)


def _is_within(loc: Loc, others: set[Loc]) -> bool:
    return any(loc[:length] in others for length in range(1, len(loc) + 1))
