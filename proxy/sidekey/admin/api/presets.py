"""`/presets`: list, create, read, change and delete presets. They have no secrets, so those of files are shown too."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.admin.api.collection import Collection, Edit, Models, Summaries
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
    members_of_file,
    members_of_row,
    page_of,
)
from sidekey.admin.api.standings import Standings
from sidekey.admin.api.uses import is_served
from sidekey.runtime.snapshot import Preset as ServedPreset
from sidekey.runtime.snapshot import Snapshot
from sidekey.runtime.standing import UNVERIFIED
from sidekey.settings.models import PresetSettings
from sidekey.settings.stored.document import MalformedError, merge_patch
from sidekey.settings.stored.opening import Vault
from sidekey.settings.stored.presets import document_of, prepare_preset
from sidekey.settings.stored.rows import NewRow, saved_preset
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

    title: str
    takes: Literal["parameters", "payload"] | None = Field(
        description="What is sent to it: `payload` if it has no body to fill in. Null: it cannot be read."
    )
    description: str
    tags: list[str]
    integration: str | None
    method: str | None
    url: str | None


class Presets(Page[PresetItem]):
    """A page of presets."""


class PresetFilter(After):
    """The query of the list of presets."""

    q: str = Field(default="", description="Words that ID, title, description, integration or a tag contain.")
    tag: str = Field(default="", description="A tag.")
    integration: Name = Field(default="", description="The ID of its integration.")
    status: Annotated[str, OneOf(STATUSES)] = Field(default="", description="Its status.")


class PresetCollection(Collection[PresetRow]):
    """Presets."""

    kind = "preset"
    models = Models(PresetMembers, Preset, Preset, NewPreset, PresetDocument, Presets, PresetFilter)
    summaries = Summaries(
        "Save a new preset, and serve it.",
        "Read a preset of a file or of the store.",
        "Replace the document, or create it with `If-None-Match: *`.",
        "Change parts of the document (RFC 7396). Omitted keys stay.",
        "Delete a preset.",
    )

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
        return Shown(PresetMembers(id=name, **members_of_file(found.invalid)), json.loads(found.document))

    def shown(self, row: PresetRow, standings: Standings) -> Shown:
        """Show a stored preset, without its document if that cannot be relied upon."""
        return Shown(
            PresetMembers(id=row.id, **members_of_row(row, _problem_of(row, standings.snapshot))), _written(row)
        )

    def make(self, edit: Edit[PresetRow], snapshot: Snapshot, vault: Vault) -> NewRow[PresetRow]:
        """Make the row of a change. Raises ApiProblem with all errors, also if its integration cannot be used now."""
        del vault
        document = edit.sent
        if edit.patch:
            try:
                before = {} if edit.row is None else document_of(edit.row)
            except MalformedError:
                raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT") from None
            # A preset has no secrets, which a patch would replace whole.
            document = merge_patch(before, edit.sent, lambda _: False)
        now = time.time()
        found = prepare_preset(edit.name, document, snapshot.integrations, now, require_fetched=True)
        errors = [*edit.wrong, *(ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ()))]
        if errors or isinstance(found, Invalid):
            raise invalid(errors)
        return saved_preset(edit.name, found, edit.row, by=edit.by, now=int(now))

    def page(self, state: State, standings: Standings, query: Any) -> Presets:
        """Return a page of the list: an ID that a file and the store have is in it twice."""
        snapshot = standings.snapshot

        def item(key: Key) -> PresetItem | None:
            entry = _entry(key, state, snapshot)
            return _item(entry) if _matches(entry, query) else None

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


class _Entry(NamedTuple):
    """The parts of a preset that a list is searched by, and shows. `row` is None for one of a file."""

    name: str
    title: str
    takes: Literal["parameters", "payload"] | None
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
    return _Entry(
        name=preset.id,
        title=preset.title,
        # What stands for an unreadable row has no URL.
        takes=("parameters" if rules.has_body else "payload") if preset.url else None,
        description=preset.description,
        tags=preset.tags,
        integration=rules.integration,
        method=rules.method.decode(),
        url=preset.url,
        problem=problem,
        row=row,
    )


def _of_written(row: PresetRow, problem: str) -> _Entry:
    """Read the document of a row, which another version of Sidekey may have saved."""
    document = _written(row)
    tags = document.get("tags")
    texts = tuple(each for each in tags if isinstance(each, str)) if isinstance(tags, list) else ()
    return _Entry(
        name=row.id,
        title=_text(document, "title") or "",
        takes=None,
        description=_text(document, "description") or "",
        tags=texts,
        integration=_text(document, "integration"),
        method=_text(document, "method"),
        url=_text(document, "url"),
        problem=problem,
        row=row,
    )


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _item(entry: _Entry) -> PresetItem:
    return PresetItem(
        **(members_of_file(entry.problem) if entry.row is None else members_of_row(entry.row, entry.problem)),
        id=entry.name,
        title=entry.title,
        takes=entry.takes,
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
    texts = (entry.name, entry.title, entry.description, entry.integration or "", *entry.tags)
    return all(contains(word, texts) for word in query.q.split())


PRESETS: Final = PresetCollection()

ROUTES: Final = PRESETS.routes()
