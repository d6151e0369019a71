"""Values of headers as a config writes them: public texts, and secrets with a public word before them.

What is injected into requests and what a kind's own calls are sent with is written in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from sidekey.credentials.base import Pairs, SecretInput
from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.destination import ComparedAs, destination_of
from sidekey.credentials.fields import (
    NAMES,
    REDACT,
    Keys,
    Reference,
    Section,
    check_header_name,
    check_header_value,
    check_prefix,
    literally,
    marker,
    normal_name,
    parse_secret,
    parse_text,
    refuse_places,
    wire,
)
from sidekey.policy.headers import may_change_request

NOTHING = Reference("text", "")
_KEYS: Final = ("prefix", "secret")


def shape(raw: Any, info: ValidationInfo) -> Any:
    """Turn both spellings of a value into one: what is not {prefix, secret} is a public text."""
    if isinstance(raw, Mapping):
        is_file = Context.of(info).is_file
        if "insecure_value" in raw or (not is_file and ("value" in raw or "set" in raw)):
            key = "insecure_value" if is_file else "value"
            raise ValueError(f"must be a public text, or {{prefix: TEXT, secret: {{{key}: TEXT}}}}")
        if "secret" in raw:
            refuse_places([(key,) for key in raw if key not in _KEYS], f"unknown key; known: {', '.join(_KEYS)}")
            return raw
        if "prefix" in raw:
            secret = "REFERENCE" if is_file else "{value: SECRET}"
            raise ValueError(f"secret is missing: write {{prefix: TEXT, secret: {secret}}}")
    return {"text": raw}


# A text that a config has elsewhere becomes a secret in the store, where public ones can be read: it may be one.
parse_public = partial(parse_text, form="secret")


class WrittenValue(Section):
    """A value: `text` where it is public, else `prefix` and `secret`."""

    text: Annotated[Reference | None, parsed_by(parse_public), REDACT] = None
    prefix: Annotated[Reference, parsed_by(parse_text), REDACT] = NOTHING
    secret: Annotated[Reference | None, parsed_by(parse_secret), REDACT] = None

    def inputs(self, *key: str) -> Iterator[tuple[Keys, Reference]]:
        """What must be read: the public text, or the prefix and the secret; `key` is the place of the value."""
        if self.text is not None:
            yield key, self.text
        if self.secret is not None:
            yield (*key, "prefix"), self.prefix
            yield (*key, "secret"), self.secret

    def joined(self, values: Mapping[Keys, str], *key: str) -> str:
        """What was read of it, joined."""
        return "".join(values[each] for each, _ in self.inputs(*key))


def written_schema(title: str, *further: dict[str, Any]) -> WithJsonSchema:
    """The JSON schema of a value that may be `further` things as well."""
    properties = {
        "prefix": {**marker("text"), "description": "Public text before the secret, such as 'Bearer '"},
        "secret": marker("secret"),
    }
    secret = {"type": "object", "properties": properties, "required": ["secret"], "additionalProperties": False}
    return WithJsonSchema({"title": title, "oneOf": [marker("text"), *further, secret]})


class WrittenHeader(WrittenValue):
    """One header's value, of which HTTP drops spaces at the ends."""

    text: Annotated[Reference | None, parsed_by(parse_public), literally(check_header_value), REDACT] = None
    prefix: Annotated[Reference, parsed_by(parse_text), literally(check_prefix), REDACT] = NOTHING
    secret: Annotated[Reference | None, parsed_by(parse_secret), literally(check_header_value), REDACT] = None


HeaderValue = Annotated[WrittenHeader, BeforeValidator(shape), written_schema("HeaderValue")]
"""A public text, or {prefix, secret}."""


T = TypeVar("T")

SAME_HEADER: Final = "{} and {} are the same header (case does not count, _ counts as -)"


def check_unique(headers: dict[str, T]) -> dict[str, T]:
    """Refuse the same header in two spellings."""
    seen: dict[str, str] = {}
    for name in headers:
        other = seen.setdefault(normal_name(name), name)
        if other is not name:
            raise ValueError(f"{SAME_HEADER.format(other, name)}: remove one")
    return headers


_COOKIE: Final = "cookie"

_OF_PROXIES: Final = "proxy-authorization"
"""The caller's own is for Sidekey and never passed on (RFC 9110 11.7.1), but it says nothing of the target."""


def _decides(name: str) -> bool:
    """Whether a server may take a request for one of another target by this header: no caller may send it."""
    normal = normal_name(name)
    return normal != _OF_PROXIES and may_change_request(normal.encode())


def check_public(headers: dict[str, WrittenHeader]) -> dict[str, WrittenHeader]:
    """Refuse as secrets of a store what decides: nobody would be asked for the other secrets again.

    And refuse as public text what is always a credential.
    """
    for name, value in headers.items():
        if value.text is not None and value.text.source == "text" and normal_name(name) == _OF_PROXIES:
            raise ValueError(f"{name} must be a secret: write {{prefix: TEXT, secret: ...}}")
        if value.secret is not None and value.secret.source == "stored" and _decides(name):
            raise ValueError(f"{name} must be a public text: a server may take the request for another by it")
    return headers


def deciding(headers: dict[str, WrittenHeader]) -> dict[str, Any] | None:
    """Return public headers that decide, by their normal names. Any other public text a caller could send as well.

    The names of secret headers are in the places of their values, which are sealed with them. The name of a secret
    cookie is in its prefix: a server may show a cookie of another name, such as one for a language.
    """
    found: dict[str, Any] = {}
    for name, value in headers.items():
        normal = normal_name(name)
        if value.text is not None and _decides(name):
            found[normal] = value.text.value
        elif value.secret is not None and normal == _COOKIE and value.prefix.value:
            found[normal] = {"prefix": value.prefix.value}
    return found or None


def inputs_of(headers: Mapping[str, WrittenHeader], *place: str) -> Iterator[SecretInput]:
    """Each header's public text, or its prefix and secret; `place` is that of the headers under `auth`."""
    for name, value in headers.items():
        for key, reference in value.inputs(*place, name):
            yield SecretInput(key, reference, check_prefix if reference is value.prefix else check_header_value)


def filled_headers(headers: Mapping[str, WrittenHeader], values: Mapping[Keys, str], *place: str) -> Pairs:
    """The headers in the order of the document, each value's prefix and secret joined, as they travel."""
    return tuple((name, wire(value.joined(values, *place, name))) for name, value in headers.items())


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
    NAMES,
    ComparedAs(_destination),
]
"""Further headers of a call that a kind makes itself."""
