"""CRUD for resources that are documents in the store or in files: integrations, presets and callers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from sidekey.api.errors import ApiProblem, ItemError, not_found
from sidekey.api.messages import JSON, YAML, ApiRequest, ApiResult
from sidekey.api.models import (
    Body,
    Key,
    Members,
    Patch,
    ResourceView,
    build_page,
    read_name,
    renaming_errors,
    sort_keys,
    strip_read_only,
)
from sidekey.api.route import MERGE_PATCH, PREFIX, Route
from sidekey.api.service import ApiServices, exists_problem, missing_problem, require_version
from sidekey.api.statuses import StatusView
from sidekey.config.stored.rows import NewRow
from sidekey.config.stored.secrets import SealingKeys
from sidekey.snapshot.admin import Permission
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.records import Record
from sidekey.store.state import Delete, Put, State

R = TypeVar("R", bound=Record)


class ResourceChange(NamedTuple, Generic[R]):
    """A change of the resource `name` by the operator `by`.

    `row` is the current row, or None to create the resource. `sent` is the new document, or with `patch` a merge patch
    of the current one. `known_errors` are reported together with those of the document.
    """

    name: str
    row: R | None
    sent: Mapping[str, Any]
    patch: bool
    known_errors: Sequence[ItemError]
    by: str


class CollectionModels(NamedTuple):
    """The models of a collection.

    Responses have a `resource`, or the `created` one, or a `page` of a list that `query` filters. `members` are the
    read-only members of a resource. POST takes `new`, and PUT takes `document`.
    """

    members: type[Members]
    resource: type[BaseModel]
    created: type[BaseModel]
    new: type[BaseModel]
    document: type[BaseModel]
    page: type[BaseModel]
    query: type[Body]


class RouteSummaries(NamedTuple):
    """Summaries of the routes of a collection, except that of the list, which is generated."""

    create: str
    read: str
    replace: str
    patch: str
    delete: str


class Collection(ABC, Generic[R]):
    """Base of the resources of one kind. Modules of `handlers` define subclasses, and `routes` builds their routes.

    Coroutines handle routes. Other methods may block, and run in a thread.
    """

    kind: ClassVar[str]
    """The noun for one resource, such as `caller`. It also names the paths and operations."""
    key: ClassVar[str] = "id"
    """The member that names a resource: `id`, or `name` for callers."""
    models: ClassVar[CollectionModels]
    summaries: ClassVar[RouteSummaries]
    reader: ClassVar[Permission] = "viewer"
    """The permission to list and read."""
    writer: ClassVar[Permission] = "editor"
    """The permission to change."""
    media: ClassVar[tuple[str, ...]] = (JSON, YAML)
    """The media types of documents."""
    saving_codes: ClassVar[tuple[str, ...]] = ()
    """Extra problem codes of POST, PUT and PATCH."""
    update_codes: ClassVar[tuple[str, ...]] = ()
    """Extra problem codes of PUT and PATCH."""
    delete_codes: ClassVar[tuple[str, ...]] = ()
    """Extra problem codes of DELETE."""

    @property
    def path(self) -> str:
        """The path of the list."""
        return f"/{self.kind}s"

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of the collection."""
        title, models, summaries = self.kind.title(), self.models, self.summaries
        collection = partial(Route, path=self.path)
        item = partial(Route, path=f"{self.path}/{{{self.key}}}")
        change = partial(
            item,
            permission=self.writer,
            conditional=True,
            codes=("read_only", "not_found", "invalid", *self.saving_codes, *self.update_codes),
            writes=self.kind,
            action="update",
            response=models.resource,
        )
        return (
            collection(
                method="GET",
                name=f"list{title}s",
                summary_text=f"List {self.kind}s of files and of the store, by {'ID' if self.key == 'id' else 'name'}.",
                permission=self.reader,
                handle=self.browse,
                query=models.query,
                response=models.page,
            ),
            collection(
                method="POST",
                name=f"create{title}",
                summary_text=summaries.create,
                permission=self.writer,
                handle=self.create,
                body=models.new,
                accepts=self.media,
                response=models.created,
                status=201,
                codes=("exists", "invalid", *self.saving_codes),
                writes=self.kind,
                action="create",
            ),
            item(
                method="GET",
                name=f"get{title}",
                summary_text=summaries.read,
                permission=self.reader,
                handle=self.read,
                response=models.resource,
                offers_yaml=YAML in self.media,
                codes=("not_found",),
            ),
            change(
                method="PUT",
                name=f"replace{title}",
                summary_text=summaries.replace,
                handle=self.replace,
                creates=models.created,
                body=models.document,
                accepts=self.media,
            ),
            change(
                method="PATCH",
                name=f"patch{title}",
                summary_text=summaries.patch,
                handle=self.patch,
                body=Patch,
                accepts=(MERGE_PATCH,),
            ),
            change(
                method="DELETE",
                name=f"delete{title}",
                summary_text=summaries.delete,
                handle=self.delete,
                response=None,
                status=204,
                codes=("read_only", "not_found", *self.delete_codes),
                action="delete",
            ),
        )

    @abstractmethod
    def rows(self, state: State) -> Mapping[str, R]:
        """Return the stored resources by ID."""

    @abstractmethod
    def names_in_files(self, snapshot: Snapshot) -> Iterable[str]:
        """Return the IDs in config files."""

    def is_in_file(self, snapshot: Snapshot, name: str) -> bool:
        """Return True if a config file has this ID."""
        return name in self.names_in_files(snapshot)

    @abstractmethod
    def view(self, name: str, row: R | None, statuses: StatusView) -> ResourceView:
        """Build the response for a resource. `row` is None for a resource in a file."""

    @abstractmethod
    def item(self, name: str, row: R | None, statuses: StatusView, query: Any) -> BaseModel | None:
        """Build an item of the list, or return None if it does not match the query. Arguments are as for `view`."""

    def page_members(self, state: State, snapshot: Snapshot) -> dict[str, Any]:
        """Return the members of a page besides `items` and `next`."""
        del state, snapshot
        return {}

    def page(self, state: State, statuses: StatusView, query: Any) -> Any:
        """Build a page of the list. It contains an ID twice if both a file and the store have it."""
        rows, snapshot = self.rows(state), statuses.snapshot

        def build_item(key: Key) -> BaseModel | None:
            return self.item(key.name, None if key.source == "file" else rows[key.name], statuses, query)

        items, next_page = build_page(sort_keys(self.names_in_files(snapshot), rows), query.after, build_item)
        return self.models.page(items=items, next=next_page, **self.page_members(state, snapshot))

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove the keys that viewers may not see."""
        return document

    @abstractmethod
    def build(self, change: ResourceChange[R], snapshot: Snapshot, sealing_keys: SealingKeys) -> NewRow[R]:
        """Build the row to save, without `fields` if nothing changes. Raises ApiProblem with all errors."""

    def refuse_deletion(self, row: R, state: State, snapshot: Snapshot) -> None:
        """Raise ApiProblem if the resource must not be deleted now."""

    async def warnings(self, service: ApiServices, name: str) -> Sequence[str]:
        """Return warnings about a resource that was just saved."""
        del service, name
        return ()

    async def browse(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Respond with a page of the list."""
        return await service.respond(self.page, service.store.state, service.statuses, request.query)

    async def read(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Respond with one resource. If a file has the same ID, respond with the stored one, which can be changed."""
        return await service.run(self._read, request, service.store.state, service.statuses)

    def _read(self, request: ApiRequest, state: State, statuses: StatusView) -> ApiResult:
        name = request.path_parameters[self.key]
        row = self.rows(state).get(name)
        if row is None and not self.is_in_file(statuses.snapshot, name):
            raise not_found()
        members, document = self.view(name, row, statuses)
        if not request.operator.may("editor"):
            document = self.for_viewer(document)
        if request.as_yaml:
            return ApiResult.of_yaml(name, document, members.version)
        return ApiResult.of(members, document, version=members.version)

    async def create(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Save a new resource, and serve it."""
        return await self._create(service, request, *read_name(request.document, self.key))

    async def _create(self, service: ApiServices, request: ApiRequest, name: str, errors: list[ItemError]) -> ApiResult:
        if self.is_in_file(service.snapshot, name):
            article, word = "an" if self.kind[0] in "aeiou" else "a", "ID" if self.key == "id" else "name"
            detail = f"a config file has {article} {self.kind} of this {word}: choose another"
            raise exists_problem(request.condition, detail)
        if name in self.rows(await service.store.refresh()):
            raise exists_problem(request.condition)
        return await self._save(service, request, name, None, errors)

    async def replace(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Replace the stored document, or create the resource with `If-None-Match: *`."""
        if not request.condition.absent:
            return await self._change(service, request)
        name, errors = read_name(request.path_parameters, self.key)
        errors += renaming_errors(request.document, self.key, request.path_parameters[self.key])
        return await self._create(service, request, name, errors)

    async def patch(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Change parts of the document (RFC 7396)."""
        return await self._change(service, request, patch=True)

    async def delete(self, service: ApiServices, request: ApiRequest) -> ApiResult:
        """Delete a resource, with its secrets."""
        row, state = await self._find_row_to_change(service, request)
        version = require_version(row, request.condition)
        await service.run(self.refuse_deletion, row, state, service.snapshot)
        await service.commit(request, [Delete(row, version)])
        return ApiResult(204)

    async def _change(self, service: ApiServices, request: ApiRequest, *, patch: bool = False) -> ApiResult:
        row, _ = await self._find_row_to_change(service, request)
        require_version(row, request.condition)
        errors = renaming_errors(request.document, self.key, row.id)
        return await self._save(service, request, row.id, row, errors, patch=patch)

    async def _save(
        self,
        service: ApiServices,
        request: ApiRequest,
        name: str,
        row: R | None,
        errors: Sequence[ItemError],
        *,
        patch: bool = False,
    ) -> ApiResult:
        """Save the document in the request, unless it changes nothing, and respond with the resource."""
        sent = strip_read_only(request.document, self.models.members)
        change = ResourceChange(name, row, sent, patch, errors, request.operator.name)
        new = await service.run_validation(self.build, change, service.snapshot, service.manager.sealing_keys)
        if row is not None and not new.fields:
            saved = row
        else:
            state = await service.commit(request, [Put(new.row, None if row is None else row.version)], new.fields)
            saved = self.rows(state)[name]
        warnings = await self.warnings(service, name)
        status = 200 if row is not None else 201
        return await service.run(self._result, saved, service.statuses, status, new.token, warnings)

    async def _find_row_to_change(self, service: ApiServices, request: ApiRequest) -> tuple[R, State]:
        """Read the store. Return the row to change, and the state. Raises ApiProblem if there is no row."""
        name, state = request.path_parameters[self.key], await service.store.refresh()
        row = self.rows(state).get(name)
        if row is not None:
            return row, state
        if self.is_in_file(service.snapshot, name):
            raise ApiProblem("read_only", "it is written in a config file: change it there")
        raise missing_problem(request.condition)

    def _result(
        self,
        row: R,
        statuses: StatusView,
        status: int = 200,
        token: str = "",
        warnings: Sequence[str] = (),
    ) -> ApiResult:
        members, document = self.view(row.id, row, statuses)
        if warnings:
            members = members.model_copy(update={"warnings": list(warnings)})
        if token:
            document = {**document, "token": token}
        location = f"{PREFIX}{self.path}/{row.id}" if status == 201 else ""
        return ApiResult.of(members, document, status=status, version=row.version, location=location)
