"""Validation contexts: values that a file, a body and a row may contain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from sidekey.config.errors import Loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import with_new_ids
from sidekey.config.validate import validate
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.context import Context
from sidekey.credentials.fields import DocumentType
from sidekey.credentials.header_values import ConfiguredValue
from sidekey.credentials.registry import KINDS
from sidekey.credentials.token_file import TokenFile

Tags = dict[Loc, str]
"""The type that each tagged mapping on the way to a place has."""

BASIC: Final = {"type": "basic", "username": {"env": "USER"}, "password": {"env": "PASSWORD"}}
SOURCES: Final = ({"file": "/etc/passwd"}, {"env": "HOME"})
REFUSALS: Final = ("no file of Sidekey's machine may be read", "no environment variable may be read")
FILE_ONLY: Final = {
    ("allow_private",): "only the operator allows addresses that are not global, in store.allow_private: remove this "
    "key",
    ("proxy",): "only the operator chooses the parent proxy, in network.proxy of the config file: remove this key",
    ("pass_headers",): "only the operator passes these headers, for an integration in a file: remove this key",
    ("auth", "web_identity"): "reads a file of Sidekey's machine, which a stored integration may not: give "
    "access_key_id and secret_access_key, or write the integration in a file",
    ("auth", "sts_endpoint"): "may be used only with web_identity",
}
TOKEN_FILE: Final = (
    "reads a file of Sidekey's machine, which a stored integration may not: use another {}, or write the integration "
    "in a file"
)
TOKENS: Final = {
    ("auth", "grant", "subject_token"): TOKEN_FILE.format("grant"),
    ("auth", "client_authentication", "assertion"): TOKEN_FILE.format("method"),
    ("auth", "login", "auth", "subject_token"): TOKEN_FILE.format("grant"),
}
REASONS: Final = {*FILE_ONLY.values(), *TOKENS.values(), "may be used only with subject_token"}


def places_in(annotation: Any, place: Loc, tags: Tags) -> Iterator[tuple[Loc, Tags]]:
    """Yield the location of each value that a document may have, except inside mappings with free names."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from places_in(arguments[1], (*place, "x-name"), tags)
    elif origin in (list, tuple):
        yield place, tags
        yield from places_in(arguments[0], (*place, 0), tags)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield place, tags
        kind = annotation.model_fields.get("type")
        if kind is not None and get_origin(kind.annotation) is Literal:
            tags = {**tags, place: get_args(kind.annotation)[0]}
        # Tags are no values, and a value as it is written has no key for what is not a secret.
        skipped = {"type", "scalar", "text"} if issubclass(annotation, ConfiguredValue) else {"type"}
        for name, field in annotation.model_fields.items():
            models = [item.model for item in field.metadata if isinstance(item, DocumentType)]
            for item in () if name in skipped else (field.annotation, *models):
                yield from places_in(item, (*place, field.alias or name), tags)
    elif annotation is Any:
        yield from ((below, tags) for below in (place, (*place, "x-name"), (*place, 0)))
    elif origin in (Annotated, Union, UnionType):
        for item in arguments[:1] if origin is Annotated else arguments:
            yield from places_in(item, place, tags)
    elif annotation is not NoneType:
        yield place, tags


PLACES: Final = [item for item in places_in(IntegrationSettings, (), {}) if item[0] not in ((), ("auth",))]


def document(place: Loc, value: Any, tags: Tags) -> dict[str, Any]:
    """Build a document with one value at a location, and the tags on the way."""
    root: dict[str, Any] = {"auth": dict(BASIC)} if place[0] != "auth" else {}
    for where, written in (*(((*item, "type"), tag) for item, tag in tags.items()), (place, value)):
        node: Any = root
        for part, following in pairwise(where):
            empty: Any = [] if following == 0 else {}
            if isinstance(node, list):
                node[:] = node or [empty]
                node = node[0]
            else:
                node = node.setdefault(part, empty)
        if isinstance(node, list):
            node.append(written)
        else:
            node[where[-1]] = written
            if where[-1] == "prefix":
                # Nothing reads it without a secret.
                node["secret"] = {"set": True, "id": "s_1"}
    return root


def errors_at(place: Loc, raw: Mapping[str, Any], context: Context) -> list[str]:
    """Validate a document. Return the errors at or below a location, and those of a file-only key above it."""
    # Errors below `login.auth`, a union inside the union of kinds, are placed there or have its type in their location.
    above = (*FILE_ONLY, ("auth", "login", "auth"))

    def concerns(loc: Loc) -> bool:
        return loc[: len(place)] == place or (loc in above and place[: len(loc)] == loc)

    result = validate(raw, context).errors
    return [error.message for error in result if concerns(error.loc) or concerns((*error.loc[:3], *error.loc[4:]))]


@pytest.mark.parametrize("source", SOURCES, ids=("file", "env"))
@pytest.mark.parametrize("where", ["body", "row"])
def test_body_and_row_cannot_refer_to_files_or_variables(source: Any, where: Literal["body", "row"]) -> None:
    """At every location where a file may."""
    accepting = set()
    for place, tags in PLACES:
        result = errors_at(place, with_new_ids(document(place, source, tags)), Context(where))
        assert result, place
        if not errors_at(place, document(place, source, tags), Context("file")):
            accepting.add(place)
            assert any(item.startswith(REFUSALS) or item in REASONS for item in result), place
    known = {("auth", "password"), ("auth", "username"), ("auth", "login", "body", "x-name"), ("trusted_ca",)}
    known |= {("auth", "headers", "x-name", "secret"), ("auth", "headers", "x-name"), ("client_certificate", "pem")}
    known |= {("endpoint_prefix",), ("endpoint_prefix", 0), ("auth", "secret"), ("auth", "secret", 0)}
    known |= {("auth", "client_authentication", "certificate"), ("auth", "grant", "private_key")}
    known |= {("auth", "token_request", "body", "x-name")}
    if "env" in source:
        known -= {("trusted_ca",)}
    assert known <= accepting
    assert {tags["auth",] for place, tags in PLACES if place in accepting and place[0] == "auth"} == KINDS.keys()


@pytest.mark.parametrize("where", ["body", "row"])
def test_file_only_keys_are_refused_with_their_reasons(where: Literal["body", "row"]) -> None:
    for value in ([], None):
        result = {
            error.loc: error.message
            for error in validate(
                with_new_ids(
                    {
                        "allow_private": value,
                        "proxy": value,
                        "pass_headers": value,
                        "auth": {"type": "aws_sigv4", "web_identity": value, "sts_endpoint": value},
                    }
                ),
                Context(where),
            ).errors
        }
        assert {place: result.get(place) for place in FILE_ONLY} == FILE_ONLY


@pytest.mark.parametrize("place", TOKENS)
@pytest.mark.parametrize("where", ["body", "row"])
def test_token_of_a_file_is_refused_with_its_reason(where: Literal["body", "row"], place: Loc) -> None:
    """Otherwise an editor could have any file of the machine sent to a server."""
    tags = next(tags for known, tags in PLACES if known == place)
    raw = with_new_ids(document(place, {"file": "/etc/passwd"}, tags))
    errors = {error.loc: error.message for error in validate(raw, Context(where)).errors}
    assert errors[place] == TOKENS[place]


@pytest.mark.parametrize("where", ["body", "row"])
def test_token_file_is_refused_without_a_mark_too(where: Literal["body", "row"]) -> None:
    with pytest.raises(ValidationError, match="which a stored integration may not"):
        TypeAdapter(TokenFile).validate_python({"file": "/etc/passwd"}, context=Context(where))


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "basic", "username": {"set": True, "id": "s_1"}, "password": {"value": "hunter2"}},
        {"type": "mtls", "pem": {"url": "https://vault.example/hunter2"}},
    ],
)
def test_row_cannot_contain_a_readable_secret(auth: dict[str, Any]) -> None:
    """A body may, until the store encrypts it."""
    raw = with_new_ids({"endpoint_prefix": "https://a.example", "auth": auth})
    assert validate(raw, Context("body")).errors == ()
    (error,) = validate(raw, Context("row")).errors
    assert error.message == "must be {set: true, id: ID}: a row contains no secret in the open"


def test_validation_without_a_context_raises() -> None:
    """Otherwise a body could be validated as a file by accident."""
    with pytest.raises(TypeError, match="pass a Context"):
        BasicSettings.model_validate(BASIC)


def test_secret_of_a_body_needs_an_id_before_validation() -> None:
    with pytest.raises(TypeError, match="their IDs before you validate"):
        BasicSettings.model_validate({"type": "basic", "username": {"value": "a"}}, context=Context("body"))
