"""Things that files and the store have under IDs, integrations and presets: how stored ones are read and changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, TypeVar

from sidekey.admin.api.answer import YAML, Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.named import name_in, other_name
from sidekey.admin.api.problems import ApiProblem, ItemError, not_found
from sidekey.admin.api.route import JSON, MERGE_PATCH, PREFIX, Handle, Route
from sidekey.admin.api.service import Service, exists_already, expect, not_there
from sidekey.admin.api.standings import Standings
from sidekey.admin.api.yaml_documents import written
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
    """Makes the row of one request, in place of `row`; None: there is none. Called in a thread; raises ApiProblem."""

    def __init__(self, row: R | None) -> None:
        self.row = row

    @abstractmethod
    def written(self, sent: Mapping[str, Any]) -> Made[R]:
        """Of a whole document."""

    @abstractmethod
    def patched(self, sent: Mapping[str, Any]) -> Made[R]:
        """Of what is stored after a merge patch."""


class Collection(ABC, Generic[R]):
    """One kind of such things. Its coroutines handle routes; all others are called in a thread, or are quick."""

    kind: ClassVar[str]
    """What one of them is, in a word."""
    name: ClassVar[str]
    """One of them, for a sentence."""
    codes: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """The problems of saving and deleting beside those of every collection: of `create`, `update` and `delete`."""
    about: ClassVar[frozenset[str]]
    """The members of one that are not its document."""
    has_secrets: ClassVar[bool] = False
    """Whether a document may have secrets, which are not shown."""

    @property
    def path(self) -> str:
        """Of its routes."""
        return f"/{self.kind}s"

    def routes(self, browse: Handle, query: Mapping[str, Mapping[str, Any]]) -> tuple[Route, ...]:
        """All that may be done; `browse` responds with a page of them, by `query`."""
        name, title = self.name, self.kind.title()
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
            gives=title,
        )
        return (
            whole(
                method="GET",
                name=f"list{title}s",
                summary=f"List {self.kind}s of files and of the store, by ID.",
                role="viewer",
                handle=browse,
                query=query,
                gives=f"{title}s",
            ),
            whole(
                method="POST",
                name=f"create{title}",
                summary=f"Save a new {self.kind}, and serve it.",
                role="editor",
                handle=self.create,
                body=f"New{title}",
                accepts=(JSON, YAML),
                gives=title,
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
                gives=title,
                gives_yaml=True,
                codes=("not_found",),
            ),
            change(
                method="PUT",
                name=f"replace{title}",
                summary=f"Replace the document, or create it with `If-None-Match: *`.{keeps}",
                handle=self.replace,
                creates=title,
                body=f"{title}Document",
                accepts=(JSON, YAML),
            ),
            change(
                method="PATCH",
                name=f"patch{title}",
                summary="Change parts of the document (RFC 7396). Omitted keys stay.",
                handle=self.patch,
                body="Patch",
                accepts=(MERGE_PATCH, JSON),
            ),
            change(
                method="DELETE",
                name=f"delete{title}",
                summary=f"Delete {name}{with_it}.",
                handle=self.delete,
                gives="",
                status=204,
                codes=("read_only", "not_found", *self.codes.get("delete", ())),
                action="delete",
            ),
        )

    @abstractmethod
    def rows(self, state: State) -> Mapping[str, R]:
        """The stored ones, by ID."""

    @abstractmethod
    def has_file(self, snapshot: Snapshot, name: str) -> bool:
        """Whether a file has this ID."""

    @abstractmethod
    def of_file(self, standings: Standings, name: str) -> dict[str, Any]:
        """How a file's is shown."""

    @abstractmethod
    def of_store(self, row: R, standings: Standings) -> dict[str, Any]:
        """How a stored one is shown."""

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove what viewers may not see from a stored document."""
        return document

    @abstractmethod
    def saving(self, service: Service, ask: Ask, name: str, row: R | None, wrong: Sequence[ItemError]) -> Saving[R]:
        """What makes the row of a request; `wrong` is what is wrong already."""

    @abstractmethod
    def refuse_deletion(self, row: R, state: State, snapshot: Snapshot) -> None:
        """Raise ApiProblem where it must not be deleted now."""

    async def read(self, service: Service, ask: Ask) -> Answer:
        """One of them: where a file and the store have the ID, the stored one, as it can be changed."""
        name, standings = ask.names["id"], service.standings
        row = self.rows(service.store.state).get(name)
        if row is not None:
            return await service.run(self._shown, row, standings, 200, ask)
        if not self.has_file(standings.snapshot, name):
            raise not_found()
        if ask.as_yaml:
            return await service.run(lambda: Answer.of_yaml(written(self.of_file(standings, name), self.about)))
        return await service.answer(self.of_file, standings, name)

    async def create(self, service: Service, ask: Ask) -> Answer:
        """Save a new one, and serve it."""
        return await self._create(service, ask, *name_in(ask.document, "id"))

    async def _create(self, service: Service, ask: Ask, name: str, wrong: list[ItemError]) -> Answer:
        if self.has_file(service.snapshot, name):
            raise ApiProblem("exists", f"a config file has {self.name} of this ID: choose another")
        if name in self.rows(await service.now()):
            raise ApiProblem("exists", "the name is in use: choose another, or change what has it")
        saving = self.saving(service, ask, name, None, wrong)
        return await self._save(service, ask, saving, saving.written)

    async def replace(self, service: Service, ask: Ask) -> Answer:
        """Save another document in place of the one that is stored, or the first one of this ID."""
        if ask.condition.absent:
            name, wrong = name_in(ask.names, "id")
            try:
                return await self._create(
                    service, ask, name, [*wrong, *other_name(ask.document, "id", ask.names["id"])]
                )
            except ApiProblem as problem:
                raise exists_already(problem) from None
        saving = await self._change(service, ask)
        return await self._save(service, ask, saving, saving.written)

    async def patch(self, service: Service, ask: Ask) -> Answer:
        """Change some of the document (RFC 7396)."""
        saving = await self._change(service, ask)
        return await self._save(service, ask, saving, saving.patched)

    async def delete(self, service: Service, ask: Ask) -> Answer:
        """Delete it, with all that belongs to it."""
        row, state = await self._stored(service, ask)
        version = expect(row, ask.condition)
        await service.run(self.refuse_deletion, row, state, service.snapshot)
        await service.commit(ask, [Delete(row, version)])
        return Answer(204)

    async def _change(self, service: Service, ask: Ask) -> Saving[R]:
        row, _ = await self._stored(service, ask)
        expect(row, ask.condition)
        return self.saving(service, ask, row.id, row, other_name(ask.document, "id", row.id))

    async def _save(
        self, service: Service, ask: Ask, saving: Saving[R], make: Callable[[Mapping[str, Any]], Made[R]]
    ) -> Answer:
        """Save what is made of what was sent, and show it."""
        row = saving.row
        made = await service.validate(make, ask.document)
        if row is not None and not made.fields:
            return await service.run(self._shown, row, service.standings)
        state = await service.commit(ask, [Put(made.row, None if row is None else row.version)], made.fields)
        saved = self.rows(state)[made.row.id]
        return await service.run(self._shown, saved, service.standings, 201 if row is None else 200)

    async def _stored(self, service: Service, ask: Ask) -> tuple[R, State]:
        """The row of now that a change is for, and the state that it is in."""
        name, state = ask.names["id"], await service.now()
        row = self.rows(state).get(name)
        if row is not None:
            return row, state
        if self.has_file(service.snapshot, name):
            raise ApiProblem("read_only", "it is written in a config file: change it there")
        raise not_there(ask.condition)

    def _shown(self, row: R, standings: Standings, status: int = 200, ask: Ask | None = None) -> Answer:
        """A stored one; `ask` is the request to read it."""
        location = f"{PREFIX}{self.path}/{row.id}" if status == 201 else ""
        document: Mapping[str, Any] = self.of_store(row, standings)
        if ask is not None and ask.operator.role == "viewer":
            document = self.for_viewer(document)
        if ask is not None and ask.as_yaml:
            return Answer.of_yaml(written(document, self.about), version=row.version)
        return Answer.of(document, status=status, version=row.version, location=location)
