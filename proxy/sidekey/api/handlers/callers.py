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
    ResourceView,
    SubmittedDocument,
    altered_headers,
    members_of,
    read_body,
    stored_problem,
)
from sidekey.api.route import Route
from sidekey.api.service import ApiServices, require_version
from sidekey.api.statuses import StatusView
from sidekey.config.field_types import CallerGrants, Name
from sidekey.config.stored.build import first_overlap_of_caller
from sidekey.config.stored.document import merge_patch
from sidekey.config.stored.rows import NewRow, caller_fields
from sidekey.config.stored.secrets import SealingKeys
from sidekey.credentials.fields import MaxEntries
from sidekey.policy.callers import Caller as ServedCaller
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.records import CallerRow, new_row_id, new_token
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


class CallerDocument(SubmittedDocument):
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
    models = CollectionModels(
        members=CallerMembers,
        resource=Caller,
        created=CallerWithToken,
        new=NewCaller,
        document=CallerDocument,
        page=Callers,
        query=After,
    )
    summaries = RouteSummaries(
        "Create a caller. Only this response contains its token.",
        "Read a caller.",
        "Replace the permissions of a caller; without `presets` it may use none. Its token stays. `If-None-Match: *` "
        "creates a caller, and only that response contains its token.",
        "Change the permissions of a caller. Omitted keys stay.",
        "Delete a caller, whose token is then refused.",
    )

    def rows(self, state: State) -> Mapping[str, CallerRow]:
        """Return the stored callers by name. A caller whose MAC does not verify has no token."""
        altered = {
            header.id: CallerRow(row_id=header.row_id, id=header.id, version=header.version, token_sha256="")
            for header in altered_headers(state, CallerRow.kind).values()
        }
        return {**altered, **state.callers}

    def names_in_files(self, snapshot: Snapshot) -> Iterable[str]:
        """Return the names in config files."""
        return _file_callers(snapshot)

    def view(self, name: str, row: CallerRow | None, statuses: StatusView) -> ResourceView:
        """Build the response for a stored caller, or one of a file."""
        if row is None:
            caller = _file_callers(statuses.snapshot)[name]
            grants = (None if ids is None else sorted(ids) for ids in (caller.integrations, caller.presets))
            members = members_of(None, _problem_of_file(name, statuses.snapshot))
            return ResourceView(CallerMembers(name=name, **members), _document(*grants))
        members = members_of(row, _problem_of_row(row, statuses.snapshot))
        if not row.token_sha256:
            members |= {"created_at": None, "updated_at": None, "updated_by": None}
        return ResourceView(CallerMembers(name=name, **members), _document(row.integrations, row.presets))

    def item(self, name: str, row: CallerRow | None, statuses: StatusView, query: Any) -> Caller:
        """Build an item of the list."""
        del query
        view = self.view(name, row, statuses)
        return Caller(**dict(view.members), **view.document)

    def build(
        self, change: ResourceChange[CallerRow], snapshot: Snapshot, sealing_keys: SealingKeys
    ) -> NewRow[CallerRow]:
        """Build the row of a change. Raises ApiProblem with all errors."""
        del sealing_keys
        row, now = change.row, int(time.time())
        if row is None:
            token, digest = new_token()
            # `renaming_errors` covers the name in the body. A valid placeholder lets the rest be validated too.
            sent: CallerDocument = read_body(NewCaller, {"name": "new", **change.sent}, change.known_errors)
            new = CallerRow(row_id=new_row_id(), id=change.name, token_sha256=digest, created_at=now)
        elif not row.token_sha256:
            raise ApiProblem("read_only", ALTERED)
        else:
            token, new = "", row
            current = _document(row.integrations, row.presets)
            document = merge_patch(current, change.sent, lambda _: False) if change.patch else change.sent
            sent = read_body(CallerDocument, document, change.known_errors)
        new = replace(new, integrations=sent.integrations, presets=sent.presets, updated_at=now, updated_by=change.by)
        overlap = first_overlap_of_caller(
            snapshot, ServedCaller(new.id, None if new.integrations is None else frozenset(new.integrations))
        )
        if overlap is not None:
            pair = f"{overlap.first} and {overlap.second}"
            text = f"integrations {pair} both cover {overlap.url}: list one of them, or narrow one"
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
            response=CallerWithToken,
            conditional=True,
            codes=("read_only", "not_found", "invalid"),
            writes=self.kind,
            action="rotate",
        )
        return (*super().routes(), rotation)

    async def rotate(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Replace the token of a caller. Only this response contains the new one."""
        require_confirmation(request.operator, await service.parse_body(Confirmation, request))
        row, _ = await self._find_row_to_change(service, request)
        version = require_version(row, request.condition)
        if not row.token_sha256:
            raise ApiProblem("read_only", ALTERED)
        token, digest = new_token()
        new = replace(row, token_sha256=digest, updated_at=int(time.time()), updated_by=request.operator.name)
        state = await service.commit(request, [Put(new, version)], ("token",))
        return await service.run(self._result, state.callers[row.id], service.statuses, 200, token)


def _problem_of_file(name: str, snapshot: Snapshot) -> str:
    reason = snapshot.unreadable_callers.get(name)
    return "" if reason is None else f"token: {reason}"


def _problem_of_row(row: CallerRow, snapshot: Snapshot) -> str:
    files = _file_callers(snapshot)
    problem = stored_problem("caller", altered=not row.token_sha256, in_file=row.id in files)
    owner = (snapshot.callers or {}).get(bytes.fromhex(row.token_sha256))
    if problem or owner is None or owner.name == row.id:
        return problem
    return f"caller {owner.name} of a config file has its token: rotate it"


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
