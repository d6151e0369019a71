"""CRUD for integrations and presets: both are documents with an ID, of which files may have the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from sidekey.admin.api.messages import JSON, YAML, ApiRequest, ApiResult
from sidekey.admin.api.problems import ApiProblem, ItemError, not_found
from sidekey.admin.api.resources import Body, Members, Patch, Shown, document_in, name_in, other_name
from sidekey.admin.api.route import MERGE_PATCH, PREFIX, Route
from sidekey.admin.api.service import Service, exists_already, expect, not_there
from sidekey.admin.api.standings import Standings
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.stored.rows import Made
from sidekey.store.records import DocumentRow
from sidekey.store.state import Delete, Put, State

R = TypeVar("R", bound=DocumentRow)

_OF_SECRETS: Final = (
    " For a secret, the response says when and by whom it was entered.",
    " A secret is kept if the request has it as it was read, and removed if the request omits it.",
    " with its secrets",
)
"""The parts of the summaries of GET, PUT and DELETE about secrets."""


class Saving(ABC, Generic[R]):
    """Makes the row of a request, in place of `row`, if there is one. Called in a thread; raises ApiProblem."""

    def __init__(self, row: R | None) -> None:
        self.row = row

    @abstractmethod
    def written(self, document: Mapping[str, Any]) -> Made[R]:
        """Make the row of a whole document."""

    @abstractmethod
    def patched(self, patch: Mapping[str, Any]) -> Made[R]:
        """Make the row of the stored document with a merge patch."""


class Models(NamedTuple):
    """The bodies of a collection: what it shows and accepts, and the query of its list."""

    members: type[Members]
    shown: type[BaseModel]
    new: type[BaseModel]
    document: type[BaseModel]
    page: type[BaseModel]
    query: type[Body]


class Collection(ABC, Generic[R]):
    """Integrations or presets. Its coroutines handle routes; other methods are fast, or called in a thread."""

    kind: ClassVar[str]
    """The word for one resource."""
    name: ClassVar[str]
    """The same with its article."""
    codes: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Problems of `create`, `update` and `delete` besides those of every collection."""
    models: ClassVar[Models]
    has_secrets: ClassVar[bool] = False

    @property
    def path(self) -> str:
        """The path of the list."""
        return f"/{self.kind}s"

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of the collection."""
        name, title, models = self.name, self.kind.title(), self.models
        reads, keeps, with_it = _OF_SECRETS if self.has_secrets else ("", "", "")
        whole = partial(Route, path=self.path)
        one = partial(Route, path=f"{self.path}/{{id}}")
        change = partial(
            one,
            role="editor",
            conditional=True,
            codes=("read_only", "not_found", "invalid", *self.codes.get("update", ())),
            writes=self.kind,
            action="update",
            gives=models.shown,
        )
        return (
            whole(
                method="GET",
                name=f"list{title}s",
                summary=f"List {self.kind}s of files and of the store, by ID.",
                role="viewer",
                handle=self.browse,
                query=models.query,
                gives=models.page,
            ),
            whole(
                method="POST",
                name=f"create{title}",
                summary=f"Save a new {self.kind}, and serve it.",
                role="editor",
                handle=self.create,
                body=models.new,
                accepts=(JSON, YAML),
                gives=models.shown,
                status=201,
                codes=("exists", "invalid", *self.codes.get("create", ())),
                writes=self.kind,
                action="create",
            ),
            one(
                method="GET",
                name=f"get{title}",
                summary=f"Read {name} of a file or of the store.{reads}",
                role="viewer",
                handle=self.read,
                gives=models.shown,
                gives_yaml=True,
                codes=("not_found",),
            ),
            change(
                method="PUT",
                name=f"replace{title}",
                summary=f"Replace the document, or create it with `If-None-Match: *`.{keeps}",
                handle=self.replace,
                creates=models.shown,
                body=models.document,
                accepts=(JSON, YAML),
            ),
            change(
                method="PATCH",
                name=f"patch{title}",
                summary="Change parts of the document (RFC 7396). Omitted keys stay.",
                handle=self.patch,
                body=Patch,
                accepts=(MERGE_PATCH,),
            ),
            change(
                method="DELETE",
                name=f"delete{title}",
                summary=f"Delete {name}{with_it}.",
                handle=self.delete,
                gives=None,
                status=204,
                codes=("read_only", "not_found", *self.codes.get("delete", ())),
                action="delete",
            ),
        )

    @abstractmethod
    def rows(self, state: State) -> Mapping[str, R]:
        """Return the stored resources by ID."""

    @abstractmethod
    def is_in_file(self, snapshot: Snapshot, name: str) -> bool:
        """Return True if a file has this ID."""

    @abstractmethod
    def shown_of_file(self, standings: Standings, name: str) -> Shown:
        """Show a resource of a file."""

    @abstractmethod
    def shown(self, row: R, standings: Standings) -> Shown:
        """Show a stored resource."""

    @abstractmethod
    def page(self, state: State, standings: Standings, query: Any) -> BaseModel:
        """Return a page of the list. `query` is the model of the collection."""

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove what viewers may not see from a document."""
        return document

    @abstractmethod
    def saving(
        self, service: Service, request: ApiRequest, name: str, row: R | None, wrong: Sequence[ItemError]
    ) -> Saving[R]:
        """Return what makes the row of a request. `wrong` are errors that are known already."""

    def refuse_deletion(self, row: R, state: State, snapshot: Snapshot) -> None:
        """Raise ApiProblem if the resource must not be deleted now."""

    async def browse(self, service: Service, request: ApiRequest) -> ApiResult:
        """Respond with a page of the list."""
        return await service.respond(self.page, service.store.state, service.standings, request.query)

    async def read(self, service: Service, request: ApiRequest) -> ApiResult:
        """Respond with one resource: if a file and the store have the ID, the stored one, as it can be changed."""
        return await service.run(self._read, request, service.store.state, service.standings)

    def _read(self, request: ApiRequest, state: State, standings: Standings) -> ApiResult:
        name = request.names["id"]
        row = self.rows(state).get(name)
        if row is not None:
            members, document = self.shown(row, standings)
        elif self.is_in_file(standings.snapshot, name):
            members, document = self.shown_of_file(standings, name)
        else:
            raise not_found()
        if request.operator.role == "viewer":
            document = self.for_viewer(document)
        if request.as_yaml:
            return ApiResult.of_yaml(name, document, members.version)
        return ApiResult.of(members, document, version=members.version)

    async def create(self, service: Service, request: ApiRequest) -> ApiResult:
        """Save a new resource, and serve it."""
        return await self._create(service, request, *name_in(request.document, "id"))

    async def _create(self, service: Service, request: ApiRequest, name: str, wrong: list[ItemError]) -> ApiResult:
        if self.is_in_file(service.snapshot, name):
            raise ApiProblem("exists", f"a config file has {self.name} of this ID: choose another")
        if name in self.rows(await service.now()):
            raise ApiProblem("exists", "the name is in use: choose another, or change what has it")
        saving = self.saving(service, request, name, None, wrong)
        return await self._save(service, request, saving, saving.written)

    async def replace(self, service: Service, request: ApiRequest) -> ApiResult:
        """Save another document in place of the stored one, or the first one of this ID."""
        if not request.condition.absent:
            saving = await self._change(service, request)
            return await self._save(service, request, saving, saving.written)
        name, wrong = name_in(request.names, "id")
        wrong += other_name(request.document, "id", request.names["id"])
        try:
            return await self._create(service, request, name, wrong)
        except ApiProblem as problem:
            raise exists_already(problem) from None

    async def patch(self, service: Service, request: ApiRequest) -> ApiResult:
        """Change parts of the document (RFC 7396)."""
        saving = await self._change(service, request)
        return await self._save(service, request, saving, saving.patched)

    async def delete(self, service: Service, request: ApiRequest) -> ApiResult:
        """Delete a resource, with its secrets."""
        row, state = await self._stored(service, request)
        version = expect(row, request.condition)
        await service.run(self.refuse_deletion, row, state, service.snapshot)
        await service.commit(request, [Delete(row, version)])
        return ApiResult(204)

    async def _change(self, service: Service, request: ApiRequest) -> Saving[R]:
        row, _ = await self._stored(service, request)
        expect(row, request.condition)
        return self.saving(service, request, row.id, row, other_name(request.document, "id", row.id))

    async def _save(
        self, service: Service, request: ApiRequest, saving: Saving[R], make: Callable[[Mapping[str, Any]], Made[R]]
    ) -> ApiResult:
        """Save the row that `make` makes of the request, unless nothing changes, and respond with it."""
        row = saving.row
        made = await service.validate(make, document_in(request.document, self.models.members))
        if row is not None and not made.fields:
            return await service.run(self._result, row, service.standings)
        state = await service.commit(request, [Put(made.row, None if row is None else row.version)], made.fields)
        saved = self.rows(state)[made.row.id]
        return await service.run(self._result, saved, service.standings, 200 if row is not None else 201)

    async def _stored(self, service: Service, request: ApiRequest) -> tuple[R, State]:
        """Return the present row that a change is for, and the state of the store."""
        name, state = request.names["id"], await service.now()
        row = self.rows(state).get(name)
        if row is not None:
            return row, state
        if self.is_in_file(service.snapshot, name):
            raise ApiProblem("read_only", "it is written in a config file: change it there")
        raise not_there(request.condition)

    def _result(self, row: R, standings: Standings, status: int = 200) -> ApiResult:
        members, document = self.shown(row, standings)
        location = f"{PREFIX}{self.path}/{row.id}" if status == 201 else ""
        return ApiResult.of(members, document, status=status, version=row.version, location=location)
