"""Values that an integration writes itself, public or secret, and their places: headers, query and body."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from sidekey.core.headers import METHOD_OVERRIDES, REQUEST_ROLES, Role
from sidekey.core.parameters import meets
from sidekey.credentials.base import Findings, Grant, PartSettings, Places, SecretInput
from sidekey.credentials.fields import (
    REDACT,
    SECRET_SCHEMA,
    TEXT_SCHEMA,
    HeaderName,
    Keys,
    ParameterName,
    Reference,
    StoredMapping,
    check_header_value,
    literally,
    mapping,
    normal_name,
    parse_secret,
    parse_text,
    wire,
)

MAPS: Final = ("headers", "query", "body")
"""The keys of the maps, which are the places."""

_NOTHING = Reference("text", "")
_SECRET_NAMES = frozenset(
    {"access-token", "api-key", "apikey", "authorization", "cookie", "proxy-authorization", "x-api-key"}
)


def _check_header_prefix(text: str) -> None:
    if text.startswith(" "):
        raise ValueError("must not begin with a space: HTTP drops it")


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


def _field_shape(raw: Any) -> Any:
    """`_shape` of the field of a body, which may be a number, true or false as well."""
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return {"scalar": raw}
    return _shape(raw)


# A text that a config has elsewhere becomes a secret in the store, where public ones can be read: it may be one.
_parse_public = partial(parse_text, form="secret")


class _Value(BaseModel):
    """A value: `text` where it is public, else `prefix` and `secret`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    text: Annotated[Reference | None, PlainValidator(_parse_public), REDACT] = None
    prefix: Annotated[Reference, PlainValidator(parse_text), REDACT] = _NOTHING
    secret: Annotated[Reference | None, PlainValidator(parse_secret), REDACT] = None

    def inputs(self, *key: str) -> Iterator[tuple[Keys, Reference]]:
        """What must be read, in the order in which it is joined."""
        if self.text is not None:
            yield key, self.text
        if self.secret is not None:
            yield (*key, "prefix"), self.prefix
            yield (*key, "secret"), self.secret


class _HeaderValue(_Value):
    """A value of a header, of which HTTP drops spaces at the ends."""

    text: Annotated[Reference | None, PlainValidator(_parse_public), literally(check_header_value), REDACT] = None
    prefix: Annotated[Reference, PlainValidator(parse_text), literally(_check_header_prefix), REDACT] = _NOTHING
    secret: Annotated[Reference | None, PlainValidator(parse_secret), literally(check_header_value), REDACT] = None


class _FieldValue(_Value):
    """A value of a field of a body, which may be a `scalar` that is no text."""

    scalar: int | float | bool | None = None


def _written(title: str, *further: dict[str, Any]) -> WithJsonSchema:
    properties = {
        "prefix": {**TEXT_SCHEMA, "description": "Public text before the secret, such as 'Bearer '"},
        "secret": SECRET_SCHEMA,
    }
    secret = {"type": "object", "properties": properties, "required": ["secret"], "additionalProperties": False}
    return WithJsonSchema({"title": title, "oneOf": [TEXT_SCHEMA, *further, secret]})


HeaderValue = Annotated[_HeaderValue, BeforeValidator(_shape), _written("HeaderValue")]
"""A public text, or {prefix, secret}; so are the next two."""

ParameterValue = Annotated[_Value, BeforeValidator(_shape), _written("ParameterValue")]
FieldValue = Annotated[
    _FieldValue, BeforeValidator(_field_shape), _written("FieldValue", {"type": "number"}, {"type": "boolean"})
]


def _check_headers(headers: dict[str, _HeaderValue]) -> dict[str, _HeaderValue]:
    seen: dict[str, str] = {}
    for name, value in headers.items():
        other = seen.setdefault(normal_name(name), name)
        if other is not name:
            raise ValueError(f"{other} and {name} are the same header (case does not count, _ counts as -): remove one")
        if value.secret is not None and value.secret.source == "stored" and decides(name):
            # As a secret of a store it would change without anybody being asked for the other secrets again.
            raise ValueError(f"{name} must be a public text: a server may take the request for another by it")
    return headers


def _check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    names = [*parameters]
    for index, name in enumerate(names):
        for other in names[:index]:
            if meets(name, (other,)):
                raise ValueError(f"{SAME_PARAMETER.format(other, name)}: remove one")
    return parameters


SAME_HEADER: Final = "{} and {} are the same header (case does not count, _ counts as -)"
SAME_PARAMETER: Final = "{} and {} are the same parameter to some servers (case does not count, . and _ are one)"


def decides(name: str) -> bool:
    """Whether a server may take a request for one of another target by this header: no caller may send it."""
    normal = normal_name(name).encode()
    return REQUEST_ROLES.get(normal, Role.FORWARD) != Role.FORWARD or normal in METHOD_OVERRIDES


Headers = Annotated[
    dict[HeaderName, HeaderValue],
    AfterValidator(_check_headers),
    Field(
        min_length=1,
        description="Header names to values: a public text, or `{prefix: TEXT, secret: REFERENCE}`.",
    ),
]
Query = Annotated[
    dict[ParameterName, ParameterValue],
    AfterValidator(_check_parameters),
    Field(
        min_length=1,
        description="Names of query parameters to values, likewise. Servers log queries: prefer a header where the API "
        "takes both.",
    ),
]
Body = Annotated[
    dict[ParameterName, FieldValue],
    AfterValidator(_check_parameters),
    Field(
        min_length=1,
        description="Names of body fields to values, likewise, or a number, `true` or `false`. The body must be a "
        "form or a JSON object, of at most `limits.replay_body`; else the response is 415 `credential_unplaceable`.",
    ),
]


class InjectedSettings(PartSettings):
    """Values with fixed places, at least one."""

    headers: Headers = Field(default={})
    query: Query = Field(default={})
    body: Body = Field(default={})

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """No place at all, and one parameter in two, by the plain values of the part."""
        if not any(key in raw for key in MAPS):
            yield (cls.place,), "needs headers, query or body: names to values"
        query, body = ([name for name in mapping(raw.get(key)) if name.isascii()] for key in ("query", "body"))
        for name in body:
            for other in query:
                if meets(name, (other,)):
                    said = SAME_PARAMETER.format(f"{other} of the query", f"{name} of the body")
                    yield (cls.place, "body", name), f"{said}: remove one"

    @classmethod
    def find_public(cls, raw: Mapping[str, Any]) -> Findings:
        """Secrets that are written as public text, by the names that carry secrets."""
        for key in MAPS:
            for name, value in mapping(raw.get(key)).items():
                if isinstance(value, str) and normal_name(name) in _SECRET_NAMES:
                    yield (cls.place, key, name), "this is public text: write a secret as {prefix: TEXT, secret: ...}"

    def places(self) -> Places:
        """Every name, in its spelling."""
        return Places(tuple(self.headers), tuple(self.query), tuple(self.body))

    def inputs(self) -> Iterator[SecretInput]:
        """Each value's public text, or its prefix and secret."""
        for name, header in self.headers.items():
            for key, reference in header.inputs("headers", name):
                check = _check_header_prefix if key[-1] == "prefix" and len(key) > 2 else check_header_value
                yield SecretInput(key, reference, check)
        for place, parameters in (("query", self.query), ("body", self.body)):
            for name, value in parameters.items():
                for key, reference in value.inputs(place, name):
                    yield SecretInput(key, reference)

    def grant(self, values: Mapping[Keys, str]) -> Grant:
        """The values in the order of the file, each one's prefix and secret joined."""

        def joined(value: _Value, *key: str) -> str:
            return "".join(values[each] for each, _ in value.inputs(*key))

        every: list[tuple[str, Mapping[str, _Value]]]
        every = [("headers", self.headers), ("query", self.query), ("body", self.body)]
        secrets = [
            values[place, name, "secret"]
            for place, written in every
            for name, value in written.items()
            if value.secret is not None
        ]
        return Grant(
            headers=tuple((name, wire(joined(value, "headers", name))) for name, value in self.headers.items()),
            query=tuple((name, joined(value, "query", name)) for name, value in self.query.items()),
            body=tuple(
                (name, joined(value, "body", name) if value.scalar is None else value.scalar)
                for name, value in self.body.items()
            ),
            secrets=tuple(text.encode() for text in secrets),
        )
