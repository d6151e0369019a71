"""`/audit` and `/integrations/{id}/activity`: actions of operators, with changed fields but never their values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from sidekey.api.errors import not_found
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, Instant, Page
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot
from sidekey.store.audit import AuditEntry, AuditFilter, AuditPage

_MAX_ID: Final = 1 << 62

_MAX_SEARCH_LENGTH: Final = 200


class Entry(Body):
    """An action of an operator or of a command."""

    number: int
    at: Instant
    who: str = Field(description="The name of an operator, or of a command.")
    label: str = Field(
        description="The name of a person at the OIDC issuer, else empty. People choose it: show `who` too."
    )
    action: str
    fields: list[str] = Field(description="Names or JSON pointers of what was changed.")
    outcome: str = Field(
        description="`ok`, or the code of the problem. A test or send is `sent` until it ends, then also `failed`, or "
        "`unknown` if it may have been sent. A batch is `started`. `more not listed`: further events of this token and "
        "hour have no entry."
    )


class AuditedEntry(Entry):
    """An action with the resource that it changed, and the client's address."""

    object: str = Field(description="`integration`, `preset`, `caller`, `token`, or empty.")
    name: str
    title: str | None = Field(description="The title of an integration or preset that still exists, else null.")
    source: str = Field(
        alias="from",
        description="The client's address, followed by `by` and the proxy's address with `admin.behind_tls`.",
    )


class Activity(Page[Entry]):
    """A page of the actions on one integration."""


class Audit(Page[AuditedEntry]):
    """A page of the audit."""


def _parse_before(raw: object) -> int:
    if not isinstance(raw, str) or not raw.isascii() or not raw.isdecimal() or not 0 < int(raw) < _MAX_ID:
        raise ValueError("must be the `next` of the previous page")
    return int(raw)


def _check_search(text: str) -> str:
    if len(text) > _MAX_SEARCH_LENGTH or not text.isprintable():
        raise ValueError(f"must be at most {_MAX_SEARCH_LENGTH} characters, none of them a control character")
    return text


_Search = Annotated[
    str, AfterValidator(_check_search), WithJsonSchema({"type": "string", "maxLength": _MAX_SEARCH_LENGTH})
]


class Before(Body):
    """The query of a list that goes back in time."""

    before: Annotated[
        int | None,
        PlainValidator(_parse_before),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,18}$"}),
    ] = Field(default=None, description="`next` of the previous page.")


class Search(Before):
    """The query of the audit. A search reads at most 5,000 entries: its page may be empty and have a `next`."""

    q: _Search = Field(default="", description="Words that the texts of the entry contain, in any case.")
    who: _Search = Field(default="", description="A part of `who` or `label`, in any case.")
    object: _Search = Field(default="", description="The whole `object`.")
    name: _Search = Field(default="", description="The whole `name`.")


@partial(Route, "GET", "/audit", "listAudit", permission="admin", query=Search, response=Audit)
async def browse(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List or search the actions of operators, newest first."""
    query: Search = request.query
    search = AuditFilter(q=query.q, who=query.who, kind=query.object, id=query.name)
    page = await service.store.audit_page(before=query.before, audit_filter=search)
    return await service.respond(_audit_page, page, service.snapshot)


@partial(
    Route,
    "GET",
    "/integrations/{id}/activity",
    "listActivity",
    permission="viewer",
    query=Before,
    response=Activity,
    codes=("not_found",),
)
async def activity(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the actions on one integration, newest first."""
    row = service.store.state.integrations.get(request.path_parameters["id"])
    if row is None:
        raise not_found()
    page = await service.store.audit_page(before=request.query.before, row_id=row.row_id)
    return await service.respond(_activity_page, page)


def _activity_page(page: AuditPage) -> Activity:
    return Activity(items=[Entry(**_entry(number, entry)) for number, entry in page.entries], next=_next(page))


def _audit_page(page: AuditPage, snapshot: Snapshot) -> Audit:
    items = [AuditedEntry(**_entry(number, entry), **_resource(entry, snapshot)) for number, entry in page.entries]
    return Audit(items=items, next=_next(page))


def _resource(entry: AuditEntry, snapshot: Snapshot) -> dict[str, Any]:
    resources: Mapping[str, Integration | Preset] = {}
    if entry.kind in ("integration", "preset"):
        resources = snapshot.integrations if entry.kind == "integration" else snapshot.presets
    resource = resources.get(entry.id)
    # By now, a new resource may have the ID.
    title = resource.title if resource is not None and resource.row == entry.row_id else ""
    return {"object": entry.kind, "name": entry.id, "title": title or None, "from": entry.source}


def _entry(number: int, entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": number,
        "at": entry.at,
        "who": entry.who,
        "label": entry.label,
        "action": entry.action,
        "fields": list(entry.fields),
        "outcome": entry.outcome,
    }


def _next(page: AuditPage) -> str | None:
    return None if page.next is None else str(page.next)


ROUTES: Final = (browse, activity)
