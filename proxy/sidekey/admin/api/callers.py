"""`/callers`: who may send requests, and which integrations and presets they may use."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from sidekey.admin.api.messages import ApiRequest, ApiResult
from sidekey.admin.api.problems import ApiProblem, not_found
from sidekey.admin.api.resources import (
    After,
    Body,
    Instant,
    Key,
    Members,
    Named,
    Page,
    Patch,
    Sent,
    altered_in,
    document_in,
    is_altered,
    keys,
    name_in,
    other_name,
    page_of,
    read_body,
    stored_problem,
)
from sidekey.admin.api.route import MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.service import Service, exists_already, expect, not_there
from sidekey.credentials.fields import AtMost
from sidekey.runtime.snapshot import Caller as ServedCaller
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.stored.document import merge_patch
from sidekey.settings.stored.overlaps import overlap_for
from sidekey.settings.stored.rows import caller_fields
from sidekey.settings.values import CallerGrants, Name
from sidekey.store.records import CallerRow, new_row
from sidekey.store.state import Delete, Put, State
from sidekey.store.tokens import new_token

_INTEGRATIONS: Final = 'IDs of integrations, or `"*"` for all. IDs that do not exist yet count once they do.'
_PRESETS: Final = 'IDs of presets, or `"*"` for all. IDs that do not exist yet count once they do.'


class CallerMembers(Members, Named):
    """The members of a caller that its document does not have."""

    updated_at: Instant | None
    updated_by: str | None


class Caller(CallerMembers):
    """A caller."""

    integrations: Literal["*"] | list[str] = Field(description=_INTEGRATIONS)
    presets: Literal["*"] | list[str] = Field(description=_PRESETS)


class CallerWithToken(Caller):
    """A new caller with its token."""

    token: str = Field(description="The token, shown in this response alone.")


class Callers(Page[Caller]):
    """A page of callers."""


class _NewName(Body):
    name: Name


class CallerDocument(Sent):
    """The permissions of a caller."""

    read_only = CallerMembers

    integrations: Annotated[CallerGrants, AtMost(10_000)] = Field(description=_INTEGRATIONS)
    presets: Annotated[CallerGrants, AtMost(10_000)] = Field(default=(), description=_PRESETS)


class NewCaller(CallerDocument, _NewName):
    """A caller to create."""

    integrations: Annotated[CallerGrants, AtMost(10_000)] = Field(default=(), description=_INTEGRATIONS)


async def browse(service: Service, request: ApiRequest) -> ApiResult:
    """Respond with a page of callers."""
    return await service.respond(_page, service, request.query)


async def read(service: Service, request: ApiRequest) -> ApiResult:
    """Respond with one caller: if a file and the store have the name, the stored one, as it can be changed."""
    name = request.names["name"]
    in_file = service.file_caller(name)
    row = _find(service.store.state, name)
    if row is not None:
        return await service.run(_result, row, in_file is not None)
    if in_file is None:
        raise not_found()
    return await service.respond(_shown_of_file, in_file)


async def create(service: Service, request: ApiRequest) -> ApiResult:
    """Save a new caller. Only this response contains its token."""
    sent = await service.read(NewCaller, request)
    return await _create(service, request, sent.name, sent)


async def _create(service: Service, request: ApiRequest, name: str, sent: CallerDocument) -> ApiResult:
    if service.file_caller(name) is not None:
        raise ApiProblem("exists", "a config file has a caller of this name: choose another")
    token, digest = new_token()
    now = int(time.time())
    row = CallerRow(
        row=new_row(),
        id=name,
        token_sha256=digest,
        integrations=sent.integrations,
        presets=sent.presets,
        created_at=now,
        updated_at=now,
        updated_by=request.operator.name,
    )
    return await _save(service, request, row, None, caller_fields(row, None), token=token)


async def replace(service: Service, request: ApiRequest) -> ApiResult:
    """Replace the permissions of a caller, whose token stays, or create a caller."""
    if not request.condition.absent:
        row, version = await _changeable(service, request)
        return await _change(service, request, row, version, request.document)
    name, wrong = name_in(request.names, "name")
    sent = await service.read(CallerDocument, request, [*wrong, *other_name(request.document, "name", name)])
    try:
        return await _create(service, request, name, sent)
    except ApiProblem as problem:
        raise exists_already(problem) from None


async def patch(service: Service, request: ApiRequest) -> ApiResult:
    """Change permissions of a caller; omitted keys stay."""
    row, version = await _changeable(service, request)
    before = {"integrations": _written(row.integrations), "presets": _written(row.presets)}
    merged = merge_patch(before, document_in(request.document, CallerMembers), lambda _: False)
    return await _change(service, request, row, version, merged)


async def _changeable(service: Service, request: ApiRequest) -> tuple[CallerRow, int]:
    row = await _stored(service, request)
    version = expect(row, request.condition)
    if _is_altered(row):
        raise is_altered()
    return row, version


async def _change(
    service: Service, request: ApiRequest, row: CallerRow, version: int, document: Mapping[str, Any]
) -> ApiResult:
    wrong = other_name(request.document, "name", row.id)
    sent = await service.validate(read_body, CallerDocument, document, wrong)
    changed = replaced(
        row,
        integrations=sent.integrations,
        presets=sent.presets,
        updated_at=int(time.time()),
        updated_by=request.operator.name,
    )
    fields = caller_fields(changed, row)
    if not fields:
        return await service.run(_result, row, service.file_caller(row.id) is not None)
    return await _save(service, request, changed, version, fields)


async def _save(
    service: Service,
    request: ApiRequest,
    row: CallerRow,
    expected: int | None,
    fields: Sequence[str],
    *,
    token: str = "",
) -> ApiResult:
    await service.validate(_refuse_overlap, service.snapshot, row)
    state = await service.commit(request, [Put(row, expected)], fields)
    return await service.run(_result, state.callers[row.id], service.file_caller(row.id) is not None, token)


async def delete(service: Service, request: ApiRequest) -> ApiResult:
    """Delete a caller, whose token is then refused."""
    row = await _stored(service, request)
    await service.commit(request, [Delete(row, expect(row, request.condition))])
    return ApiResult(204)


def _refuse_overlap(snapshot: Snapshot, row: CallerRow) -> None:
    listed = None if row.integrations is None else frozenset(row.integrations)
    found = overlap_for(snapshot, ServedCaller(row.id, listed))
    if found is not None:
        pair = f"{found.first} and {found.second}"
        raise ApiProblem("overlaps", f"integrations {pair} both cover {found.where}: list one of them, or narrow one")


async def _stored(service: Service, request: ApiRequest) -> CallerRow:
    name = request.names["name"]
    row = _find(await service.now(), name)
    if row is not None:
        return row
    if service.file_caller(name) is not None:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    raise not_there(request.condition)


def _find(state: State, name: str) -> CallerRow | None:
    row = state.callers.get(name)
    return _altered(state).get(name) if row is None else row


def _altered(state: State) -> dict[str, CallerRow]:
    """Return stand-ins for rows whose MAC does not verify: callers without a token."""
    lines = altered_in(state, CallerRow.kind).values()
    return {each.id: CallerRow(row=each.row, id=each.id, version=each.version, token_sha256="") for each in lines}


def _is_altered(row: CallerRow) -> bool:
    return not row.token_sha256


def _result(row: CallerRow, in_file: bool, token: str = "") -> ApiResult:
    """Return the response for a stored caller; a new one has a `token`."""
    shown = _shown(row, in_file)
    if not token:
        return ApiResult.of(shown, version=row.version)
    created = CallerWithToken(**dict(shown), token=token)
    return ApiResult.of(created, status=201, version=row.version, location=f"{PREFIX}/callers/{row.id}")


def _page(service: Service, query: After) -> BaseModel:
    files, state = service.file_callers, service.store.state
    stored = {**_altered(state), **state.callers}

    def item(key: Key) -> Caller:
        if key.source == "file":
            return _shown_of_file(files[key.name])
        return _shown(stored[key.name], key.name in files)

    items, following = page_of(keys(files, stored), query.after, item)
    return Callers(items=items, next=following)


def _shown(row: CallerRow, in_file: bool) -> Caller:
    altered = _is_altered(row)
    problem = stored_problem("caller", altered=altered, file=in_file)
    return Caller(
        name=row.id,
        source="store",
        version=row.version,
        status="unusable" if problem else "ok",
        problem=problem or None,
        integrations=_written(row.integrations),
        presets=_written(row.presets),
        created_at=None if altered else row.created_at,
        updated_at=None if altered else row.updated_at,
        updated_by=row.updated_by or None,
    )


def _shown_of_file(caller: ServedCaller) -> Caller:
    return Caller(
        name=caller.name,
        source="file",
        version=None,
        status="ok",
        problem=None,
        integrations=_written(None if caller.integrations is None else sorted(caller.integrations)),
        presets=_written(None if caller.presets is None else sorted(caller.presets)),
        created_at=None,
        updated_at=None,
        updated_by=None,
    )


def _written(granted: Sequence[str] | None) -> Any:
    return "*" if granted is None else list(granted)


_ALL: Final = partial(Route, path="/callers", role="admin")
_ONE: Final = partial(Route, path="/callers/{name}", role="admin")
_CHANGE: Final = partial(
    _ONE,
    conditional=True,
    codes=("read_only", "not_found", "invalid", "overlaps"),
    writes="caller",
    action="update",
    gives=Caller,
)

ROUTES: Final = (
    _ALL(
        method="GET",
        name="listCallers",
        summary="List callers of files and of the store, by name.",
        handle=browse,
        query=After,
        gives=Callers,
    ),
    _ALL(
        method="POST",
        name="createCaller",
        summary="Create a caller. Only this response contains its token.",
        handle=create,
        body=NewCaller,
        gives=CallerWithToken,
        status=201,
        codes=("exists", "invalid", "overlaps"),
        writes="caller",
        action="create",
    ),
    _ONE(
        method="GET",
        name="getCaller",
        summary="Read a caller.",
        handle=read,
        gives=Caller,
        codes=("not_found",),
    ),
    _CHANGE(
        method="PUT",
        name="replaceCaller",
        summary="Replace the permissions of a caller; without `presets` it may use none. Its token stays. "
        "`If-None-Match: *` creates a caller, and only that response contains its token.",
        handle=replace,
        creates=CallerWithToken,
        body=CallerDocument,
    ),
    _CHANGE(
        method="PATCH",
        name="patchCaller",
        summary="Change the permissions of a caller. Omitted keys stay.",
        handle=patch,
        body=Patch,
        accepts=(MERGE_PATCH,),
    ),
    _CHANGE(
        method="DELETE",
        name="deleteCaller",
        summary="Delete a caller, whose token is then refused.",
        handle=delete,
        gives=None,
        status=204,
        codes=("read_only", "not_found"),
        action="delete",
    ),
)
