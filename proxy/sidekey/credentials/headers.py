"""Fixed headers: API keys, bearer tokens and tenant names in headers of any name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from sidekey.core.headers import METHOD_OVERRIDES, REQUEST_ROLES, Role
from sidekey.credentials.base import (
    Credential,
    Documentation,
    Findings,
    FixedCredential,
    Grant,
    KindSettings,
    Places,
    Provider,
    SecretInput,
    Traits,
)
from sidekey.credentials.destination import CountsAs
from sidekey.credentials.fields import (
    REDACT,
    SECRET_SCHEMA,
    TEXT_SCHEMA,
    HeaderName,
    Keys,
    Reference,
    StoredMapping,
    check_header_value,
    mapping,
    normal_name,
    parse_secret,
    parse_text,
    wire,
)

_PROFILE_EXAMPLE = """\
mails:
  auth: {type: headers, provider: klaviyo, key: {file: /run/secrets/klaviyo}}
"""
_NOTHING = Reference("text", "")
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


def _check_prefix(text: str) -> None:
    if text.startswith(" "):
        raise ValueError("must not begin with a space: HTTP drops it")


def _literal_value(reference: Reference) -> Reference:
    if reference.source in ("text", "insecure_value"):
        check_header_value(reference.value)
    return reference


def _literal_prefix(reference: Reference) -> Reference:
    if reference.source == "text":
        _check_prefix(reference.value)
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


class _Value(BaseModel):
    """One header's value: `text` where it is public, else `prefix` and `secret`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    text: Annotated[Reference | None, PlainValidator(_parse_public), AfterValidator(_literal_value), REDACT] = None
    prefix: Annotated[Reference, PlainValidator(parse_text), AfterValidator(_literal_prefix), REDACT] = _NOTHING
    secret: Annotated[Reference | None, PlainValidator(parse_secret), AfterValidator(_literal_value), REDACT] = None


HeaderValue = Annotated[
    _Value,
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


def _check_unique(headers: dict[str, _Value]) -> dict[str, _Value]:
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


def _check_public(headers: dict[str, _Value]) -> dict[str, _Value]:
    """Refuse as secrets of a store what decides: nobody would be asked for the other secrets again."""
    for name, value in headers.items():
        if value.secret is not None and value.secret.source == "stored" and _decides(name):
            raise ValueError(f"{name} must be a public text: a server may take the request for another by it")
    return headers


def _deciding(headers: dict[str, _Value]) -> dict[str, str] | None:
    """Public headers that decide, by their normal names. Any other public text a caller could send as well.

    The names of secret headers are in the places of their values, which are sealed with them.
    """
    found = {normal_name(name): value.text.value for name, value in headers.items() if value.text and _decides(name)}
    return found or None


class HeadersSettings(KindSettings):
    """Headers with fixed values, public or secret."""

    title: ClassVar[str] = "Headers"
    form_help: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"headers": "A secret may have a public word before it, such as `Bearer ` in `Authorization`, with its space."}
    )

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({"headers": {"X-Provider": "unknown"}})
    documentation: ClassVar[Documentation] = Documentation(
        "[Provider profiles](providers.md) bring all but the key for the platforms they are made for.",
        profile_example=_PROFILE_EXAMPLE,
    )

    type: Literal["headers"] = Field(description="The kind: headers with fixed values.")
    provider: Provider = None
    headers: Annotated[
        dict[HeaderName, HeaderValue], AfterValidator(_check_unique), AfterValidator(_check_public), CountsAs(_deciding)
    ] = Field(
        min_length=1,
        description="Header names to values: a public text, or `{prefix: TEXT, secret: REFERENCE}`.",
    )

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """A secret that is written in the file as public text."""
        for name, value in mapping(mapping(integration.get("auth")).get("headers")).items():
            if isinstance(value, str) and normal_name(name) in _SECRET_HEADERS:
                text = "this is public text: write a secret as {prefix: TEXT, secret: ...}"
                yield ("auth", "headers", name), text

    def traits(self) -> Traits:
        """The headers of the file."""
        return Traits(Places(headers=tuple(self.headers)))

    def inputs(self) -> Iterator[SecretInput]:
        """Each header's public text, or its prefix and secret."""
        for name, value in self.headers.items():
            if value.text is not None:
                yield SecretInput(("headers", name), value.text, check_header_value)
            if value.secret is not None:
                yield SecretInput(("headers", name, "prefix"), value.prefix, _check_prefix)
                yield SecretInput(("headers", name, "secret"), value.secret, check_header_value)

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The headers in the order of the file, each value's prefix and secret joined."""
        joined = dict.fromkeys(self.headers, "")
        for key, _, _ in self.inputs():
            joined[key[1]] += values[key]
        headers = tuple((name, wire(value)) for name, value in joined.items())
        secret = (values["headers", name, "secret"] for name, value in self.headers.items() if value.secret is not None)
        return FixedCredential(Grant(headers=headers, secrets=tuple(text.encode() for text in secret)))
