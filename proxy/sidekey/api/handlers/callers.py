"""`/callers`: who may send requests, and which integrations and presets they may use."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from sidekey.api.auth.operators import Confirmation, require_confirmation
from sidekey.api.collection import Collection, CollectionModels, ResourceChange, RouteSummaries
from sidekey.api.errors import ApiProblem
from sidekey.api.messages import JSON, ApiRequest, ApiResult
from sidekey.api.models import (
    ALTERED,
    After,
    Body,
    Instant,
    Members,
    Named,
    Page,
    Sent,
    Shown,
    altered_in,
    members_of,
    read_body,
    stored_problem,
)
from sidekey.api.route import Route
from sidekey.api.service import ApiServices, require_version
from sidekey.api.statuses import StatusView
from sidekey.config.field_types import CallerGrants, Name
from sidekey.config.stored.build import overlap_for
from sidekey.config.stored.document import merge_patch
from sidekey.config.stored.rows import NewRow, caller_fields
from sidekey.config.stored.secrets import SealingKeys
from sidekey.credentials.fields import MaxEntries
from sidekey.policy.callers import Caller as ServedCaller
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.records import CallerRow, new_row, new_token
from sidekey.store.state import Put, State

_INTEGRATIONS: Final = 'IDs of integrations, which need not exist yet, or `"*"` for all.'
_PRESETS: Final = 'IDs of presets, which need not exist yet, or `"*"` for all.'


class CallerMembers(Members, Named):
    """The members of a caller that its document does not have."""

    updated_at: Instant | None
    updated_by: str | None


class Caller(CallerMembers):
    """A caller."""

    integrations: Literal["*"] | list[str] = Field(description=_INTEGRATIONS)
    presets: Literal["*"] | list[str] = Field(description=_PRESETS)


class CallerWithToken(Caller):
    """A caller with its new token."""

    token: str = Field(description="The token. Only this response contains it.")


class Callers(Page[Caller]):
    """A page of callers."""


class _NewName(Body):
    name: Name


class CallerDocument(Sent):
    """The permissions of a caller."""

    read_only = CallerMembers

    integrations: Annotated[CallerGrants, MaxEntries(10_000)] = Field(description=_INTEGRATIONS)
    presets: Annotated[CallerGrants, MaxEntries(10_000)] = Field(default=(), description=_PRESETS)


class NewCaller(CallerDocument, _NewName):
    """A caller to create."""

    integrations: Annotated[CallerGrants, MaxEntries(10_000)] = Field(default=(), description=_INTEGRATIONS)


class CallerCollection(Collection[CallerRow]):
    """Callers."""

    kind = "caller"
    key = "name"
    reader = writer = "admin"
    media = (JSON,)
    saving_codes = ("overlaps",)
    models = CollectionModels(CallerMembers, Caller, CallerWithToken, NewCaller, CallerDocument, Callers, After)
    summaries = RouteSummaries(
        "Create a caller. Only this response contains its token.",
        "Read a caller.",
        "Replace the permissions of a caller; without `presets` it may use none. Its token stays. `If-None-Match: *` "
        "creates a caller, and only that response contains its token.",
        "Change the permissions of a caller. Omitted keys stay.",
        "Delete a caller, whose token is then refused.",
    )

    def rows(self, state: State) -> Mapping[str, CallerRow]:
        """Return the stored callers by name; those whose MAC does not verify have no token."""
        lines = altered_in(state, CallerRow.kind).values()
        altered = {
            each.id: CallerRow(row=each.row, id=each.id, version=each.version, token_sha256="") for each in lines
        }
        return {**altered, **state.callers}

    def names_in_files(self, snapshot: Snapshot) -> Iterable[str]:
        """Return the names that files have."""
        return _file_callers(snapshot)

    def shown(self, name: str, row: CallerRow | None, standings: StatusView) -> Shown:
        """Show a stored caller, or one of a file."""
        if row is None:
            found = _file_callers(standings.snapshot)[name]
            granted = (None if each is None else sorted(each) for each in (found.integrations, found.presets))
            return Shown(CallerMembers(name=name, **members_of(None, "")), _document(*granted))
        altered = not row.token_sha256
        in_file = self.is_in_file(standings.snapshot, name)
        members = members_of(row, stored_problem("caller", altered=altered, file=in_file))
        if altered:
            members |= {"created_at": None, "updated_at": None, "updated_by": None}
        return Shown(CallerMembers(name=name, **members), _document(row.integrations, row.presets))

    def item(self, name: str, row: CallerRow | None, standings: StatusView, query: Any) -> Caller:
        """Return an item of the list."""
        del query
        shown = self.shown(name, row, standings)
        return Caller(**dict(shown.members), **shown.document)

    def make(self, edit: ResourceChange[CallerRow], snapshot: Snapshot, vault: SealingKeys) -> NewRow[CallerRow]:
        """Make the row of a change. Raises ApiProblem with all errors."""
        del vault
        row, now = edit.row, int(time.time())
        if row is None:
            token, digest = new_token()
            # The name was validated already: any valid one stands for it here.
            sent: CallerDocument = read_body(NewCaller, {"name": "new", **edit.sent}, edit.wrong)
            new = CallerRow(row=new_row(), id=edit.name, token_sha256=digest, created_at=now)
        elif not row.token_sha256:
            raise ApiProblem("read_only", ALTERED)
        else:
            token, new = "", row
            before = _document(row.integrations, row.presets)
            document = merge_patch(before, edit.sent, lambda _: False) if edit.patch else edit.sent
            sent = read_body(CallerDocument, document, edit.wrong)
        new = replace(new, integrations=sent.integrations, presets=sent.presets, updated_at=now, updated_by=edit.by)
        found = overlap_for(
            snapshot, ServedCaller(new.id, None if new.integrations is None else frozenset(new.integrations))
        )
        if found is not None:
            pair = f"{found.first} and {found.second}"
            text = f"integrations {pair} both cover {found.where}: list one of them, or narrow one"
            raise ApiProblem("overlaps", text)
        return NewRow(new, caller_fields(new, row), token)

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of the collection, and the rotation of a token."""
        rotation = Route(
            method="POST",
            path=f"{self.path}/{{{self.key}}}/rotate",
            name="rotateCaller",
            permission=self.writer,
            handle=self.rotate,
            body=Confirmation,
            gives=CallerWithToken,
            conditional=True,
            codes=("read_only", "not_found", "invalid"),
            writes=self.kind,
            action="rotate",
        )
        return (*super().routes(), rotation)

    async def rotate(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Replace the token of a caller. Only this response contains the new one."""
        require_confirmation(request.operator, await service.read(Confirmation, request))
        row, _ = await self._stored(service, request)
        version = require_version(row, request.condition)
        if not row.token_sha256:
            raise ApiProblem("read_only", ALTERED)
        token, digest = new_token()
        new = replace(row, token_sha256=digest, updated_at=int(time.time()), updated_by=request.operator.name)
        state = await service.commit(request, [Put(new, version)], ("token",))
        return await service.run(self._result, state.callers[row.id], service.standings, 200, token)


def _file_callers(snapshot: Snapshot) -> dict[str, ServedCaller]:
    """Return the callers of files by name."""
    stored = {} if snapshot.stored is None else snapshot.stored.callers
    callers = {} if snapshot.callers is None else snapshot.callers
    return {caller.name: caller for digest, caller in callers.items() if digest not in stored}


def _document(integrations: Sequence[str] | None, presets: Sequence[str] | None) -> dict[str, Any]:
    return {
        "integrations": "*" if integrations is None else list(integrations),
        "presets": "*" if presets is None else list(presets),
    }


ROUTES: Final = CallerCollection().routes()
