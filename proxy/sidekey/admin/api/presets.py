"""`/presets`: list, create, read, change and delete presets. They have no secrets, so those of files are shown too."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.admin.api.collection import Collection, Models, Saving
from sidekey.admin.api.messages import ApiRequest
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.admin.api.resources import (
    After,
    Described,
    Identified,
    Instant,
    Key,
    Members,
    OneOf,
    Page,
    Sent,
    Shown,
    contains,
    keys,
    page_of,
)
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import Standings
from sidekey.admin.api.uses import is_served
from sidekey.runtime.snapshot import Preset as ServedPreset
from sidekey.runtime.snapshot import Snapshot
from sidekey.runtime.standing import UNVERIFIED
from sidekey.settings.models import PresetSettings
from sidekey.settings.stored.document import MalformedError, merge_patch
from sidekey.settings.stored.presets import PresetDraft, document_of, prepare_preset
from sidekey.settings.stored.rows import Made, saved_preset
from sidekey.settings.stored.saving import Invalid
from sidekey.settings.values import Name
from sidekey.store.records import PresetRow
from sidekey.store.state import State

STATUSES: Final = ("ok", "unusable")


class PresetMembers(Members, Identified):
    """The members of a preset that its document does not have."""

    status: Annotated[str, OneOf(STATUSES)] = Field(description="`unusable`: its requests are refused.")
    updated_at: Instant | None
    updated_by: str | None


class Preset(PresetSettings, PresetMembers):
    """A preset; one whose row does not verify has no document."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=[*PresetMembers.model_fields]))


class PresetDocument(Described, PresetSettings, Sent):
    """The document of a preset."""

    read_only = PresetMembers


class NewPreset(PresetDocument, Identified):
    """A preset to create."""


class PresetItem(PresetMembers):
    """A preset without its whole document."""

    description: str
    tags: list[str]
    integration: str | None
    method: str | None
    url: str | None


class Presets(Page[PresetItem]):
    """A page of presets."""


class PresetFilter(After):
    """The query of the list of presets."""

    q: str = Field(default="", description="A text that ID, description, integration or a tag contains, in any case.")
    tag: str = Field(default="", description="A tag.")
    integration: Name = Field(default="", description="The ID of its integration.")
    status: Annotated[str, OneOf(STATUSES)] = Field(default="", description="Its status.")


def preset_draft_of(
    name: str, document: Mapping[str, Any], snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> PresetDraft:
    """Validate a document, and require that its integration can be used now.

    Raises ApiProblem with all errors, and those that are known already (`wrong`).
    """
    found = prepare_preset(name, document, snapshot.integrations, time.time(), require_fetched=True)
    errors = [*wrong, *(ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ()))]
    if errors or isinstance(found, Invalid):
        raise invalid(errors)
    return found


class PresetSaving(Saving[PresetRow]):
    """Makes the row of a preset with the ID `name`, for the operator `by`. `wrong` are errors that are known."""

    def __init__(
        self, snapshot: Snapshot, name: str, row: PresetRow | None, *, wrong: Sequence[ItemError], by: str
    ) -> None:
        super().__init__(row)
        self._snapshot = snapshot
        self._name = name
        self._wrong = wrong
        self._by = by

    def written(self, document: Mapping[str, Any]) -> Made[PresetRow]:
        """Make the row of a whole document."""
        draft = preset_draft_of(self._name, document, self._snapshot, self._wrong)
        return saved_preset(self._name, draft, self.row, by=self._by, now=int(time.time()))

    def patched(self, patch: Mapping[str, Any]) -> Made[PresetRow]:
        """Make the row of the stored document with a merge patch."""
        try:
            before = {} if self.row is None else document_of(self.row)
        except MalformedError:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT") from None
        # A preset has no secrets, which a patch would replace whole.
        return self.written(merge_patch(before, patch, lambda _: False))


class PresetCollection(Collection[PresetRow]):
    """Presets."""

    kind = "preset"
    name = "a preset"
    models = Models(PresetMembers, Preset, NewPreset, PresetDocument, Presets, PresetFilter)

    def rows(self, state: State) -> Mapping[str, PresetRow]:
        """Return the stored presets by ID."""
        return state.presets

    def is_in_file(self, snapshot: Snapshot, name: str) -> bool:
        """Return True if a file has this ID."""
        found = snapshot.presets.get(name)
        return found is not None and not found.stored

    def shown_of_file(self, standings: Standings, name: str) -> Shown:
        """Show a preset of a file."""
        found = standings.snapshot.presets[name]
        return Shown(PresetMembers(**_of_file(found)), json.loads(found.document))

    def shown(self, row: PresetRow, standings: Standings) -> Shown:
        """Show a stored preset, without its document if that cannot be relied upon."""
        return Shown(PresetMembers(**_of_row(row, standings.snapshot)), _written(row))

    def saving(
        self, service: Service, request: ApiRequest, name: str, row: PresetRow | None, wrong: Sequence[ItemError]
    ) -> PresetSaving:
        """Return what makes the row of a request."""
        return PresetSaving(service.snapshot, name, row, wrong=wrong, by=request.operator.name)

    def page(self, state: State, standings: Standings, query: Any) -> Presets:
        """Return a page of the list: an ID that a file and the store have is in it twice."""
        snapshot = standings.snapshot

        def item(key: Key) -> PresetItem | None:
            entry = _entry(key, state, snapshot)
            return _item(entry, snapshot) if _matches(entry, query) else None

        files = (name for name, each in snapshot.presets.items() if not each.stored)
        items, following = page_of(keys(files, state.presets), query.after, item)
        return Presets(items=items, next=following)


def _written(row: PresetRow) -> dict[str, Any]:
    try:
        return document_of(row)
    except MalformedError:
        return {}


def _problem_of(row: PresetRow, snapshot: Snapshot) -> str:
    """Return why a stored preset cannot be used; empty if it can."""
    return snapshot.preset_problem(row.id) or ("" if row.verified else UNVERIFIED)


def _of_row(row: PresetRow, snapshot: Snapshot) -> dict[str, Any]:
    problem = _problem_of(row, snapshot)
    return {
        "id": row.id,
        "source": "store",
        "version": row.version,
        "status": "unusable" if problem else "ok",
        "problem": problem or None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "updated_by": row.updated_by,
    }


def _of_file(preset: ServedPreset) -> dict[str, Any]:
    return {
        "id": preset.id,
        "source": "file",
        "version": None,
        "status": "unusable" if preset.invalid else "ok",
        "problem": preset.invalid or None,
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


class _Entry(NamedTuple):
    """The parts of a preset that a list is searched by, and shows. `row` is None for one of a file."""

    name: str
    description: str
    tags: tuple[str, ...]
    integration: str | None
    method: str | None
    url: str | None
    problem: str
    row: PresetRow | None


def _entry(key: Key, state: State, snapshot: Snapshot) -> _Entry:
    name, source = key
    found = snapshot.presets.get(name)
    if source == "file" and found is not None:
        return _of_built(found, found.invalid, None)
    row = state.presets[name]
    problem = _problem_of(row, snapshot)
    if found is not None and is_served(row, snapshot):
        return _of_built(found, problem, row)
    return _of_written(row, problem)


def _of_built(preset: ServedPreset, problem: str, row: PresetRow | None) -> _Entry:
    rules = preset.rules
    method = rules.method.decode()
    return _Entry(preset.id, preset.description, preset.tags, rules.integration, method, preset.url, problem, row)


def _of_written(row: PresetRow, problem: str) -> _Entry:
    """Read the document of a row, which another version of Sidekey may have saved."""
    document = _written(row)
    tags = document.get("tags")
    texts = tuple(each for each in tags if isinstance(each, str)) if isinstance(tags, list) else ()
    integration, method, url = (_text(document, key) for key in ("integration", "method", "url"))
    return _Entry(row.id, _text(document, "description") or "", texts, integration, method, url, problem, row)


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _item(entry: _Entry, snapshot: Snapshot) -> PresetItem:
    return PresetItem(
        **(_of_file(snapshot.presets[entry.name]) if entry.row is None else _of_row(entry.row, snapshot)),
        description=entry.description,
        tags=list(entry.tags),
        integration=entry.integration,
        method=entry.method,
        url=entry.url,
    )


def _matches(entry: _Entry, query: PresetFilter) -> bool:
    if query.tag and query.tag not in entry.tags:
        return False
    if query.integration and query.integration != entry.integration:
        return False
    if query.status and query.status != ("unusable" if entry.problem else "ok"):
        return False
    texts = (entry.name, entry.description, entry.integration or "", *entry.tags)
    return not query.q or contains(query.q, texts)


PRESETS: Final = PresetCollection()

ROUTES: Final = PRESETS.routes()
