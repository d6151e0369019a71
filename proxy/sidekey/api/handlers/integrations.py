"""`/integrations`: list, create, read, change and delete integrations. Of files they are shown without their config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.api.collection import Collection, CollectionModels, ResourceChange, RouteSummaries
from sidekey.api.handlers.kinds import search_texts
from sidekey.api.handlers.usage import DayUsage, day_usage
from sidekey.api.integration_rows import make_integration, refuse_deletion
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import (
    After,
    Described,
    Identified,
    Instant,
    Members,
    OneOf,
    Page,
    Sent,
    Shown,
    contains,
    members_of,
)
from sidekey.api.service import ApiServices
from sidekey.api.statuses import StatusView, served
from sidekey.config import profiles
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import MalformedError, SavedDocument
from sidekey.config.stored.rows import NewRow, show_document
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import MAX_TITLE_LENGTH
from sidekey.credentials.base import KindSettings
from sidekey.credentials.fields import HIDDEN_FROM_VIEWERS, mapping
from sidekey.credentials.registry import KINDS
from sidekey.policy.targets import Policy
from sidekey.snapshot.snapshot import Integration as ServedIntegration
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.status import EXPIRING, FAILING, STATUSES, IntegrationStatus, Status
from sidekey.store.errors import StoreError
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State

_MAX_HOSTS: Final = 10
"""Hosts of an item of the list."""

_MAX_TAGS: Final = 200
"""Tags of a page of the list."""


class IntegrationMembers(Members, Identified):
    """The members of an integration that its document does not have."""

    status: Status = Field(
        description="The last one that applies. `expiring`: its client certificate expires within "
        f"{EXPIRING // 86_400} days. `failing`: its last {FAILING} requests got 401, 403 or 5xx, or failed. "
        "`unusable`: no request is sent with its credential."
    )
    expires_at: Instant | None = Field(description="When its client certificate expires; null: unknown, or none.")
    failing_since: Instant | None = Field(
        description="When the first of its last failures was, in any process; null: fewer than "
        f"{FAILING} followed one another."
    )
    kind: str | None
    base: str | None = Field(description="The URL to which the reverse proxy appends the path.")
    hosts: list[str] = Field(
        description=f"The hosts that its credential may go to, `*.` before a suffix; at most {_MAX_HOSTS}."
    )
    updated_at: Instant | None
    updated_by: str | None


class Integration(IntegrationSettings, IntegrationMembers):
    """An integration. It has no `auth` if it is in a file, or if its row fails verification."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=[*IntegrationMembers.model_fields])
    )


class IntegrationDocument(Described, IntegrationSettings, Sent):
    """The document of an integration."""

    read_only = IntegrationMembers

    title: Annotated[str, Field(max_length=MAX_TITLE_LENGTH)] = Field(
        default="", description="The name that people see in place of the ID."
    )


class NewIntegration(IntegrationDocument, Identified):
    """An integration to create."""


class IntegrationItem(IntegrationMembers):
    """An integration without its document."""

    title: str
    description: str
    tags: list[str]
    usage: DayUsage | None = Field(default=None, description="With `include=usage`, unless the store cannot be used.")


class Integrations(Page[IntegrationItem]):
    """A page of integrations, and the tags to filter by."""

    tags: list[str] = Field(description=f"The tags of all integrations, sorted; at most {_MAX_TAGS}.")


class IntegrationFilter(After):
    """The query of the list of integrations."""

    q: str = Field(
        default="",
        description="Words, each in ID, title, description, a host, a tag, or a name of its kind or provider.",
    )
    tag: str = Field(default="", description="A tag.")
    kind: Annotated[str, OneOf(tuple(sorted(KINDS)))] = Field(default="", description="The kind of its credential.")
    status: Annotated[str, OneOf(STATUSES)] = Field(default="", description="Its status.")
    include: Annotated[str, OneOf(("usage",))] = Field(
        default="", description="`usage` adds the requests of the last 24 hours to each item."
    )


class Hidden(NamedTuple):
    """The parts of an integration that viewers do not see: keys of `auth`, and paths that its profile fills in."""

    keys: frozenset[str]
    paths: frozenset[str]


def hidden_from_viewers(kind: type[KindSettings], provider: object) -> Hidden:
    """Return the identifiers of clients: the keys that are marked so, and the parameters that a profile puts there."""
    names = frozenset(name for name, field in kind.model_fields.items() if HIDDEN_FROM_VIEWERS in field.metadata)
    paths = frozenset(f"auth.{name}" for name in names)
    if provider not in profiles.names():
        return Hidden(names, paths)
    profile = profiles.profile(str(provider))
    parameters = profile.names_in(names) | {name for name in profile.parameters if name.endswith("client_id")}
    filled = frozenset(path for path, text in profile.entries() if any(f"{{{name}}}" in text for name in parameters))
    return Hidden(names | parameters, paths | filled)


class IntegrationCollection(Collection[IntegrationRow]):
    """Integrations."""

    kind = "integration"
    saving_codes = ("overlaps",)
    update_codes = ("reenter", "in_use")
    delete_codes = ("in_use",)
    models = CollectionModels(
        IntegrationMembers,
        Integration,
        Integration,
        NewIntegration,
        IntegrationDocument,
        Integrations,
        IntegrationFilter,
    )
    summaries = RouteSummaries(
        "Save a new integration, and serve it.",
        "Read an integration of a file or of the store. For a secret, the response says when and by whom it was "
        "entered.",
        "Replace the document, or create it with `If-None-Match: *`. A secret is kept if the request has it as it was "
        "read, and removed if the request omits it.",
        "Change parts of the document (RFC 7396). Omitted keys stay.",
        "Delete an integration with its secrets.",
    )

    def rows(self, state: State) -> Mapping[str, IntegrationRow]:
        """Return the stored integrations by ID."""
        return state.integrations

    def names_in_files(self, snapshot: Snapshot) -> Iterable[str]:
        """Return the IDs that files have."""
        return (name for name, each in snapshot.integrations.items() if not each.stored)

    def shown(self, name: str, row: IntegrationRow | None, standings: StatusView) -> Shown:
        """Show an integration. Only those who may read a file see the config in it.

        A stored one has no document if that cannot be relied upon.
        """
        view = _view(name, row, standings.snapshot)
        document: Mapping[str, Any] = {}
        if row is None:
            document = view.texts()
        elif row.verified:
            with suppress(MalformedError):
                document = show_document(row)
        return Shown(IntegrationMembers(**_members(view, standings)), document)

    def item(self, name: str, row: IntegrationRow | None, standings: StatusView, query: Any) -> IntegrationItem | None:
        """Return an item of the list, or None if it does not match the query."""
        # The cheapest filter first: there may be ten thousand integrations, of which a page shows fifty.
        if query.status and _standing(name, row, standings).status != query.status:
            return None
        view = _view(name, row, standings.snapshot)
        if not _matches(view, query):
            return None
        return IntegrationItem(**_members(view, standings), **view.texts())

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove the keys that viewers do not see, or all of `auth` if this version does not know its keys."""
        auth = mapping(document.get("auth"))
        kind, provider = KINDS.get(str(auth.get("type"))), auth.get("provider")
        if kind is None or (provider is not None and provider not in profiles.names()):
            return {key: value for key, value in document.items() if key != "auth"}
        hidden = hidden_from_viewers(kind, provider).keys
        return {**document, "auth": {key: value for key, value in auth.items() if key not in hidden}}

    def make(
        self, edit: ResourceChange[IntegrationRow], snapshot: Snapshot, vault: SealingKeys
    ) -> NewRow[IntegrationRow]:
        """Make the row of a change. Raises ApiProblem with all errors."""
        return make_integration(edit, snapshot, vault)

    def refuse_deletion(self, row: IntegrationRow, state: State, snapshot: Snapshot) -> None:
        """Raise ApiProblem if presets use the integration, and not one of a file with the same ID."""
        if not self.is_in_file(snapshot, row.id):
            refuse_deletion(row.id, state, snapshot)

    async def browse(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Respond with a page of the list, with the usage of its items if the query includes it."""
        page = await service.run(self.page, service.store.state, service.standings, request.query)
        if request.query.include:
            # While the store is away, the list can be read.
            with suppress(StoreError):
                used = await day_usage(service, [item.id for item in page.items])
                items = [item.model_copy(update={"usage": used[item.id]}) for item in page.items]
                page = page.model_copy(update={"items": items})
        return await service.run(ApiResult.of, page)

    def page_members(self, state: State, snapshot: Snapshot) -> dict[str, Any]:
        """Return the tags to filter by."""
        found = {tag for each in snapshot.integrations.values() for tag in each.tags}
        for row in state.integrations.values():
            if served(snapshot, row.id, stored=True) is None:
                found.update(_texts(_written(row).get("tags")))
        return {"tags": sorted(found)[:_MAX_TAGS]}


def _members(view: _View, standings: StatusView) -> dict[str, Any]:
    standing = _standing(view.id, view.row, standings)
    return {
        **members_of(view.row, standing.problem),
        "status": standing.status,
        "expires_at": standing.expires_at,
        "failing_since": standing.failing_since,
        "id": view.id,
        "kind": view.kind,
        "base": view.base,
        "hosts": list(islice(dict.fromkeys(view.hosts()), _MAX_HOSTS)),
    }


def _standing(name: str, row: IntegrationRow | None, standings: StatusView) -> IntegrationStatus:
    return standings.of_served(standings.snapshot.integrations[name]) if row is None else standings.of_stored(row)


def _written(row: IntegrationRow) -> Mapping[str, Any]:
    if not row.verified:
        return {}
    try:
        return SavedDocument.load(row.document).content
    except MalformedError:
        return {}


def _text(written: object) -> str | None:
    """Return a text, or None: another version of Sidekey may have saved the document."""
    return written if isinstance(written, str) else None


class _View(NamedTuple):
    """The parts of an integration that lists show and search. `row` is None for one of a file."""

    id: str
    row: IntegrationRow | None
    title: str
    description: str
    tags: Sequence[str]
    kind: str | None
    provider: str | None
    base: str | None
    hosts: Callable[[], Iterable[str]]

    def texts(self) -> dict[str, Any]:
        """Return the texts that people have written."""
        return {"title": self.title, "description": self.description, "tags": list(self.tags)}


def _view(name: str, row: IntegrationRow | None, snapshot: Snapshot) -> _View:
    found = served(snapshot, name, stored=row is not None)
    base = None if found is None or found.base is None else str(found.base)
    if found is not None and (row is None or found.rebuild is None):
        return _View(
            name,
            row,
            found.title,
            found.description,
            found.tags,
            found.kind,
            _provider(found),
            base,
            partial(_hosts, found.policy),
        )
    written = {} if row is None else _written(row)
    auth = mapping(written.get("auth"))
    return _View(
        name,
        row,
        _text(written.get("title")) or "",
        _text(written.get("description")) or "",
        _texts(written.get("tags")),
        _text(auth.get("type")),
        _text(auth.get("provider")),
        base,
        partial(_written_hosts, written),
    )


def _provider(integration: ServedIntegration) -> str | None:
    """Return the provider of an integration that is served."""
    settings = integration.written
    return getattr(settings.auth, "provider", None) if isinstance(settings, IntegrationSettings) else None


def _hosts(policy: Policy) -> Iterator[str]:
    """Yield the hosts of a policy, in lower case."""
    for prefix in policy.prefixes:
        yield prefix.origin.host
    for domain in policy.domains:
        yield f"*.{domain.origin.host}" if domain.wildcard else domain.origin.host


def _written_hosts(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the hosts of a document that is not served: its URLs may be invalid."""
    for url in (*_texts(document.get("endpoint_prefix")), *_texts(document.get("allowed_domains"))):
        yield url.partition("://")[2].partition("/")[0]


def _texts(written: object) -> list[str]:
    """Return the texts of a list, or the text in its place."""
    every = written if isinstance(written, list) else [written]
    return [each for each in every if isinstance(each, str)]


def _matches(view: _View, query: IntegrationFilter) -> bool:
    if query.tag and query.tag not in view.tags:
        return False
    if query.kind and query.kind != view.kind:
        return False
    return not query.q or contains(query.q, _searched(view))


def _searched(view: _View) -> tuple[str, ...]:
    names = search_texts()
    of_names = (names.get(view.kind or "", ""), names.get(view.provider or "", ""))
    return (view.id, view.title, view.description, *view.tags, *view.hosts(), *of_names)


INTEGRATIONS: Final = IntegrationCollection()

ROUTES: Final = INTEGRATIONS.routes()
