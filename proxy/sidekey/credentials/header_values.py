"""Values of headers as a config writes them: public texts, and secrets with a public word before them.

What is injected into requests and what a kind's own calls are sent with is written in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainValidator, WithJsonSchema

from sidekey.core.headers import METHOD_OVERRIDES, REQUEST_ROLES, Role
from sidekey.credentials.base import Pairs, SecretInput
from sidekey.credentials.destination import CountsAs, destination_of
from sidekey.credentials.fields import (
    REDACT,
    SECRET_SCHEMA,
    TEXT_SCHEMA,
    Keys,
    Reference,
    StoredMapping,
    check_header_name,
    check_header_value,
    check_prefix,
    normal_name,
    parse_secret,
    parse_text,
    wire,
)

_NOTHING = Reference("text", "")


def _literal_value(reference: Reference) -> Reference:
    if reference.source in ("text", "insecure_value"):
        check_header_value(reference.value)
    return reference


def _literal_prefix(reference: Reference) -> Reference:
    if reference.source == "text":
        check_prefix(reference.value)
    return reference


def _shape(raw: Any) -> Any:
    """Turn both spellings of a value into one: what is not {prefix, secret} is a public text."""
    if isinstance(raw, Mapping):
        if "insecure_value" in raw:
            raise ValueError("must be a public text, or {prefix: TEXT, secret: {insecure_value: TEXT}}")
        if isinstance(raw, StoredMapping) and ("value" in raw or "set" in raw):
            raise ValueError("must be a public text, or {prefix: TEXT, secret: {value: TEXT}}")
        if "secret" in raw:
            return raw
        if "prefix" in raw:
            raise ValueError("secret is missing: write {prefix: TEXT, secret: REFERENCE}")
    return {"text": raw}


# A text that a config has elsewhere becomes a secret in the store, where public ones can be read: it may be one.
_parse_public = partial(parse_text, form="secret")


class WrittenHeader(BaseModel):
    """One header's value: `text` where it is public, else `prefix` and `secret`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    text: Annotated[Reference | None, PlainValidator(_parse_public), AfterValidator(_literal_value), REDACT] = None
    prefix: Annotated[Reference, PlainValidator(parse_text), AfterValidator(_literal_prefix), REDACT] = _NOTHING
    secret: Annotated[Reference | None, PlainValidator(parse_secret), AfterValidator(_literal_value), REDACT] = None


HeaderValue = Annotated[
    WrittenHeader,
    BeforeValidator(_shape),
    WithJsonSchema(
        {
            "title": "HeaderValue",
            "oneOf": [
                TEXT_SCHEMA,
                {
                    "type": "object",
                    "properties": {
                        "prefix": {**TEXT_SCHEMA, "description": "Public text before the secret, such as 'Bearer '"},
                        "secret": SECRET_SCHEMA,
                    },
                    "required": ["secret"],
                    "additionalProperties": False,
                },
            ],
        }
    ),
]
"""A public text, or {prefix, secret}."""


def check_unique(headers: dict[str, WrittenHeader]) -> dict[str, WrittenHeader]:
    """Refuse the same header in two spellings."""
    seen: dict[str, str] = {}
    for name in headers:
        other = seen.setdefault(normal_name(name), name)
        if other is not name:
            raise ValueError(f"{other} and {name} are the same header (case does not count, _ counts as -): remove one")
    return headers


def _decides(name: str) -> bool:
    """Whether a server may take a request for one of another target by this header: no caller may send it."""
    normal = normal_name(name).encode()
    return REQUEST_ROLES.get(normal, Role.FORWARD) != Role.FORWARD or normal in METHOD_OVERRIDES


def check_public(headers: dict[str, WrittenHeader]) -> dict[str, WrittenHeader]:
    """Refuse as secrets of a store what decides: nobody would be asked for the other secrets again."""
    for name, value in headers.items():
        if value.secret is not None and value.secret.source == "stored" and _decides(name):
            raise ValueError(f"{name} must be a public text: a server may take the request for another by it")
    return headers


def deciding(headers: dict[str, WrittenHeader]) -> dict[str, str] | None:
    """Public headers that decide, by their normal names. Any other public text a caller could send as well.

    The names of secret headers are in the places of their values, which are sealed with them.
    """
    found = {normal_name(name): value.text.value for name, value in headers.items() if value.text and _decides(name)}
    return found or None


def inputs_of(headers: Mapping[str, WrittenHeader], *place: str) -> Iterator[SecretInput]:
    """Each header's public text, or its prefix and secret; `place` is that of the headers under `auth`."""
    for name, value in headers.items():
        if value.text is not None:
            yield SecretInput((*place, name), value.text, check_header_value)
        if value.secret is not None:
            yield SecretInput((*place, name, "prefix"), value.prefix, check_prefix)
            yield SecretInput((*place, name, "secret"), value.secret, check_header_value)


def filled_headers(headers: Mapping[str, WrittenHeader], values: Mapping[Keys, str], *place: str) -> Pairs:
    """The headers in the order of the document, each value's prefix and secret joined, as they travel."""
    joined = dict.fromkeys(headers, "")
    for key, _, _ in inputs_of(headers, *place):
        joined[key[len(place)]] += values[key]
    return tuple((name, wire(value)) for name, value in joined.items())


def compared_headers(headers: Mapping[str, WrittenHeader], values: Mapping[Keys, str], *place: str) -> Pairs:
    """The headers as they are compared: whatever their order, and the case of their names."""
    return tuple(sorted((normal_name(name), value) for name, value in filled_headers(headers, values, *place)))


_OF_CALLS = frozenset({"accept-encoding", "content-encoding", "content-type"})
"""Headers of a call that say how it is written and how its response is read."""


def _check_call_name(name: str) -> str:
    if normal_name(check_header_name(name)) in _OF_CALLS:
        raise ValueError("this header may not be set: Sidekey sends it, by how it writes and reads the body")
    return name


def _destination(headers: dict[str, WrittenHeader]) -> dict[str, Any] | None:
    """Every header of a call: no caller could send one."""
    return {normal_name(name): destination_of(value) for name, value in headers.items()} or None


CallHeaders = Annotated[
    dict[Annotated[str, AfterValidator(_check_call_name)], HeaderValue],
    AfterValidator(check_unique),
    AfterValidator(check_public),
    CountsAs(_destination),
]
"""Further headers of a call that a kind makes itself."""
