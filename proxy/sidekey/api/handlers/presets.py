"""`/presets`: list, create, read, change and delete. Presets have no secrets: responses show those of files too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field

from sidekey.api.collection import Collection, CollectionModels, ResourceChange, RouteSummaries
from sidekey.api.errors import ApiProblem, ItemError, invalid
from sidekey.api.integration_rows import is_preset_served
from sidekey.api.models import (
    After,
    Described,
    Identified,
    Instant,
    Members,
    OneOf,
    Page,
    ResourceView,
    SubmittedDocument,
    contains_words,
    members_of,
)
from sidekey.api.statuses import StatusView
from sidekey.config.field_types import Name
from sidekey.config.models import PresetSettings
from sidekey.config.stored.document import MalformedError, merge_patch
from sidekey.config.stored.presets import load_document, prepare_preset
from sidekey.config.stored.rows import NewRow, build_preset_row
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import InvalidPreset
from sidekey.snapshot.snapshot import Preset as ServedPreset
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.status import UNVERIFIED, status_of_preset
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


class PresetDocument(Described, PresetSettings, SubmittedDocument):
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
    models = CollectionModels(
        members=PresetMembers,
        resource=Preset,
        created=Preset,
        new=NewPreset,
        document=PresetDocument,
        page=Presets,
        query=PresetFilter,
    )
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
        """Return the IDs in config files."""
        return (name for name, preset in snapshot.presets.items() if not preset.stored)

    def view(self, name: str, row: PresetRow | None, statuses: StatusView) -> ResourceView:
        """Build the response for a preset. A stored one that cannot be verified has no document."""
        snapshot = statuses.snapshot
        document = json.loads(snapshot.presets[name].document) if row is None else _stored_document(row)
        return ResourceView(
            PresetMembers(id=name, **_read_only_members(name, row, document.get("integration"), statuses)), document
        )

    def item(self, name: str, row: PresetRow | None, statuses: StatusView, query: Any) -> PresetItem | None:
        """Build an item of the list, or return None if it does not match the query."""
        if row is None or is_preset_served(row, statuses.snapshot):
            entry = _entry_of_preset(statuses.snapshot.presets[name])
        else:
            entry = _entry_of_row(row)
        members = _read_only_members(name, row, entry.integration, statuses)
        if (query.status and query.status != members["status"]) or not _matches(name, entry, query):
            return None
        return PresetItem(**members, id=name, **entry._asdict())

    def build(
        self, change: ResourceChange[PresetRow], snapshot: Snapshot, sealing_keys: SealingKeys
    ) -> NewRow[PresetRow]:
        """Build the row of a change. Raises ApiProblem with all errors, also if its integration cannot be used now."""
        del sealing_keys
        document = change.sent
        if change.patch:
            try:
                current = {} if change.row is None else load_document(change.row)
            except MalformedError:
                raise ApiProblem(
                    "invalid", "the stored document cannot be read: send the complete document with PUT"
                ) from None
            # The last argument selects secrets, which a patch replaces as a whole. A preset has none.
            document = merge_patch(current, change.sent, lambda _: False)
        now = time.time()
        draft = prepare_preset(change.name, document, snapshot.integrations, now, require_fetched=True)
        document_errors = draft.errors if isinstance(draft, InvalidPreset) else ()
        errors = [*change.known_errors, *(ItemError(*error) for error in document_errors)]
        if errors or isinstance(draft, InvalidPreset):
            raise invalid(errors)
        return build_preset_row(change.name, draft, change.row, by=change.by, now=int(now))


def _stored_document(row: PresetRow) -> dict[str, Any]:
    """Return the document of a row, or an empty one if it cannot be parsed."""
    try:
        return load_document(row)
    except MalformedError:
        return {}


def _problem_of(name: str, row: PresetRow | None, snapshot: Snapshot) -> str:
    """Return why a preset cannot be used, or an empty string."""
    if row is None:
        return snapshot.presets[name].invalid
    return snapshot.preset_problem(row.id) or ("" if row.verified else UNVERIFIED)


def _read_only_members(name: str, row: PresetRow | None, integration: object, statuses: StatusView) -> dict[str, Any]:
    """Return the read-only members of a preset. Its status depends on that of its integration."""
    served = statuses.snapshot.integrations.get(str(integration))
    of_integration = None if served is None else statuses.of_served(served)
    status = status_of_preset(of_integration, _problem_of(name, row, statuses.snapshot))
    return {**members_of(row, status.problem), "status": status.status}


class _ListEntry(NamedTuple):
    """The members of an item that come from the document."""

    title: str
    takes: Literal["parameters", "payload"] | None
    description: str
    tags: list[str]
    integration: str | None
    method: str | None
    url: str | None


def _entry_of_preset(preset: ServedPreset) -> _ListEntry:
    rules = preset.rules
    return _ListEntry(
        title=preset.title,
        # A stored preset whose document cannot be used has no URL.
        takes=("parameters" if rules.has_body else "payload") if preset.url else None,
        description=preset.description,
        tags=list(preset.tags),
        integration=rules.integration,
        method=rules.method.decode(),
        url=preset.url,
    )


def _entry_of_row(row: PresetRow) -> _ListEntry:
    """Build the entry from a row, which another version of Sidekey may have saved."""
    document = _stored_document(row)
    tags = document.get("tags")
    return _ListEntry(
        title=_text_at(document, "title") or "",
        takes=None,
        description=_text_at(document, "description") or "",
        tags=[tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
        integration=_text_at(document, "integration"),
        method=_text_at(document, "method"),
        url=_text_at(document, "url"),
    )


def _text_at(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _matches(name: str, entry: _ListEntry, query: PresetFilter) -> bool:
    if query.tag and query.tag not in entry.tags:
        return False
    if query.integration and query.integration != entry.integration:
        return False
    return contains_words(query.q, (name, entry.title, entry.description, entry.integration or "", *entry.tags))


PRESETS: Final = PresetCollection()

ROUTES: Final = PRESETS.routes()
