"""`/presets`: list, create, read, change and delete presets. They have no secrets, so those of files are shown too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.api.collection import Collection, CollectionModels, ResourceChange, RouteSummaries
from sidekey.api.errors import ApiProblem, ItemError, invalid
from sidekey.api.integration_rows import is_served
from sidekey.api.models import (
    After,
    Described,
    Identified,
    Instant,
    Members,
    OneOf,
    Page,
    Sent,
    Shown,
    contains,
    members_of,
)
from sidekey.api.statuses import StatusView
from sidekey.config.field_types import Name
from sidekey.config.models import PresetSettings
from sidekey.config.stored.document import MalformedError, merge_patch
from sidekey.config.stored.presets import load_document, prepare_preset
from sidekey.config.stored.rows import NewRow, build_preset_row
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import Invalid
from sidekey.snapshot.snapshot import Preset as ServedPreset
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.status import UNVERIFIED
from sidekey.store.records import PresetRow
from sidekey.store.state import State

STATUSES: Final = ("ok", "failing", "unusable")


class PresetMembers(Members, Identified):
    """The members of a preset that its document does not have."""

    status: Annotated[str, OneOf(STATUSES)] = Field(
        description="`failing`: its integration is failing. `unusable`: its requests are refused."
    )
    updated_at: Instant | None
    updated_by: str | None


class Preset(PresetSettings, PresetMembers):
    """A preset. It has no document if its row fails verification."""

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
        description="What callers send: `payload` if the preset has no body. Null if its row cannot be read."
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
    models = CollectionModels(PresetMembers, Preset, Preset, NewPreset, PresetDocument, Presets, PresetFilter)
    summaries = RouteSummaries(
        "Save a new preset, and serve it.",
        "Read a preset of a file or of the store.",
        "Replace the document, or create it with `If-None-Match: *`.",
        "Change parts of the document (RFC 7396). Omitted keys stay.",
        "Delete a preset.",
    )

    def rows(self, state: State) -> Mapping[str, PresetRow]:
        """Return the stored presets by ID."""
        return state.presets

    def names_in_files(self, snapshot: Snapshot) -> Iterable[str]:
        """Return the IDs that files have."""
        return (name for name, each in snapshot.presets.items() if not each.stored)

    def shown(self, name: str, row: PresetRow | None, standings: StatusView) -> Shown:
        """Show a preset of a file, or a stored one, without its document if that cannot be relied upon."""
        snapshot = standings.snapshot
        document = json.loads(snapshot.presets[name].document) if row is None else _written(row)
        return Shown(PresetMembers(id=name, **_members(name, row, document.get("integration"), standings)), document)

    def item(self, name: str, row: PresetRow | None, standings: StatusView, query: Any) -> PresetItem | None:
        """Return an item of the list, or None if it does not match the query."""
        snapshot = standings.snapshot
        entry = _of_built(snapshot.presets[name]) if row is None or is_served(row, snapshot) else _of_written(row)
        members = _members(name, row, entry.integration, standings)
        if (query.status and query.status != members["status"]) or not _matches(name, entry, query):
            return None
        return PresetItem(**members, id=name, **entry._asdict())

    def make(self, edit: ResourceChange[PresetRow], snapshot: Snapshot, vault: SealingKeys) -> NewRow[PresetRow]:
        """Make the row of a change. Raises ApiProblem with all errors, also if its integration cannot be used now."""
        del vault
        document = edit.sent
        if edit.patch:
            try:
                before = {} if edit.row is None else load_document(edit.row)
            except MalformedError:
                raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT") from None
            # A preset has no secrets, which a patch would replace whole.
            document = merge_patch(before, edit.sent, lambda _: False)
        now = time.time()
        found = prepare_preset(edit.name, document, snapshot.integrations, now, require_fetched=True)
        errors = [*edit.wrong, *(ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ()))]
        if errors or isinstance(found, Invalid):
            raise invalid(errors)
        return build_preset_row(edit.name, found, edit.row, by=edit.by, now=int(now))


def _written(row: PresetRow) -> dict[str, Any]:
    try:
        return load_document(row)
    except MalformedError:
        return {}


def _problem_of(name: str, row: PresetRow | None, snapshot: Snapshot) -> str:
    """Return why a preset cannot be used; empty if it can."""
    if row is None:
        return snapshot.presets[name].invalid
    return snapshot.preset_problem(row.id) or ("" if row.verified else UNVERIFIED)


def _members(name: str, row: PresetRow | None, integration: object, standings: StatusView) -> dict[str, Any]:
    """Return the read-only members of a preset, whose status depends on its integration."""
    problem = _problem_of(name, row, standings.snapshot)
    found = standings.snapshot.integrations.get(str(integration))
    if problem or found is None:
        return members_of(row, problem)
    standing = standings.of_served(found)
    if standing.status == "failing":
        return {**members_of(row, ""), "status": "failing"}
    return members_of(row, "" if standing.usable else f"its integration cannot be used: {standing.problem}")


class _Entry(NamedTuple):
    """The parts of a preset that a list shows."""

    title: str
    takes: Literal["parameters", "payload"] | None
    description: str
    tags: list[str]
    integration: str | None
    method: str | None
    url: str | None


def _of_built(preset: ServedPreset) -> _Entry:
    rules = preset.rules
    return _Entry(
        title=preset.title,
        # What stands for an unreadable row has no URL.
        takes=("parameters" if rules.has_body else "payload") if preset.url else None,
        description=preset.description,
        tags=list(preset.tags),
        integration=rules.integration,
        method=rules.method.decode(),
        url=preset.url,
    )


def _of_written(row: PresetRow) -> _Entry:
    """Read the document of a row, which another version of Sidekey may have saved."""
    document = _written(row)
    tags = document.get("tags")
    return _Entry(
        title=_text(document, "title") or "",
        takes=None,
        description=_text(document, "description") or "",
        tags=[each for each in tags if isinstance(each, str)] if isinstance(tags, list) else [],
        integration=_text(document, "integration"),
        method=_text(document, "method"),
        url=_text(document, "url"),
    )


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _matches(name: str, entry: _Entry, query: PresetFilter) -> bool:
    if query.tag and query.tag not in entry.tags:
        return False
    if query.integration and query.integration != entry.integration:
        return False
    return contains(query.q, (name, entry.title, entry.description, entry.integration or "", *entry.tags))


PRESETS: Final = PresetCollection()

ROUTES: Final = PRESETS.routes()
