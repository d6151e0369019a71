"""`/integrations` and `/drafts`: stored integrations are made, read, changed, tested, explained and released."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final

from sidekey.admin.api import documents
from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.documents import ABOUT, Wanted
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, not_found
from sidekey.admin.api.route import JSON, MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.service import Service, expect
from sidekey.credentials.registry import KINDS
from sidekey.explain import explain as judge
from sidekey.runtime.snapshot import STORED_STATES, Integration, Snapshot, Stored
from sidekey.settings.stored.overlaps import overlap_of
from sidekey.settings.stored.rows import former_of, saved_row
from sidekey.settings.stored.saving import Draft, Former, Invalid, Reenter, prepare
from sidekey.settings.stored.source import build_draft
from sidekey.settings.values import check_name
from sidekey.store.records import IntegrationRow
from sidekey.store.state import Delete, Put, State

_AFTER = re.compile("[a-z0-9][a-z0-9_-]{0,62}:(file|store)")

_DRAFT: Final = "draft"
"""The ID of a draft while it is tested."""

QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that ID, description or a tag contains, in any case."},
    "tag": {"type": "string", "description": "A tag."},
    "kind": {"type": "string", "enum": sorted(KINDS), "description": "The kind of its credential."},
    "status": {"type": "string", "enum": list(STORED_STATES), "description": "How it stands."},
    "usable": {"type": "string", "enum": ["true", "false"], "description": "Whether all it needs can be read."},
    "after": {"type": "string", "pattern": f"^{_AFTER.pattern}$", "description": "`next` of the page before."},
}


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    wanted = Wanted(**ask.query)
    return await service.answer(documents.page, service.store.state, service.snapshot, wanted)


async def read(service: Service, ask: Ask) -> Answer:
    """One of them."""
    name, snapshot = ask.names["id"], service.snapshot
    row = service.store.state.integrations.get(name)
    if row is not None:
        return await service.run(_shown, row, snapshot)
    of_file = documents.served(snapshot, name, stored=False)
    if of_file is None:
        raise not_found()
    return Answer.of(documents.whole_of_file(of_file))


async def create(service: Service, ask: Ask) -> Answer:
    """Save a new one, and serve it."""
    name = _name(ask.document)
    if documents.served(service.snapshot, name, stored=False) is not None:
        raise ApiProblem("exists", "a config file has an integration of this ID: choose another")
    state = await service.now()
    if name in state.integrations:
        raise ApiProblem("exists", "the name is in use: choose another, or change what has it")
    now, by = int(time.time()), ask.operator.name
    saving = _Saving(service, state, name, None)
    row, fields = await service.run(saving.written, ask.document, by, now)
    state = await service.commit(ask, [Put(row, None)], fields)
    return await service.run(_shown, state.integrations[name], service.snapshot, 201)


async def replace(service: Service, ask: Ask) -> Answer:
    """Save another document in place of the one that is stored."""
    return await _change(service, ask, patch=False)


async def patch(service: Service, ask: Ask) -> Answer:
    """Change some of the document (RFC 7396)."""
    return await _change(service, ask, patch=True)


async def _change(service: Service, ask: Ask, *, patch: bool) -> Answer:
    state, row = await _stored(service, ask)
    version = expect(row, ask.version)
    saving = _Saving(service, state, row.id, row)
    save = saving.patched if patch else saving.written
    changed, fields = await service.run(save, ask.document, ask.operator.name, int(time.time()))
    if not fields:
        return await service.run(_shown, row, service.snapshot)
    state = await service.commit(ask, [Put(changed, version)], fields)
    return await service.run(_shown, state.integrations[row.id], service.snapshot)


async def delete(service: Service, ask: Ask) -> Answer:
    """Delete it, with its secrets."""
    _, row = await _stored(service, ask)
    await service.commit(ask, [Delete(row, expect(row, ask.version))])
    return Answer(204)


async def release(service: Service, ask: Ask) -> Answer:
    """Serve one that is hidden because a file had its ID."""
    _, row = await _stored(service, ask)
    version = expect(row, ask.version)
    if documents.served(service.snapshot, row.id, stored=False) is not None:
        raise ApiProblem("read_only", "a config file still has an integration of this ID: remove it there first")
    if not row.hidden:
        return await service.run(_shown, row, service.snapshot)
    released = IntegrationRow.parse(row.row, row.id, row.version, {**row.fields(), "hidden": False})
    state = await service.commit(ask, [Put(released, version)], ("hidden",))
    return await service.run(_shown, state.integrations[row.id], service.snapshot)


async def test(service: Service, ask: Ask) -> Answer:
    """Send its test request through the data plane."""
    found = _served(service, ask.names["id"])
    if found.test is None:
        raise invalid([ItemError("/test", 'is missing in what is saved: add {"method": "GET", "path": "/..."}')])
    service.admit_test(ask.operator)
    began = time.perf_counter()
    outcome = await service.probe(found.id, found.test)
    return _tested(outcome.as_json(), began)


async def explain(service: Service, ask: Ask) -> Answer:
    """Say what would become of a request for a URL."""
    url = ask.document.get("url")
    if not isinstance(url, str) or ask.document.keys() != {"url"}:
        raise invalid([ItemError("/url", "must be the one key: a URL, or a path such as /whoami")])
    if not url.isprintable() or not url.isascii():
        raise invalid([ItemError("/url", "must be ASCII and printable, as it is sent")])
    found = _served(service, ask.names["id"])
    explanation = await service.run(judge, found, url, service.snapshot.passing)
    return Answer.of(explanation.as_json())


async def test_draft(service: Service, ask: Ask) -> Answer:
    """Send the test request of a document that is not saved, with the secrets that it brings."""
    snapshot = service.snapshot
    draft = await service.run(_draft, _document(ask.document, None), None, snapshot)
    integration = await service.run(build_draft, _DRAFT, draft, snapshot.stored or Stored(), time.time())
    if integration.test is None:
        raise invalid([ItemError("/test", 'is missing: add {"method": "GET", "path": "/..."}')])
    service.admit_test(ask.operator)
    began = time.perf_counter()
    outcome = await service.probe_draft(integration, integration.test)
    return _tested(outcome.as_json(), began)


def _tested(result: dict[str, Any], began: float) -> Answer:
    return Answer.of({**result, "milliseconds": round((time.perf_counter() - began) * 1000)})


def _served(service: Service, name: str) -> Integration:
    snapshot = service.snapshot
    found = snapshot.integrations.get(name)
    if found is not None:
        return found
    if name not in service.store.state.integrations:
        raise not_found()
    reason = documents.judgement_of(snapshot, name).reason
    raise ApiProblem("not_found", f"it is not served now: {reason}")


async def _stored(service: Service, ask: Ask) -> tuple[State, IntegrationRow]:
    """The state of now with the row that a change is for."""
    name = ask.names["id"]
    state = await service.now()
    row = state.integrations.get(name)
    if row is not None:
        return state, row
    if documents.served(service.snapshot, name, stored=False) is not None:
        raise ApiProblem("read_only", "it is written in a config file: change it there")
    raise not_found()


def _shown(row: IntegrationRow, snapshot: Snapshot, status: int = 200) -> Answer:
    location = f"{PREFIX}/integrations/{row.id}" if status == 201 else ""
    return Answer.of(documents.whole(row, snapshot), status=status, version=row.version, location=location)


def _name(document: Mapping[str, Any]) -> str:
    name = document.get("id")
    try:
        return check_name(name if isinstance(name, str) else "")
    except ValueError as error:
        raise invalid([ItemError("/id", str(error))]) from None


def _document(sent: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """What is a document of what was sent. Raises ApiProblem where it is another's."""
    if name is not None and sent.get("id", name) != name:
        raise invalid([ItemError("/id", "must be the ID in the path: an integration keeps its ID")])
    return {key: value for key, value in sent.items() if key not in ABOUT}


def _draft(document: Mapping[str, Any], former: Former | None, snapshot: Snapshot) -> Draft:
    """A document that may be saved. Raises ApiProblem with all that is wrong with it."""
    found = prepare(document, former, in_flight=snapshot.limits.in_flight, now=time.time())
    if isinstance(found, Invalid):
        raise invalid(ItemError(*each) for each in found.errors)
    if isinstance(found, Reenter):
        text = "must be sent again as {value: ...}: where it would go has changed, or what it belongs to"
        detail = "the destination of secrets has changed: enter them again, see errors"
        raise ApiProblem("reenter", detail, errors=[ItemError(each, text) for each in found.pointers])
    return found


class _Saving:
    """Makes the row of a document, in the thread."""

    def __init__(self, service: Service, state: State, name: str, row: IntegrationRow | None) -> None:
        self._snapshot = service.snapshot
        self._vault = service.managed.vault
        self._state = state
        self._name = name
        self._row = row
        self._former: Former | None = None

    def written(self, sent: Mapping[str, Any], by: str, now: int) -> tuple[IntegrationRow, tuple[str, ...]]:
        """The row of a whole document, and the pointers of what it changes."""
        self._former = former_of(self._row)
        return self._saved(_document(sent, self._name), by, now)

    def patched(self, sent: Mapping[str, Any], by: str, now: int) -> tuple[IntegrationRow, tuple[str, ...]]:
        """The row of the document after a merge patch."""
        self._former = former = former_of(self._row)
        patch = _document(sent, self._name)
        if former is None:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT")
        return self._saved(former.patched(patch), by, now)

    def _saved(self, document: Mapping[str, Any], by: str, now: int) -> tuple[IntegrationRow, tuple[str, ...]]:
        draft = _draft(document, self._former, self._snapshot)
        self._refuse_overlap(draft)
        return saved_row(self._vault, self._name, draft, self._row, self._former, by=by, now=now)

    def _refuse_overlap(self, draft: Draft) -> None:
        if draft.kept:
            # What is kept is for the same destination as before, so that the targets are the same, too.
            return
        integration = build_draft(self._name, draft, self._snapshot.stored or Stored(), time.time())
        found = overlap_of(self._snapshot, integration)
        if found is not None:
            other = found.second if found.first == self._name else found.first
            detail = f"integration {other} covers {found.where} as well, and one caller lists both: narrow one of them"
            raise ApiProblem("overlaps", detail)


_COMMON: Final = ("not_found", "store_unavailable")
_WRITES: Final = ("invalid", "reenter", "overlaps", *_COMMON)

ROUTES: Final = (
    Route(
        method="GET",
        path="/integrations",
        name="listIntegrations",
        summary="List integrations of files and of the store, by ID.",
        role="viewer",
        handle=browse,
        query=QUERY,
        gives="Integrations",
    ),
    Route(
        method="POST",
        path="/integrations",
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
    Route(
        method="GET",
        path="/integrations/{id}",
        name="getIntegration",
        summary="Read an integration. A secret reads as when and by whom it was entered.",
        role="viewer",
        handle=read,
        gives="Integration",
        codes=("not_found",),
    ),
    Route(
        method="PUT",
        path="/integrations/{id}",
        name="replaceIntegration",
        summary="Replace the document. A secret that is sent back as it reads is kept, one that is left out removed.",
        role="editor",
        handle=replace,
        body="IntegrationDocument",
        gives="Integration",
        conditional=True,
        codes=("read_only", *_WRITES),
        writes="integration",
        action="update",
    ),
    Route(
        method="PATCH",
        path="/integrations/{id}",
        name="patchIntegration",
        summary="Change some of the document (RFC 7396). What is left out stays.",
        role="editor",
        handle=patch,
        body="Patch",
        accepts=(MERGE_PATCH, JSON),
        gives="Integration",
        conditional=True,
        codes=("read_only", *_WRITES),
        writes="integration",
        action="update",
    ),
    Route(
        method="DELETE",
        path="/integrations/{id}",
        name="deleteIntegration",
        summary="Delete an integration with its secrets.",
        role="editor",
        handle=delete,
        status=204,
        conditional=True,
        codes=("read_only", *_COMMON),
        writes="integration",
        action="delete",
    ),
    Route(
        method="POST",
        path="/integrations/{id}/release",
        name="releaseIntegration",
        summary="Serve an integration that is hidden because a file had its ID.",
        role="editor",
        handle=release,
        gives="Integration",
        conditional=True,
        codes=("read_only", *_COMMON),
        writes="integration",
        action="release",
    ),
    Route(
        method="POST",
        path="/integrations/{id}/test",
        name="testIntegration",
        summary="Send the test request that is saved, through the data plane. Only 200 is success.",
        role="viewer",
        handle=test,
        gives="TestResult",
        codes=("not_found", "invalid", "too_many"),
    ),
    Route(
        method="POST",
        path="/integrations/{id}/explain",
        name="explainIntegration",
        summary="Say which rule allows a target, or why none does, and where the credential would go.",
        role="viewer",
        handle=explain,
        body="ExplainRequest",
        gives="Explanation",
        codes=("not_found", "invalid"),
    ),
    Route(
        method="POST",
        path="/drafts/integration/test",
        name="testDraft",
        summary="Send the test request of a document that is not saved, with secrets of this request alone.",
        role="editor",
        handle=test_draft,
        body="IntegrationDocument",
        gives="TestResult",
        codes=("invalid", "too_many"),
    ),
)
