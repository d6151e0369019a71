"""Models and helpers of all resources: members, names, bodies, and pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    RootModel,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from sidekey.api.errors import ItemError, invalid
from sidekey.config.field_types import NAME_PATTERN, check_name
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.stored.document import pointer
from sidekey.config.stored.rows import format_time
from sidekey.config.stored.validate import MAX_DESCRIPTION_LENGTH, MAX_TAG_LENGTH, MAX_TAGS
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Section
from sidekey.policy.identifiers import valid_id
from sidekey.snapshot.snapshot import shadowed_by_file
from sidekey.store.integrity import RowHeader
from sidekey.store.records import CallerRow, DocumentRow
from sidekey.store.state import State

T = TypeVar("T")
B = TypeVar("B", bound="Body")

PAGE_SIZE: Final = 50
"""Maximum items of a page."""

ALTERED: Final = "something other than Sidekey changed its row: delete it, and create it again"
"""Problem text of a caller or token whose MAC does not verify."""

Instant = Annotated[
    float,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time in seconds since the epoch, written as in RFC 3339."""

Source = Literal["file", "store"]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Restricts a string field to `values`, which code may compute and a subclass of the model may replace."""

    values: tuple[str, ...]

    def _check(self, text: str) -> str:
        if text not in self.values:
            raise ValueError(f"must be one of {', '.join(self.values)}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": [*self.values]}


_ResponseName = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"})]
"""A name in a response. It is not validated: another version of Sidekey may have written the row."""


class Body(Section):
    """Base of request bodies, response bodies and queries. A member with a default may be absent."""


class Patch(RootModel[dict[str, Any]]):
    """A JSON merge patch (RFC 7396)."""


class Named(Body):
    """A resource that has a name."""

    name: _ResponseName


class Identified(Body):
    """A resource that has an ID."""

    id: _ResponseName = Field(description="The ID: lower-case letters, digits, `-` and `_`. It cannot change.")


class Described(Body):
    """A resource that has a description and tags."""

    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_LENGTH)] = Field(
        default="", description="A description for operators."
    )
    tags: Annotated[list[Annotated[str, Field(max_length=MAX_TAG_LENGTH)]], Field(max_length=MAX_TAGS)] = Field(
        default=[], description="Keywords to filter lists by."
    )


class Members(Body):
    """The read-only members of every resource."""

    source: Source = Field(description="`file` or `store`. Change a resource of a file in the file.")
    version: int | None = Field(description="The number that `ETag` begins with.")
    status: Annotated[str, OneOf(("ok", "unusable"))] = Field(description="`unusable`: its token is refused.")
    problem: str | None = Field(description="Why the status is not `ok`, and what to do; null if it is.")
    created_at: Instant | None


class SubmittedDocument(Body):
    """Base of documents in request bodies. They may repeat read-only members, which `strip_read_only` removes."""

    read_only: ClassVar[type[BaseModel]]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        schema_of_body = handler.resolve_ref_schema(reference)
        members = cls.read_only.model_json_schema()["properties"]
        read_only = {name: {**member, "readOnly": True} for name, member in members.items()}
        schema_of_body["properties"] = {**read_only, **schema_of_body["properties"]}
        return reference


class Page(Body, Generic[T]):
    """A page of a list."""

    items: Annotated[list[T], Field(max_length=PAGE_SIZE)]
    next: str | None = Field(description="Where the next page begins; null: this is the last.")


class ResourceView(NamedTuple):
    """A resource in a response: its read-only members, then its document."""

    members: Members
    document: Mapping[str, Any]


def members_of(row: DocumentRow | CallerRow | None, problem: str) -> dict[str, Any]:
    """Build the read-only members of a resource. `row` is None for one in a file, `problem` empty if it is usable."""
    return {
        "source": "file" if row is None else "store",
        "version": None if row is None else row.version,
        "status": "unusable" if problem else "ok",
        "problem": problem or None,
        "created_at": None if row is None else row.created_at,
        "updated_at": None if row is None else row.updated_at,
        "updated_by": None if row is None else row.updated_by,
    }


def strip_read_only(body: Mapping[str, Any], members: type[BaseModel]) -> dict[str, Any]:
    """Return a request body without its read-only members."""
    return {key: value for key, value in body.items() if key not in members.model_fields}


def read_body(model: type[B], body: Mapping[str, Any], known_errors: Iterable[ItemError] = ()) -> B:
    """Validate a body. Raises ApiProblem with its errors and the `known_errors`."""
    errors, context = [*known_errors], Context("body")
    try:
        validated = model.model_validate(body, context=context)
    except ValidationError as error:
        findings = findings_of(error, model, lambda _: body, context)
        raise invalid([*errors, *(ItemError(pointer(finding.loc), finding.message) for finding in findings)]) from None
    if errors:
        raise invalid(errors)
    return validated


class Key(NamedTuple):
    """The sort key of an item. A list has two items with one name if both a file and the store have it."""

    name: str
    source: Source


def _check_after(text: str) -> str:
    name, _, source = text.partition(":")
    if not valid_id(name) or source not in ("file", "store"):
        raise ValueError("must be the `next` of the previous page")
    return text


class After(Body):
    """The query of a list: where the page begins."""

    after: Annotated[
        str,
        AfterValidator(_check_after),
        WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}:(file|store)$"}),
    ] = Field(default="", description="`next` of the previous page.")


def sort_keys(files: Iterable[str], stored: Iterable[str]) -> list[Key]:
    """Build the sort keys of the names in files and in the store."""
    return [*(Key(name, "file") for name in files), *(Key(name, "store") for name in stored)]


def build_page(unsorted: Iterable[Key], after: str, build: Callable[[Key], T | None]) -> tuple[list[T], str | None]:
    """Build the items after `after`, the last key of the previous page. Return them with the last key of this page.

    The last key is None if this is the last page. `build` returns None for a key that the query excludes. It is not
    called for the keys of later pages, because there may be 10,000.
    """
    name, _, source = after.partition(":")
    previous = last = (name, source)
    items: list[T] = []
    for key in sorted(unsorted):
        if key > previous and (item := build(key)) is not None:
            if len(items) == PAGE_SIZE:
                return items, ":".join(last)
            items.append(item)
            last = key
    return items, None


def contains_words(q: str, texts: Iterable[str]) -> bool:
    """Return True if each word of `q` is in the texts, ignoring case."""
    text = "\n".join(texts).casefold()
    return all(word in text for word in q.casefold().split())


def read_name(document: Mapping[str, Any], key: str) -> tuple[str, list[ItemError]]:
    """Return the name at a key and no error. If it is missing or invalid, return an empty name and the error."""
    if key not in document:
        return "", [ItemError(f"/{key}", "this key is missing")]
    name = document[key]
    try:
        return check_name(name if isinstance(name, str) else ""), []
    except ValueError as error:
        return "", [ItemError(f"/{key}", str(error))]


def renaming_errors(document: Mapping[str, Any], key: str, name: str) -> list[ItemError]:
    """Return an error if the body would rename the resource: its name must be that of the path (`name`)."""
    if document.get(key, name) == name:
        return []
    return [ItemError(f"/{key}", "must be the one in the path, which cannot change")]


def altered_headers(state: State, kind: str) -> dict[str, RowHeader]:
    """Return the headers of rows whose MAC does not verify, by name, so that operators can list and delete them."""
    altered = (name for row_kind, name in state.altered if row_kind == kind and valid_id(name))
    return {name: state.rows[kind, name].header for name in altered}


def stored_problem(kind: str, *, altered: bool, in_file: bool) -> str:
    """Return why a stored caller or token is not usable, or an empty string.

    `altered`: its MAC does not verify. `in_file`: a config file has its name, and wins.
    """
    return ALTERED if altered else shadowed_by_file(f"{kind} name") if in_file else ""
