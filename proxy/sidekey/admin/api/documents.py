"""How integrations are shown: what is stored, what a file says, and both in a list. Called in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from sidekey.admin.api.named import Key, keys, page_of
from sidekey.admin.api.standings import Standings, served
from sidekey.core.policy import Policy
from sidekey.credentials.base import KindSettings
from sidekey.credentials.fields import HIDDEN_FROM_VIEWERS, mapping
from sidekey.credentials.registry import KINDS
from sidekey.runtime.snapshot import Integration
from sidekey.runtime.standing import Standing
from sidekey.settings import profiles
from sidekey.settings.stored.document import MalformedError, Saved
from sidekey.settings.stored.reading import instant, shown
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State

ABOUT: Final = frozenset(
    {
        "id",
        "source",
        "version",
        "status",
        "problem",
        "usable",
        "expires_at",
        "failing_since",
        "kind",
        "base",
        "created_at",
        "updated_at",
        "updated_by",
    }
)
"""What is said of an integration beside its document; sent back, only `id` counts, which must be the same."""

USABLE: Final = "Whether requests are sent with its credential, so that a preset may have it: ok, expiring or failing."
"""What is said of `usable`, in the list and as a filter."""


def whole(row: IntegrationRow, standings: Standings) -> dict[str, Any]:
    """A stored integration with its document, which is left out where it is not to be relied upon."""
    document: Any = {}
    if row.verified:
        try:
            document = shown(row)
        except MalformedError:
            document = {}
    return {"id": row.id, **document, **_about_stored(row, standings)}


def whole_of_file(integration: Integration, standings: Standings) -> dict[str, Any]:
    """What is told of an integration from a file: its config is for whoever may read that."""
    document = {"description": integration.description, "tags": list(integration.tags)}
    return {"id": integration.id, **document, **_about_file(integration, standings)}


class Hidden(NamedTuple):
    """What viewers do not see of an integration: keys of `auth`, and paths that its provider profile fills in."""

    keys: frozenset[str]
    paths: frozenset[str]


def hidden_from_viewers(kind: type[KindSettings], provider: object) -> Hidden:
    """Return the identifiers of clients: the keys that are marked so, and what a profile fills them from."""
    keys = frozenset(name for name, field in kind.model_fields.items() if HIDDEN_FROM_VIEWERS in field.metadata)
    paths = frozenset(f"auth.{key}" for key in keys)
    if provider not in profiles.names():
        return Hidden(keys, paths)
    profile = profiles.profile(str(provider))
    names = profile.names_in(keys) | {name for name in profile.parameters if name.endswith("client_id")}
    brought = frozenset(path for path, text in profile.entries() if any(f"{{{name}}}" in text for name in names))
    return Hidden(keys | names, paths | brought)


def for_viewer(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out of a document what viewers do not see; all of `auth` where this version does not know its keys."""
    auth = mapping(document.get("auth"))
    kind, provider = KINDS.get(str(auth.get("type"))), auth.get("provider")
    if kind is None or (provider is not None and provider not in profiles.names()):
        return {key: value for key, value in document.items() if key != "auth"}
    hidden = hidden_from_viewers(kind, provider).keys
    return {**document, "auth": {key: value for key, value in auth.items() if key not in hidden}}


def _about_stored(row: IntegrationRow, standings: Standings) -> dict[str, Any]:
    integration = served(standings.snapshot, row.id, stored=True)
    return {
        "source": "store",
        "version": row.version,
        **_stands(standings.of_stored(row)),
        "kind": _kind(row, integration),
        "base": _base(integration),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "updated_by": row.updated_by,
    }


def _stands(standing: Standing) -> dict[str, Any]:
    ends, since = standing.expires_at, standing.failing_since
    return {
        "status": standing.status,
        "problem": standing.problem or None,
        "usable": standing.usable,
        "expires_at": None if ends is None else instant(ends),
        "failing_since": None if since is None else instant(since),
    }


def _about_file(integration: Integration, standings: Standings) -> dict[str, Any]:
    return {
        "source": "file",
        "version": None,
        **_stands(standings.of_file(integration)),
        "kind": integration.kind,
        "base": _base(integration),
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


def _kind(row: IntegrationRow, integration: Integration | None) -> str | None:
    if integration is not None and integration.rebuild is None:
        return integration.kind
    return _text(mapping(_written(row).get("auth")).get("type"))


def _written(row: IntegrationRow) -> Mapping[str, Any]:
    if not row.verified:
        return {}
    try:
        return Saved.load(row.document).written
    except MalformedError:
        return {}


def _text(written: object) -> str | None:
    """What this version takes for a text: another one may have written what is stored."""
    return written if isinstance(written, str) else None


def _base(integration: Integration | None) -> str | None:
    return None if integration is None or integration.base is None else str(integration.base)


class Wanted(NamedTuple):
    """Which integrations a list is to have; empty: whichever. `after` is where the page before has ended."""

    q: str = ""
    tag: str = ""
    kind: str = ""
    status: str = ""
    usable: str = ""
    after: str = ""


def page(state: State, standings: Standings, wanted: Wanted) -> dict[str, Any]:
    """A page of all integrations, by ID; where a file and the store have the same, both."""
    wanted = wanted._replace(q=wanted.q.casefold())

    def item(key: Key) -> dict[str, Any] | None:
        # What costs least is asked first: there may be ten thousand, of which a page shows fifty.
        if not _stands_as(key, state, standings, wanted):
            return None
        entry = _entry(key, state, standings)
        return _item(entry, standings) if _is_wanted(entry, wanted) else None

    files = (name for name, each in standings.snapshot.integrations.items() if not each.stored)
    return page_of(keys(files, state.integrations), wanted.after, item)


def _stands_as(key: Key, state: State, standings: Standings, wanted: Wanted) -> bool:
    if not (wanted.status or wanted.usable):
        return True
    name, source = key
    if source == "file":
        standing = standings.of_file(standings.snapshot.integrations[name])
    else:
        standing = standings.of_stored(state.integrations[name])
    if wanted.status and wanted.status != standing.status:
        return False
    return not wanted.usable or (wanted.usable == "true") is standing.usable


class _Entry(NamedTuple):
    """What a list is searched by. `row` None: of a file. `places` tell where it sends."""

    name: str
    description: str
    tags: Sequence[str]
    kind: str | None
    places: Callable[[], Iterable[str]]
    row: IntegrationRow | None


def _entry(key: Key, state: State, standings: Standings) -> _Entry:
    name, source = key
    row = None if source == "file" else state.integrations[name]
    each = served(standings.snapshot, name, stored=row is not None)
    if row is None or (each is not None and each.rebuild is None):
        each = standings.snapshot.integrations[name]
        return _Entry(name, each.description, each.tags, each.kind, partial(_hosts, each.policy), row)
    written = _written(row)
    described = _text(written.get("description")) or ""
    places = partial(_texts, written.get("endpoint_prefix"))
    return _Entry(name, described, _texts(written.get("tags")), _kind(row, each), places, row)


def _hosts(policy: Policy) -> Iterator[str]:
    """The hosts that a policy names, in lower case."""
    for prefix in policy.prefixes:
        yield prefix.origin.host
    for domain in policy.domains:
        yield domain.origin.host


def _texts(written: object) -> list[str]:
    """The texts of a list, or the one that is there instead."""
    every = written if isinstance(written, list) else [written]
    return [each for each in every if isinstance(each, str)]


def _item(entry: _Entry, standings: Standings) -> dict[str, Any]:
    if entry.row is not None:
        about = _about_stored(entry.row, standings)
    else:
        about = _about_file(standings.snapshot.integrations[entry.name], standings)
    return {"id": entry.name, "description": entry.description, "tags": list(entry.tags), **about}


def _is_wanted(entry: _Entry, wanted: Wanted) -> bool:
    if wanted.tag and wanted.tag not in entry.tags:
        return False
    if wanted.kind and wanted.kind != entry.kind:
        return False
    if not wanted.q:
        return True
    found = (entry.name, entry.description, *entry.tags, *entry.places())
    return wanted.q in "\n".join(found).casefold()
