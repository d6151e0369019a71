"""Header values in a config: a public text, or a secret with a public prefix.

Injected headers and the headers of token calls use it.
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
    MAX_NAMES,
    REDACT,
    Keys,
    Reference,
    Section,
    check_header_name,
    check_header_value,
    check_prefix,
    encode_header_value,
    literal_check,
    normal_name,
    parse_secret,
    parse_text,
    refuse_locations,
    shape_marker,
)
from sidekey.policy.headers import may_change_request

_EMPTY = Reference("text", "")
_KEYS: Final = ("prefix", "secret")


def normalize_value(raw: Any, info: ValidationInfo) -> Any:
    """Convert a public text to `{text: raw}`, and leave `{prefix, secret}` unchanged. Raises ValueError."""
    if isinstance(raw, Mapping):
        is_file = Context.of(info).is_file
        if "insecure_value" in raw or (not is_file and ("value" in raw or "set" in raw)):
            key = "insecure_value" if is_file else "value"
            raise ValueError(f"must be a public text, or {{prefix: TEXT, secret: {{{key}: TEXT}}}}")
        if is_file and "command" in raw:
            raise ValueError("a command writes a secret: write {secret: {command: [PROGRAM, ...]}}")
        if "secret" in raw:
            refuse_locations([(key,) for key in raw if key not in _KEYS], f"unknown key; known: {', '.join(_KEYS)}")
            return raw
        if "prefix" in raw:
            secret = "REFERENCE" if is_file else "{value: SECRET}"
            raise ValueError(f"secret is missing: write {{prefix: TEXT, secret: {secret}}}")
    return {"text": raw}


# A text from a file or variable may be a secret, so it becomes one in the store, where public texts are readable.
parse_public_text = partial(parse_text, form="secret")


class ConfiguredValue(Section):
    """A value: `text` if it is public, else `prefix` and `secret`."""

    text: Annotated[Reference | None, parsed_by(parse_public_text), REDACT] = None
    prefix: Annotated[Reference, parsed_by(parse_text), REDACT] = _EMPTY
    secret: Annotated[Reference | None, parsed_by(parse_secret), REDACT] = None

    def inputs(self, *key: str) -> Iterator[tuple[Keys, Reference]]:
        """Yield the references of a value: public text, or prefix and secret. `key` is the value's location."""
        if self.text is not None:
            yield key, self.text
        if self.secret is not None:
            yield (*key, "prefix"), self.prefix
            yield (*key, "secret"), self.secret

    def join(self, values: Mapping[Keys, str], *key: str) -> str:
        """Join the parts of the value. `values` has them by location."""
        return "".join(values[part] for part, _ in self.inputs(*key))


def value_schema(title: str, *variants: dict[str, Any]) -> WithJsonSchema:
    """Build the JSON schema of a value with additional `variants`."""
    properties = {
        "prefix": {**shape_marker("text"), "description": "Public text before the secret, such as 'Bearer '"},
        "secret": shape_marker("secret"),
    }
    secret = {"type": "object", "properties": properties, "required": ["secret"], "additionalProperties": False}
    return WithJsonSchema({"title": title, "oneOf": [shape_marker("text"), *variants, secret]})


class ConfiguredHeader(ConfiguredValue):
    """A header value, which must not start or end with a space."""

    text: Annotated[Reference | None, parsed_by(parse_public_text), literal_check(check_header_value), REDACT] = None
    prefix: Annotated[Reference, parsed_by(parse_text), literal_check(check_prefix), REDACT] = _EMPTY
    secret: Annotated[Reference | None, parsed_by(parse_secret), literal_check(check_header_value), REDACT] = None


HeaderValue = Annotated[ConfiguredHeader, BeforeValidator(normalize_value), value_schema("HeaderValue")]
"""A public text, or {prefix, secret}."""


T = TypeVar("T")

SAME_HEADER: Final = "{} and {} are the same header (case does not count, _ counts as -)"


def check_unique(headers: dict[str, T]) -> dict[str, T]:
    """Raise ValueError for the same header in two spellings."""
    seen: dict[str, str] = {}
    for name in headers:
        other = seen.setdefault(normal_name(name), name)
        if other is not name:
            raise ValueError(f"{SAME_HEADER.format(other, name)}: remove one")
    return headers


_COOKIE: Final = "cookie"

_PROXY_AUTHORIZATION: Final = "proxy-authorization"
"""Sidekey consumes the caller's own (RFC 9110 11.7.1), but it does not change the target."""


def _may_change_target(name: str) -> bool:
    """Return True for a header by which a server may choose another target. Callers must not send it."""
    normal = normal_name(name)
    return normal != _PROXY_AUTHORIZATION and may_change_request(normal.encode())


def check_visibility(headers: dict[str, ConfiguredHeader]) -> dict[str, ConfiguredHeader]:
    """Raise ValueError for a stored secret that may change the target, and for a public Proxy-Authorization.

    An editor can replace a secret without entering the remaining secrets again, and so could redirect them.
    """
    for name, value in headers.items():
        if value.text is not None and not value.text.is_secret and normal_name(name) == _PROXY_AUTHORIZATION:
            raise ValueError(f"{name} must be a secret: write {{prefix: TEXT, secret: ...}}")
        if value.secret is not None and value.secret.source == "stored" and _may_change_target(name):
            raise ValueError(f"{name} must be a public text: a server may take the request for another by it")
    return headers


def check_names(headers: dict[str, ConfiguredHeader]) -> dict[str, ConfiguredHeader]:
    """Apply `check_unique` and `check_visibility`.

    An annotation with a `Field` has one validator of each class: pydantic does not document what it does with two.
    """
    return check_visibility(check_unique(headers))


def canonicalize_headers(headers: dict[str, ConfiguredHeader]) -> dict[str, Any] | None:
    """Return the headers that count for the destination of secrets, by normal name.

    These are public headers that may change the target. Callers may send all other public headers themselves. A secret
    header counts by its location, with which the store seals the value. A secret cookie also counts by its prefix,
    which contains the cookie's name: a server may show cookies with other names, such as one for the language.
    """
    result: dict[str, Any] = {}
    for name, value in headers.items():
        normal = normal_name(name)
        if value.text is not None and _may_change_target(name):
            result[normal] = value.text.value
        elif value.secret is not None and normal == _COOKIE and value.prefix.value:
            result[normal] = {"prefix": value.prefix.value}
    return result or None


def inputs_of(headers: Mapping[str, ConfiguredHeader], *place: str) -> Iterator[SecretInput]:
    """Yield the inputs of each header. `place` is the location of the headers under `auth`."""
    for name, value in headers.items():
        for key, reference in value.inputs(*place, name):
            yield SecretInput(key, reference, check_prefix if reference is value.prefix else check_header_value)


def build_headers(headers: Mapping[str, ConfiguredHeader], values: Mapping[Keys, str], *place: str) -> Pairs:
    """Build the headers to send, in the order of the document."""
    return tuple((name, encode_header_value(value.join(values, *place, name))) for name, value in headers.items())


def comparable_headers(headers: Mapping[str, ConfiguredHeader], values: Mapping[Keys, str], *place: str) -> Pairs:
    """Return the headers sorted and with normal names, so that order and case do not count."""
    return tuple(sorted((normal_name(name), value) for name, value in build_headers(headers, values, *place)))


_SET_BY_SIDEKEY = frozenset({"accept-encoding", "content-encoding", "content-type"})
"""Headers that describe the encoding of a call's body or response."""


def _check_call_name(name: str) -> str:
    if normal_name(check_header_name(name)) in _SET_BY_SIDEKEY:
        raise ValueError("this header may not be set: Sidekey sends it, by how it writes and reads the body")
    return name


def _canonicalize_call_headers(headers: dict[str, ConfiguredHeader]) -> dict[str, Any] | None:
    """Return every header, because callers send no headers with a call."""
    return {normal_name(name): destination_of(value) for name, value in headers.items()} or None


CallHeaders = Annotated[
    dict[Annotated[str, AfterValidator(_check_call_name)], HeaderValue],
    AfterValidator(check_names),
    MAX_NAMES,
    ComparedAs(_canonicalize_call_headers),
]
"""Additional headers of a token call."""
