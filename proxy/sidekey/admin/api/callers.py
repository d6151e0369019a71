"""`/callers`: who may send requests, and for which integrations. A caller's token is shown once, when it is made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from typing import Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import altered_in, is_altered, name_in, page_of
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, not_found
from sidekey.admin.api.route import JSON, MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.service import Service, expect
from sidekey.runtime.snapshot import Caller, Snapshot
from sidekey.settings.stored.overlaps import overlap_for
from sidekey.settings.stored.reading import instant
from sidekey.settings.values import check_name
from sidekey.store.records import CallerRow, new_row
from sidekey.store.state import Delete, Put, State
from sidekey.store.tokens import new_token

MOST: Final = 10_000
"""IDs that one caller may list."""

_KEYS: Final = ("integrations",)
_ABOUT: Final = frozenset({"name", "source", "version", "status", "created_at", "updated_at", "updated_by"})


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    return await service.answer(_page, service, ask.query.get("after", ""))


async def read(service: Service, ask: Ask) -> Answer:
    """One of them."""
    name = ask.names["name"]
    of_file = _of_file(service, name)
    if of_file is not None:
        return Answer.of(_shown_of_file(of_file))
    row = _found(service.store.state, name)
    if row is None:
        raise not_found()
    return await service.run(_answer, row)


async def create(service: Service, ask: Ask) -> Answer:
    """Save a new one; the response is the only one that shows its token."""
    name = name_in(ask.document)
    granted = await service.run(_granted, ask.document, False, ())
    if _of_file(service, name) is not None:
        raise ApiProblem("exists", "a config file has a caller of this name: choose another")
    token, digest = new_token()
    now = int(time.time())
    row = CallerRow(
        row=new_row(),
        id=name,
        token_sha256=digest,
        integrations=granted,
        created_at=now,
        updated_at=now,
        updated_by=ask.operator.name,
    )
    await service.run(_refuse_overlap, service.snapshot, row)
    state = await service.commit(ask, [Put(row, None)], ("/integrations", "token"))
    return await service.run(_answer, state.callers[name], token)


async def replace(service: Service, ask: Ask) -> Answer:
    """Change what it may use. Its token stays."""
    return await _change(service, ask, required=True)


async def patch(service: Service, ask: Ask) -> Answer:
    """The same, where left out means: stays."""
    return await _change(service, ask, required=False)


async def _change(service: Service, ask: Ask, *, required: bool) -> Answer:
    row = await _stored(service, ask)
    version = expect(row, ask.version)
    if _is_altered(row):
        raise is_altered()
    if ask.document.get("name", row.id) != row.id:
        raise invalid([ItemError("/name", "must be the name in the path: a caller keeps its name")])
    granted = await service.run(_granted, ask.document, required, row.integrations)
    if granted == row.integrations:
        return await service.run(_answer, row)
    changed = replaced(row, integrations=granted, updated_at=int(time.time()), updated_by=ask.operator.name)
    await service.run(_refuse_overlap, service.snapshot, changed)
    state = await service.commit(ask, [Put(changed, version)], ("/integrations",))
    return await service.run(_answer, state.callers[row.id])


async def delete(service: Service, ask: Ask) -> Answer:
    """Delete it: its token lets nobody in any more."""
    row = await _stored(service, ask)
    await service.commit(ask, [Delete(row, expect(row, ask.version))])
    return Answer(204)


def _refuse_overlap(snapshot: Snapshot, row: CallerRow) -> None:
    listed = None if row.integrations is None else frozenset(row.integrations)
    found = overlap_for(snapshot, Caller(row.id, listed))
    if found is not None:
        pair = f"{found.first} and {found.second}"
        raise ApiProblem("overlaps", f"integrations {pair} both cover {found.where}: list one of them, or narrow one")


async def _stored(service: Service, ask: Ask) -> CallerRow:
    name = ask.names["name"]
    if _of_file(service, name) is not None:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    row = _found(await service.now(), name)
    if row is None:
        raise not_found()
    return row


def _found(state: State, name: str) -> CallerRow | None:
    row = state.callers.get(name)
    return _altered(state).get(name) if row is None else row


def _altered(state: State) -> dict[str, CallerRow]:
    """In place of rows that are not to be relied upon: callers that nobody is."""
    lines = altered_in(state, CallerRow.kind).values()
    return {each.id: CallerRow(row=each.row, id=each.id, version=each.version, token_sha256="") for each in lines}


def _is_altered(row: CallerRow) -> bool:
    return not row.token_sha256


def _of_file(service: Service, name: str) -> Caller | None:
    return service.file_callers.get(name)


def _answer(row: CallerRow, token: str = "") -> Answer:
    """The response that shows a caller; with its token where it was just made. It may list thousands of IDs."""
    if not token:
        return Answer.of(_shown(row), version=row.version)
    shown = {**_shown(row), "token": token}
    return Answer.of(shown, status=201, version=row.version, location=f"{PREFIX}/callers/{row.id}")


def _page(service: Service, after: str) -> dict[str, Any]:
    of_files = {name: _shown_of_file(caller) for name, caller in service.file_callers.items()}
    state = service.store.state
    stored = {name: _shown(row) for name, row in {**_altered(state), **state.callers}.items()}
    return page_of({**stored, **of_files}, after)


def _shown(row: CallerRow) -> dict[str, Any]:
    altered = _is_altered(row)
    return {
        "name": row.id,
        "source": "store",
        "version": row.version,
        "status": "altered" if altered else "ok",
        "integrations": _written(row.integrations),
        "created_at": None if altered else instant(row.created_at),
        "updated_at": None if altered else instant(row.updated_at),
        "updated_by": row.updated_by or None,
    }


def _shown_of_file(caller: Caller) -> dict[str, Any]:
    return {
        "name": caller.name,
        "source": "file",
        "version": None,
        "status": "ok",
        "integrations": _written(None if caller.integrations is None else sorted(caller.integrations)),
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


def _written(granted: Sequence[str] | None) -> Any:
    return "*" if granted is None else list(granted)


def _granted(sent: Mapping[str, Any], required: bool, of: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """What a caller may use, as it was sent; `of` where it was left out, and is not `required`. Raises ApiProblem."""
    errors = [ItemError("", "must have no other keys than name and integrations") for key in sent if _is_other(key)]
    raw = sent.get("integrations")
    granted = of
    if "integrations" not in sent:
        errors += [ItemError("/integrations", 'is missing: send a list of IDs, or "*" for all')] if required else []
    elif raw == "*":
        granted = None
    elif not isinstance(raw, list) or len(raw) > MOST:
        errors.append(ItemError("/integrations", f'must be a list of at most {MOST} IDs, or "*" for all'))
    else:
        errors += _errors(raw)
        granted = tuple(dict.fromkeys(raw)) if not errors else of
    if errors:
        raise invalid(dict.fromkeys(errors))
    return granted


def _is_other(key: str) -> bool:
    return key not in _KEYS and key not in _ABOUT


def _errors(raw: Sequence[Any]) -> list[ItemError]:
    errors = []
    for index, each in enumerate(raw):
        try:
            check_name(each if isinstance(each, str) else "")
        except ValueError as error:
            errors.append(ItemError(f"/integrations/{index}", str(error)))
    return errors


_AFTER: Final = {"after": {"type": "string", "description": "`next` of the page before."}}
_COMMON: Final = ("read_only", "not_found", "invalid", "overlaps", "store_unavailable")

ROUTES: Final = (
    Route(
        method="GET",
        path="/callers",
        name="listCallers",
        summary="List callers of files and of the store, by name.",
        role="admin",
        handle=browse,
        query=_AFTER,
        gives="Callers",
    ),
    Route(
        method="POST",
        path="/callers",
        name="createCaller",
        summary="Let a caller in. Its token is in this response and in no other.",
        role="admin",
        handle=create,
        body="NewCaller",
        gives="CallerWithToken",
        status=201,
        codes=("exists", "invalid", "overlaps", "store_unavailable"),
        writes="caller",
        action="create",
    ),
    Route(
        method="GET",
        path="/callers/{name}",
        name="getCaller",
        summary="Read a caller.",
        role="admin",
        handle=read,
        gives="Caller",
        codes=("not_found",),
    ),
    Route(
        method="PUT",
        path="/callers/{name}",
        name="replaceCaller",
        summary="Replace what a caller may use. Its token stays.",
        role="admin",
        handle=replace,
        body="CallerDocument",
        gives="Caller",
        conditional=True,
        codes=_COMMON,
        writes="caller",
        action="update",
    ),
    Route(
        method="PATCH",
        path="/callers/{name}",
        name="patchCaller",
        summary="The same; what is left out stays.",
        role="admin",
        handle=patch,
        body="Patch",
        accepts=(MERGE_PATCH, JSON),
        gives="Caller",
        conditional=True,
        codes=_COMMON,
        writes="caller",
        action="update",
    ),
    Route(
        method="DELETE",
        path="/callers/{name}",
        name="deleteCaller",
        summary="Delete a caller: its token lets nobody in any more.",
        role="admin",
        handle=delete,
        status=204,
        conditional=True,
        codes=("read_only", "not_found", "store_unavailable"),
        writes="caller",
        action="delete",
    ),
)
