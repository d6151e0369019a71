"""`/integrations`: list, create, read, change and delete. Responses never contain the config of one in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.api.collection import Collection, CollectionModels, ResourceChange, RouteSummaries
from sidekey.api.handlers.kinds import search_text_by_name
from sidekey.api.handlers.usage import DayUsage, day_usage
from sidekey.api.integration_rows import build_integration, refuse_deletion
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import (
    After,
    Described,
    Identified,
    Instant,
    Members,
    OneOf,
    Page,
    ResourceView,
    SubmittedDocument,
    contains_words,
    members_of,
)
from sidekey.api.service import ApiServices
from sidekey.api.statuses import StatusView, served_integration
from sidekey.config import profiles
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import MalformedError, SavedDocument
from sidekey.config.stored.rows import NewRow, document_for_api
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import MAX_TITLE_LENGTH
from sidekey.credentials.base import KindSettings
from sidekey.credentials.fields import HIDDEN_FROM_VIEWERS, mapping
from sidekey.credentials.registry import KINDS
from sidekey.policy.targets import Policy
from sidekey.snapshot.snapshot import Integration as ServedIntegration
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.status import EXPIRING_SECONDS, FAILING_AFTER, STATUSES, IntegrationStatus, Status
from sidekey.store.errors import StoreError
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State

_MAX_HOSTS: Final = 10
"""Maximum hosts of an item."""

_MAX_TAGS: Final = 200
"""Maximum tags of a page."""


class IntegrationMembers(Members, Identified):
    """The members of an integration that its document does not have."""

    status: Status = Field(
        description="The last one that applies. `expiring`: its client certificate expires within "
        f"{EXPIRING_SECONDS // 86_400} days. `failing`: its last {FAILING_AFTER} requests got 401, 403 or 5xx, or "
        "failed. "
        "`unusable`: no request is sent with its credential."
    )
    expires_at: Instant | None = Field(description="When its client certificate expires; null: unknown, or none.")
    failing_since: Instant | None = Field(
        description="When the first of its last failures was, in any process; null: fewer than "
        f"{FAILING_AFTER} followed one another."
    )
    kind: str | None
    base: str | None = Field(description="The URL to which the reverse proxy appends the path.")
    hosts: list[str] = Field(
        description=f"The hosts that its credential may go to, `*.` before a suffix; at most {_MAX_HOSTS}."
    )
    updated_at: Instant | None
    updated_by: str | None
    warnings: list[str] = Field(
        default=[], description="Only in the response to a change: what will not work as the document is."
    )


class Integration(IntegrationSettings, IntegrationMembers):
    """An integration. It has no `auth` if it is in a file, or if its row fails verification."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(
            required=[name for name, field in IntegrationMembers.model_fields.items() if field.is_required()]
        )
    )


class IntegrationDocument(Described, IntegrationSettings, SubmittedDocument):
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
    """Parts of an integration that viewers do not see: `keys` of its `auth`, and `paths` that its profile fills in."""

    keys: frozenset[str]
    paths: frozenset[str]


def hidden_from_viewers(kind: type[KindSettings], provider: object) -> Hidden:
    """Return the client identifiers: keys with the mark `HIDDEN_FROM_VIEWERS`, and the parameters that fill them."""
    names = frozenset(name for name, field in kind.model_fields.items() if HIDDEN_FROM_VIEWERS in field.metadata)
    paths = frozenset(f"auth.{name}" for name in names)
    if provider not in profiles.provider_names():
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
        members=IntegrationMembers,
        resource=Integration,
        created=Integration,
        new=NewIntegration,
        document=IntegrationDocument,
        page=Integrations,
        query=IntegrationFilter,
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
        """Return the IDs in config files."""
        return (name for name, integration in snapshot.integrations.items() if not integration.stored)

    def view(self, name: str, row: IntegrationRow | None, statuses: StatusView) -> ResourceView:
        """Build the response for an integration.

        For one in a file, the document has only the texts for people, because the file may be secret. A stored
        integration whose MAC does not verify has no document.
        """
        view = _view(name, row, statuses.snapshot)
        document: Mapping[str, Any] = {}
        if row is None:
            document = view.texts()
        elif row.verified:
            with suppress(MalformedError):
                document = document_for_api(row)
        return ResourceView(IntegrationMembers(**_members(view, statuses)), document)

    def item(self, name: str, row: IntegrationRow | None, statuses: StatusView, query: Any) -> IntegrationItem | None:
        """Build an item of the list, or return None if it does not match the query."""
        # The cheapest filter first: there may be ten thousand integrations, of which a page shows fifty.
        if query.status and _status(name, row, statuses).status != query.status:
            return None
        view = _view(name, row, statuses.snapshot)
        if not _matches(view, query):
            return None
        return IntegrationItem(**_members(view, statuses), **view.texts())

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove the keys that viewers do not see, or `auth` if this version does not know its keys."""
        auth = mapping(document.get("auth"))
        kind, provider = KINDS.get(str(auth.get("type"))), auth.get("provider")
        if kind is None or (provider is not None and provider not in profiles.provider_names()):
            return {key: value for key, value in document.items() if key != "auth"}
        hidden = hidden_from_viewers(kind, provider).keys
        return {**document, "auth": {key: value for key, value in auth.items() if key not in hidden}}

    def build(
        self, change: ResourceChange[IntegrationRow], snapshot: Snapshot, sealing_keys: SealingKeys
    ) -> NewRow[IntegrationRow]:
        """Build the row of a change. Raises ApiProblem with all errors."""
        return build_integration(change, snapshot, sealing_keys)

    def refuse_deletion(self, row: IntegrationRow, state: State, snapshot: Snapshot) -> None:
        """Raise ApiProblem if presets use the integration, unless a file has the same ID: then they use that one."""
        if not self.is_in_file(snapshot, row.id):
            refuse_deletion(row.id, state, snapshot)

    async def warnings(self, service: ApiServices, name: str) -> Sequence[str]:
        """Look up the hosts of a saved integration, and report those to which Sidekey may not connect."""
        integration = served_integration(service.snapshot, name, stored=True)
        if integration is None:
            return ()
        policy = integration.policy
        origins = {prefix.origin: "endpoint_prefix" for prefix in policy.prefixes}
        for domain in policy.domains:
            if not domain.wildcard:
                origins.setdefault(domain.origin, "allowed_domains")
        checked = [*islice(origins, _MAX_HOSTS)]
        reasons = await asyncio.gather(*(service.find_denial(origin, integration.egress) for origin in checked))
        return [
            f"`{origins[origin]}`: requests to {origin} are denied now: {reason}"
            for origin, reason in zip(checked, reasons, strict=True)
            if reason
        ]

    async def browse(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Respond with a page of the list, with the usage of its items if the query includes it."""
        page = await service.run(self.page, service.store.state, service.statuses, request.query)
        if request.query.include:
            # Without the store, respond with the list alone.
            with suppress(StoreError):
                usage = await day_usage(service, [item.id for item in page.items])
                items = [item.model_copy(update={"usage": usage[item.id]}) for item in page.items]
                page = page.model_copy(update={"items": items})
        return await service.run(ApiResult.of, page)

    def page_members(self, state: State, snapshot: Snapshot) -> dict[str, Any]:
        """Return the tags to filter by."""
        tags = {tag for integration in snapshot.integrations.values() for tag in integration.tags}
        for row in state.integrations.values():
            if served_integration(snapshot, row.id, stored=True) is None:
                tags.update(_texts(_saved_content(row).get("tags")))
        return {"tags": sorted(tags)[:_MAX_TAGS]}


def _members(view: _View, statuses: StatusView) -> dict[str, Any]:
    status = _status(view.id, view.row, statuses)
    return {
        **members_of(view.row, status.problem),
        "status": status.status,
        "expires_at": status.expires_at,
        "failing_since": status.failing_since,
        "id": view.id,
        "kind": view.kind,
        "base": view.base,
        "hosts": list(islice(dict.fromkeys(view.hosts()), _MAX_HOSTS)),
    }


def _status(name: str, row: IntegrationRow | None, statuses: StatusView) -> IntegrationStatus:
    return statuses.of_served(statuses.snapshot.integrations[name]) if row is None else statuses.of_stored(row)


def _saved_content(row: IntegrationRow) -> Mapping[str, Any]:
    if not row.verified:
        return {}
    try:
        return SavedDocument.load(row.document).content
    except MalformedError:
        return {}


def _text(content: object) -> str | None:
    """Return the string, or None for another type: another version of Sidekey may have saved the document."""
    return content if isinstance(content, str) else None


class _View(NamedTuple):
    """The parts of an integration that lists show and search. `row` is None for an integration in a file.

    `hosts` is a function because most items of a list are filtered out before their hosts matter.
    """

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
        """Return the members that the operator wrote for other people to read."""
        return {"title": self.title, "description": self.description, "tags": list(self.tags)}


def _view(name: str, row: IntegrationRow | None, snapshot: Snapshot) -> _View:
    integration = served_integration(snapshot, name, stored=row is not None)
    base = None if integration is None or integration.base is None else str(integration.base)
    if integration is not None and (row is None or integration.rebuild is None):
        return _View(
            name,
            row,
            integration.title,
            integration.description,
            integration.tags,
            integration.kind,
            _provider(integration),
            base,
            partial(_hosts, integration.policy),
        )
    content = {} if row is None else _saved_content(row)
    auth = mapping(content.get("auth"))
    return _View(
        name,
        row,
        _text(content.get("title")) or "",
        _text(content.get("description")) or "",
        _texts(content.get("tags")),
        _text(auth.get("type")),
        _text(auth.get("provider")),
        base,
        partial(_hosts_in, content),
    )


def _provider(integration: ServedIntegration) -> str | None:
    """Return the provider of an integration in the snapshot."""
    settings = integration.settings
    return getattr(settings.auth, "provider", None) if isinstance(settings, IntegrationSettings) else None


def _hosts(policy: Policy) -> Iterator[str]:
    """Yield the hosts of a policy, in lower case."""
    for prefix in policy.prefixes:
        yield prefix.origin.host
    for domain in policy.domains:
        yield f"*.{domain.origin.host}" if domain.wildcard else domain.origin.host


def _hosts_in(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the hosts of a document that is not in the snapshot. Its URLs may be invalid."""
    for url in (*_texts(document.get("endpoint_prefix")), *_texts(document.get("allowed_domains"))):
        yield url.partition("://")[2].partition("/")[0]


def _texts(content: object) -> list[str]:
    """Return the strings of a list, or a single string as a list."""
    values = content if isinstance(content, list) else [content]
    return [value for value in values if isinstance(value, str)]


def _matches(view: _View, query: IntegrationFilter) -> bool:
    if query.tag and query.tag not in view.tags:
        return False
    if query.kind and query.kind != view.kind:
        return False
    return not query.q or contains_words(query.q, _searched(view))


def _searched(view: _View) -> tuple[str, ...]:
    texts = search_text_by_name()
    kind_and_provider = (texts.get(view.kind or "", ""), texts.get(view.provider or "", ""))
    return (view.id, view.title, view.description, *view.tags, *view.hosts(), *kind_and_provider)


INTEGRATIONS: Final = IntegrationCollection()

ROUTES: Final = INTEGRATIONS.routes()
