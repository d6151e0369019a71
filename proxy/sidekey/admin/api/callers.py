"""`/callers`: who may send requests, for what. A caller's token is shown once, when it is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from functools import partial
from typing import Any, Final, NamedTuple

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import AFTER, Key, about, altered_in, is_altered, keys, name_in, other_name, page_of
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, not_found
from sidekey.admin.api.route import JSON, MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.service import Service, exists_already, expect, not_there
from sidekey.runtime.snapshot import Caller, Snapshot
from sidekey.settings.stored.overlaps import overlap_for
from sidekey.settings.stored.reading import instant
from sidekey.settings.stored.rows import caller_fields
from sidekey.settings.values import check_name
from sidekey.store.records import CallerRow, new_row
from sidekey.store.state import Delete, Put, State
from sidekey.store.tokens import new_token

MOST: Final = 10_000
"""IDs that one caller may list."""

_KEYS: Final = frozenset(
    {
        "name",
        "integrations",
        "presets",
        "source",
        "version",
        "status",
        "problem",
        "created_at",
        "updated_at",
        "updated_by",
    }
)
"""What may be sent: what is said about a caller counts for nothing, so that what was read can be sent."""


class _Granted(NamedTuple):
    """What a caller may use; None: all of them."""

    integrations: tuple[str, ...] | None = ()
    presets: tuple[str, ...] | None = ()

    @classmethod
    def of(cls, row: CallerRow) -> _Granted:
        """What a stored one may use."""
        return cls(row.integrations, row.presets)


_NOTHING: Final = _Granted()


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    return await service.answer(_page, service, ask.query.get("after", ""))


async def read(service: Service, ask: Ask) -> Answer:
    """One of them: where a file has its name as well, the stored one, as it can be changed."""
    name = ask.names["name"]
    of_file = service.file_caller(name)
    row = _found(service.store.state, name)
    if row is not None:
        return await service.run(_answer, row, of_file is not None)
    if of_file is None:
        raise not_found()
    return await service.answer(_shown_of_file, of_file)


async def create(service: Service, ask: Ask) -> Answer:
    """Save a new one; the response is the only one that shows its token."""
    return await _create(service, ask, *name_in(ask.document, "name"))


async def _create(service: Service, ask: Ask, name: str, wrong: Sequence[ItemError]) -> Answer:
    granted = await service.validate(_granted, ask.document, wrong, _NOTHING)
    if service.file_caller(name) is not None:
        raise ApiProblem("exists", "a config file has a caller of this name: choose another")
    token, digest = new_token()
    now = int(time.time())
    row = CallerRow(
        row=new_row(),
        id=name,
        token_sha256=digest,
        integrations=granted.integrations,
        presets=granted.presets,
        created_at=now,
        updated_at=now,
        updated_by=ask.operator.name,
    )
    return await _save(service, ask, row, None, caller_fields(row, None), token=token)


async def replace(service: Service, ask: Ask) -> Answer:
    """Change what it may use: its token stays. Or save a new one."""
    if ask.condition.absent:
        name, wrong = name_in(ask.names, "name")
        try:
            return await _create(service, ask, name, [*wrong, *other_name(ask.document, "name", ask.names["name"])])
        except ApiProblem as problem:
            raise exists_already(problem) from None
    missing = ItemError("/integrations", 'is missing: send a list of IDs, or "*" for all')
    return await _change(service, ask, [] if "integrations" in ask.document else [missing], lambda _: _NOTHING)


async def patch(service: Service, ask: Ask) -> Answer:
    """The same, where left out means: stays."""
    return await _change(service, ask, [], _Granted.of)


async def _change(
    service: Service, ask: Ask, missing: Sequence[ItemError], left_out: Callable[[CallerRow], _Granted]
) -> Answer:
    """Save what is sent, and of a row what it says of what is `left_out`. `missing` is what must be sent."""
    row = await _stored(service, ask)
    version = expect(row, ask.condition)
    if _is_altered(row):
        raise is_altered()
    wrong = [*other_name(ask.document, "name", row.id), *missing]
    granted = await service.validate(_granted, ask.document, wrong, left_out(row))
    changed = replaced(row, **granted._asdict(), updated_at=int(time.time()), updated_by=ask.operator.name)
    fields = caller_fields(changed, row)
    if not fields:
        return await service.run(_answer, row, service.file_caller(row.id) is not None)
    return await _save(service, ask, changed, version, fields)


async def _save(
    service: Service, ask: Ask, row: CallerRow, expected: int | None, fields: Sequence[str], *, token: str = ""
) -> Answer:
    """Save one and show it, with its token where it was just made."""
    await service.validate(_refuse_overlap, service.snapshot, row)
    state = await service.commit(ask, [Put(row, expected)], fields)
    return await service.run(_answer, state.callers[row.id], service.file_caller(row.id) is not None, token)


async def delete(service: Service, ask: Ask) -> Answer:
    """Delete it: its token lets nobody in any more."""
    row = await _stored(service, ask)
    await service.commit(ask, [Delete(row, expect(row, ask.condition))])
    return Answer(204)


def _refuse_overlap(snapshot: Snapshot, row: CallerRow) -> None:
    listed = None if row.integrations is None else frozenset(row.integrations)
    found = overlap_for(snapshot, Caller(row.id, listed))
    if found is not None:
        pair = f"{found.first} and {found.second}"
        raise ApiProblem("overlaps", f"integrations {pair} both cover {found.where}: list one of them, or narrow one")


async def _stored(service: Service, ask: Ask) -> CallerRow:
    name = ask.names["name"]
    row = _found(await service.now(), name)
    if row is not None:
        return row
    if service.file_caller(name) is not None:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    raise not_there(ask.condition)


def _found(state: State, name: str) -> CallerRow | None:
    row = state.callers.get(name)
    return _altered(state).get(name) if row is None else row


def _altered(state: State) -> dict[str, CallerRow]:
    """In place of rows that are not to be relied upon: callers that nobody is."""
    lines = altered_in(state, CallerRow.kind).values()
    return {each.id: CallerRow(row=each.row, id=each.id, version=each.version, token_sha256="") for each in lines}


def _is_altered(row: CallerRow) -> bool:
    return not row.token_sha256


def _answer(row: CallerRow, of_file: bool, token: str = "") -> Answer:
    """The response that shows a caller; with its token where it was just made. It may list thousands of IDs."""
    if not token:
        return Answer.of(_shown(row, of_file), version=row.version)
    shown = {**_shown(row, of_file), "token": token}
    return Answer.of(shown, status=201, version=row.version, location=f"{PREFIX}/callers/{row.id}")


def _page(service: Service, after: str) -> dict[str, Any]:
    files, state = service.file_callers, service.store.state
    stored = {**_altered(state), **state.callers}

    def item(key: Key) -> dict[str, Any]:
        if key.source == "file":
            return _shown_of_file(files[key.name])
        return _shown(stored[key.name], key.name in files)

    return page_of(keys(files, stored), after, item)


def _shown(row: CallerRow, of_file: bool) -> dict[str, Any]:
    """Show a stored one; `of_file`: a file has its name."""
    altered = _is_altered(row)
    return {
        "name": row.id,
        "source": "store",
        "version": row.version,
        **about(altered=altered, file=of_file, kind="caller"),
        "integrations": _written(row.integrations),
        "presets": _written(row.presets),
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
        "problem": None,
        "integrations": _written(None if caller.integrations is None else sorted(caller.integrations)),
        "presets": _written(None if caller.presets is None else sorted(caller.presets)),
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


def _written(granted: Sequence[str] | None) -> Any:
    return "*" if granted is None else list(granted)


def _granted(sent: Mapping[str, Any], wrong: Sequence[ItemError], left_out: _Granted) -> _Granted:
    """What a caller may use, as it was sent; of what is not sent what it says that is `left_out`.

    Raises ApiProblem with all that is wrong with what was sent, of which `wrong` is known already.
    """
    errors = [*wrong]
    if not sent.keys() <= _KEYS:
        errors.append(ItemError("", "must have no other keys than name, integrations and presets"))
    for key in _Granted._fields:
        errors += _errors(key, sent[key]) if key in sent else ()
    if errors:
        raise invalid(errors)
    found = {key: _ids(sent[key]) for key in _Granted._fields if key in sent}
    return left_out._replace(**found)


def _ids(raw: Any) -> tuple[str, ...] | None:
    return None if raw == "*" else tuple(dict.fromkeys(raw))


def _errors(key: str, raw: Any) -> Iterator[ItemError]:
    """What is wrong with the IDs that were sent."""
    if raw == "*":
        return
    if not isinstance(raw, list) or len(raw) > MOST:
        yield ItemError(f"/{key}", f'must be a list of at most {MOST} IDs, or "*" for all')
        return
    for index, each in enumerate(raw):
        try:
            check_name(each if isinstance(each, str) else "")
        except ValueError as error:
            yield ItemError(f"/{key}/{index}", str(error))


_ALL: Final = partial(Route, path="/callers", role="admin")
_ONE: Final = partial(Route, path="/callers/{name}", role="admin")
_CHANGE: Final = partial(
    _ONE,
    conditional=True,
    codes=("read_only", "not_found", "invalid", "overlaps"),
    writes="caller",
    action="update",
    gives="Caller",
)

ROUTES: Final = (
    _ALL(
        method="GET",
        name="listCallers",
        summary="List callers of files and of the store, by name.",
        handle=browse,
        query={"after": AFTER},
        gives="Callers",
    ),
    _ALL(
        method="POST",
        name="createCaller",
        summary="Create a caller. Only this response contains its token.",
        handle=create,
        body="NewCaller",
        gives="CallerWithToken",
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
        gives="Caller",
        codes=("not_found",),
    ),
    _CHANGE(
        method="PUT",
        name="replaceCaller",
        summary="Replace the permissions of a caller; without `presets` it may use none. Its token stays. "
        "`If-None-Match: *` creates a caller, and only that response contains its token.",
        handle=replace,
        creates="CallerWithToken",
        body="CallerDocument",
    ),
    _CHANGE(
        method="PATCH",
        name="patchCaller",
        summary="Change the permissions of a caller. Omitted keys stay.",
        handle=patch,
        body="Patch",
        accepts=(MERGE_PATCH, JSON),
    ),
    _CHANGE(
        method="DELETE",
        name="deleteCaller",
        summary="Delete a caller, whose token is then refused.",
        handle=delete,
        gives="",
        status=204,
        codes=("read_only", "not_found"),
        action="delete",
    ),
)
