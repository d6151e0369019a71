"""`/integrations`: stored integrations are made, read, changed, deleted and released."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sidekey.admin.api import documents
from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.documents import USABLE, Wanted
from sidekey.admin.api.named import AFTER, name_in, other_name
from sidekey.admin.api.previews import OF_A_FILE
from sidekey.admin.api.problems import ApiProblem, ItemError, not_found
from sidekey.admin.api.route import JSON, MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.saving import Saving
from sidekey.admin.api.service import Service, expect
from sidekey.admin.api.standings import Standings, served
from sidekey.credentials.registry import KINDS
from sidekey.runtime.standing import STATES
from sidekey.settings.stored.rows import Made
from sidekey.store.records import IntegrationRow
from sidekey.store.state import Delete, Put

Make = Callable[[Saving, Mapping[str, Any]], Made]
"""Makes a row of what was sent."""

QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that ID, description, a tag or a host contains, in any case."},
    "tag": {"type": "string", "description": "A tag."},
    "kind": {"type": "string", "enum": sorted(KINDS), "description": "The kind of its credential."},
    "status": {"type": "string", "enum": list(STATES), "description": "How it stands."},
    "usable": {"type": "string", "enum": ["true", "false"], "description": USABLE},
    "after": AFTER,
}


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    wanted = Wanted(**ask.query)
    return await service.answer(documents.page, service.store.state, service.standings, wanted)


async def read(service: Service, ask: Ask) -> Answer:
    """One of them."""
    name, standings = ask.names["id"], service.standings
    row = service.store.state.integrations.get(name)
    if row is not None:
        return await service.run(_shown, row, standings)
    of_file = served(standings.snapshot, name, stored=False)
    if of_file is None:
        raise not_found()
    return Answer.of(documents.whole_of_file(of_file, standings))


async def create(service: Service, ask: Ask) -> Answer:
    """Save a new one, and serve it."""
    name, wrong = name_in(ask.document, "id")
    if served(service.snapshot, name, stored=False) is not None:
        raise ApiProblem("exists", OF_A_FILE)
    if name in (await service.now()).integrations:
        raise ApiProblem("exists", "the name is in use: choose another, or change what has it")
    return await _save(service, ask, _saving(service, ask, name, None, wrong), Saving.written)


async def replace(service: Service, ask: Ask) -> Answer:
    """Save another document in place of the one that is stored."""
    return await _change(service, ask, Saving.written)


async def patch(service: Service, ask: Ask) -> Answer:
    """Change some of the document (RFC 7396)."""
    return await _change(service, ask, Saving.patched)


async def _change(service: Service, ask: Ask, make: Make) -> Answer:
    row = await _stored(service, ask)
    expect(row, ask.version)
    wrong = other_name(ask.document, "id", row.id)
    return await _save(service, ask, _saving(service, ask, row.id, row, wrong), make)


def _saving(service: Service, ask: Ask, name: str, row: IntegrationRow | None, wrong: Sequence[ItemError]) -> Saving:
    vault, by = service.managed.vault, ask.operator.name
    return Saving(service.snapshot, vault, name, row, wrong=wrong, by=by)


async def _save(service: Service, ask: Ask, saving: Saving, make: Make) -> Answer:
    """Save what is made of what was sent, and show it."""
    row = saving.row
    made = await service.run(make, saving, ask.document)
    if row is not None and not made.fields:
        return await service.run(_shown, row, service.standings)
    state = await service.commit(ask, [Put(made.row, None if row is None else row.version)], made.fields)
    return await service.run(_shown, state.integrations[made.row.id], service.standings, 201 if row is None else 200)


async def delete(service: Service, ask: Ask) -> Answer:
    """Delete it, with its secrets."""
    row = await _stored(service, ask)
    await service.commit(ask, [Delete(row, expect(row, ask.version))])
    return Answer(204)


async def release(service: Service, ask: Ask) -> Answer:
    """Serve one that is hidden because a file had its ID."""
    row = await _stored(service, ask)
    version = expect(row, ask.version)
    if served(service.snapshot, row.id, stored=False) is not None:
        raise ApiProblem("read_only", "a config file still has an integration of this ID: remove it there first")
    if not service.managed.release(row) and not row.hidden:
        return await service.run(_shown, row, service.standings)
    released = IntegrationRow.parse(row.row, row.id, row.version, {**row.fields(), "hidden": False})
    state = await service.commit(ask, [Put(released, version)], ("hidden",))
    return await service.run(_shown, state.integrations[row.id], service.standings)


async def _stored(service: Service, ask: Ask) -> IntegrationRow:
    """The row of now that a change is for."""
    name = ask.names["id"]
    row = (await service.now()).integrations.get(name)
    if row is not None:
        return row
    if served(service.snapshot, name, stored=False) is not None:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    raise not_found()


def _shown(row: IntegrationRow, standings: Standings, status: int = 200) -> Answer:
    location = f"{PREFIX}/integrations/{row.id}" if status == 201 else ""
    return Answer.of(documents.whole(row, standings), status=status, version=row.version, location=location)


_ALL: Final = partial(Route, path="/integrations")
_ONE: Final = partial(Route, path="/integrations/{id}")
_CHANGE: Final = partial(
    Route,
    path="/integrations/{id}",
    role="editor",
    conditional=True,
    codes=("read_only", "not_found", "invalid", "reenter", "overlaps", "store_unavailable"),
    writes="integration",
    action="update",
    gives="Integration",
)

ROUTES: Final = (
    _ALL(
        method="GET",
        name="listIntegrations",
        summary="List integrations of files and of the store, by ID.",
        role="viewer",
        handle=browse,
        query=QUERY,
        gives="Integrations",
    ),
    _ALL(
        method="POST",
        name="createIntegration",
        summary="Save a new integration, and serve it.",
        role="editor",
        handle=create,
        body="NewIntegration",
        gives="Integration",
        status=201,
        codes=("exists", "invalid", "overlaps", "store_unavailable"),
        writes="integration",
        action="create",
    ),
    _ONE(
        method="GET",
        name="getIntegration",
        summary="Read an integration. A secret reads as when and by whom it was entered.",
        role="viewer",
        handle=read,
        gives="Integration",
        codes=("not_found",),
    ),
    _CHANGE(
        method="PUT",
        name="replaceIntegration",
        summary="Replace the document. A secret that is sent back as it reads is kept, one that is left out removed.",
        handle=replace,
        body="IntegrationDocument",
    ),
    _CHANGE(
        method="PATCH",
        name="patchIntegration",
        summary="Change some of the document (RFC 7396). What is left out stays.",
        handle=patch,
        body="Patch",
        accepts=(MERGE_PATCH, JSON),
    ),
    _CHANGE(
        method="DELETE",
        name="deleteIntegration",
        summary="Delete an integration with its secrets.",
        handle=delete,
        gives="",
        status=204,
        codes=("read_only", "not_found", "store_unavailable"),
        action="delete",
    ),
    _CHANGE(
        method="POST",
        path="/integrations/{id}/release",
        name="releaseIntegration",
        summary="Serve an integration that is hidden because a file had its ID.",
        handle=release,
        codes=("read_only", "not_found", "store_unavailable"),
        action="release",
    ),
)
