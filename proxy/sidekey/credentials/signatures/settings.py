"""The config of signatures: as a kind of its own, and the checks of what its keys say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from sidekey.core.headers import METHOD_OVERRIDES, REQUEST_ROLES, Role
from sidekey.core.signing import Signer, SigningRules
from sidekey.credentials.base import (
    Conditions,
    Credential,
    Findings,
    FixedCredential,
    Grant,
    KindSettings,
    Places,
    SecretInput,
    Traits,
)
from sidekey.credentials.destination import HARMLESS
from sidekey.credentials.fields import (
    REDACT,
    SECRET_SCHEMA,
    HeaderName,
    Keys,
    Reference,
    Secret,
    check_header_value,
    mapping,
    normal_name,
    parse_secret,
)
from sidekey.credentials.signatures.keys import Hmac, HmacAlgorithm, Key, SecretEncoding, decode, webhook_key
from sidekey.credentials.signatures.scheme import (
    ID,
    SIGNATURE,
    SIGNATURES,
    Encoding,
    Scheme,
    read_each,
    read_field,
    read_signed,
)
from sidekey.credentials.signatures.schemes import SCHEMES
from sidekey.credentials.signatures.template import BODY, BODY_SHA256, SENT, Template

SchemeName = Literal["standard-webhooks", "svix", "convoy", "github", "slack", "stripe", "shopify", "custom"]

MOST_SECRETS: Final = 8
"""Each is one more signature over every request."""

_CUSTOM: Final = frozenset({"custom"})
_BELONGS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "secret": frozenset(SCHEMES) | _CUSTOM,
        **dict.fromkeys(("secret_encoding", "algorithm", "signed", "encoding", "each", "join", "headers"), _CUSTOM),
    }
)
"""The schemes that a key counts with."""

_NEEDED: Final = frozenset({"secret", "signed", "headers"})
"""Keys that may not be left out with those schemes."""

_SECRETS: Final = TypeAdapter(Annotated[list[Secret], Field(min_length=1, max_length=MOST_SECRETS)])


def _parse_secrets(raw: object) -> Reference | tuple[Reference, ...]:
    return tuple(_SECRETS.validate_python(raw)) if isinstance(raw, list) else parse_secret(raw)


Secrets = Annotated[
    Reference | tuple[Reference, ...],
    PlainValidator(_parse_secrets),
    REDACT,
    WithJsonSchema(
        {"anyOf": [SECRET_SCHEMA, {"type": "array", "items": SECRET_SCHEMA, "minItems": 1, "maxItems": MOST_SECRETS}]}
    ),
]
"""A secret, or a list of them."""


def _check_signed(text: str) -> str:
    read_signed(text)
    return text


def _check_each(text: str) -> str:
    if SIGNATURE not in read_each(text).names:
        raise ValueError("must contain {signature}")
    check_field_text(text)
    return text


def _check_join(text: str) -> str:
    check_field_text(f"-{text}-")
    return text


def check_field_text(text: str) -> None:
    """Raise ValueError for a text that may not be in the value of a field that is written."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("must consist of printable ASCII characters: it is part of a header")
    check_header_value(text)


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name in headers:
        other = seen.setdefault(normal_name(name), name)
        if other is not name:
            raise ValueError(f"{other} and {name} are the same header (case does not count, _ counts as -): remove one")
    return headers


def _check_written(text: str) -> str:
    check_field_text(text)
    read_field(text)
    return text


def _check_name(name: str) -> str:
    normal = normal_name(name).encode()
    if REQUEST_ROLES.get(normal, Role.FORWARD) != Role.FORWARD or normal in METHOD_OVERRIDES:
        raise ValueError("must not be a header by which a server may take the request for another")
    return name


class SignatureFields(BaseModel):
    """The keys of a signature, wherever it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    scheme: Annotated[SchemeName, HARMLESS] = Field(
        description="How requests are signed: as this platform does, or `custom`, by the keys below "
        "([table](signatures.md))."
    )
    algorithm: Annotated[HmacAlgorithm | None, HARMLESS] = Field(
        default=None,
        validate_default=True,
        description="With `custom`: the keyed hash (RFC 2104); default: `hmac-sha256`.",
    )
    secret: Secrets | None = Field(
        default=None,
        validate_default=True,
        description="The secret, as a reference; or a list, each of which signs, so that receivers can change from one "
        "to the next. `whsec_` and `whsk_` are read as Standard Webhooks says with `standard-webhooks` and `svix`; "
        "elsewhere the whole text is the key.",
    )
    secret_encoding: Annotated[SecretEncoding, HARMLESS] = Field(
        default="text", description="With `custom`: how the key is written in the secret: `text` is its UTF-8."
    )
    signed: Annotated[str, AfterValidator(_check_signed), HARMLESS] | None = Field(
        default=None,
        validate_default=True,
        description="With `custom`: what is signed, a text with values in braces, such as "
        "`{timestamp}.{method}.{target}.{body}` ([values](signatures.md#values)).",
    )
    encoding: Annotated[Encoding, HARMLESS] = Field(
        default="hex", description="With `custom`: how a signature is written; `base64url` has no padding."
    )
    each: Annotated[str, AfterValidator(_check_each), HARMLESS] = Field(
        default="{signature}",
        description="With `custom`: how each signature stands in `{signatures}`, such as `v1={signature}`.",
    )
    join: Annotated[str, AfterValidator(_check_join), HARMLESS] = Field(
        default=",", description="With `custom`: what is between two of them."
    )
    headers: Annotated[
        dict[
            Annotated[HeaderName, AfterValidator(_check_name)],
            Annotated[str, AfterValidator(_check_written)],
        ]
        | None,
        HARMLESS,
    ] = Field(
        default=None,
        validate_default=True,
        description="With `custom`: the headers that are written, such as `t={timestamp},{signatures}`. A header that "
        "is exactly `{id}` is kept where the caller sends one.",
    )

    @field_validator("*")
    @classmethod
    def _check_scheme(cls, value: Any, info: ValidationInfo) -> Any:
        """A key is written with the schemes that it counts with, and with no other."""
        key = str(info.field_name)
        scheme, schemes = info.data.get("scheme"), _BELONGS.get(key)
        if scheme is None or schemes is None:
            return value
        if scheme not in schemes:
            if value != cls.model_fields[key].default:
                raise ValueError(f"may be used only with scheme {_any_of(sorted(schemes))}: {scheme} says this itself")
        elif value is None and key in _NEEDED:
            raise PydanticKnownError("missing")
        return value

    @property
    def secrets(self) -> Iterator[tuple[Keys, Reference]]:
        """Every secret, with its place."""
        if isinstance(self.secret, Reference):
            yield ("secret",), self.secret
        elif self.secret is not None:
            yield from ((("secret", str(index)), each) for index, each in enumerate(self.secret))

    def secret_inputs(self) -> Iterator[SecretInput]:
        """Every value that is a reference."""
        for key, reference in self.secrets:
            yield SecretInput(key, reference, self._check_secret)

    def rules(self) -> SigningRules:
        """What is known of the signer before any secret is read."""
        return self._scheme().rules()

    def signer(self, values: Mapping[Keys, str]) -> Signer:
        """What signs, with the values of `secret_inputs`."""
        return self._scheme().signer([self._key(values[key]) for key, _ in self.secrets])

    def written(self) -> tuple[str, ...]:
        """The headers that are written, in their spelling."""
        return tuple(self._scheme().headers)

    def _scheme(self) -> Scheme:
        named = SCHEMES.get(self.scheme)
        if named is not None:
            return named
        return Scheme(
            signed=self.signed or "",
            headers=self.headers or {},
            algorithm=self.algorithm or "hmac-sha256",
            encoding=self.encoding,
            each=self.each,
            join=self.join,
        )

    def _key(self, secret: str) -> Key:
        scheme = self._scheme()
        if scheme.asymmetric:
            return webhook_key(secret)
        return Hmac(decode(secret, self.secret_encoding), scheme.algorithm)

    def _check_secret(self, secret: str) -> None:
        self._key(secret)


def _any_of(names: Sequence[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last


def errors_between(raw: Mapping[str, Any]) -> Findings:
    """Errors between the keys of a signature, by plain values: places are in it."""
    named = SCHEMES.get(str(raw.get("scheme")))
    secrets = raw.get("secret")
    several = len(secrets) if isinstance(secrets, list) else 1
    if named is not None:
        if several > 1 and not named.several:
            yield ("secret",), f"{raw['scheme']} carries one signature: give one secret"
        return
    if raw.get("scheme") != "custom":
        return
    signed, headers = _readable(raw.get("signed"), read_signed), _headers(raw.get("headers"))
    if headers is None:
        return
    written = {name: template.names for name, template in headers.items()}
    names = frozenset(chain.from_iterable(written.values()))
    if names.isdisjoint((SIGNATURE, SIGNATURES)):
        yield ("headers",), "one must contain {signature}, or {signatures} for one of each secret"
    if several > 1 and SIGNATURE in names:
        yield ("secret",), "{signature} is one signature: give one secret, or write {signatures} in headers"
    for key in ("each", "join"):
        if raw.get(key) is not None and SIGNATURES not in names:
            yield (
                (key,),
                "counts in {signatures} only, which no header contains: write it in headers, or remove this key",
            )
    ids = [name for name, text in mapping(raw["headers"]).items() if text == ID]
    for name in ids[1:]:
        yield ("headers", name), f"{ids[0]} is the header of the ID already: remove one"
    if signed is not None:
        yield from _errors_of_signed(signed, names, headers)


def _errors_of_signed(signed: Template, written: frozenset[str], headers: Mapping[str, Template]) -> Findings:
    for name in SENT:
        if name in signed.names and written.isdisjoint(_TELLS.get(name, (name,))):
            yield ("signed",), f"{{{name}}} is signed but in no header, so no receiver can know it: write it in headers"
    own = {normal_name(name) for name in headers}
    for name in sorted(signed.fields & own):
        yield ("signed",), f"{{header:{name}}} is a header that this signature writes: no signature can cover itself"


_TELLS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "timestamp": ("timestamp", "timestamp_ms", "date"),
        "date": ("timestamp", "timestamp_ms", "date"),
    }
)
"""From which values a receiver learns one, where that is not this one alone."""


def _headers(raw: Any) -> dict[str, Template] | None:
    """Those that can be read; None where there are none, or one cannot."""
    found = {name: _readable(text, read_field) for name, text in mapping(raw).items()}
    readable = {name: template for name, template in found.items() if template is not None}
    return readable if readable and len(readable) == len(found) else None


def _readable(raw: Any, read: Any) -> Template | None:
    try:
        return read(raw) if isinstance(raw, str) else None
    except ValueError:
        return None


def warnings_of(raw: Mapping[str, Any]) -> Findings:
    """What loads but should be known, by plain values: places are in it."""
    signed = _readable(raw.get("signed"), read_signed)
    if raw.get("scheme") == "custom" and signed is not None and signed.names.isdisjoint((BODY, BODY_SHA256)):
        yield ("signed",), "the body is not signed, so anybody on the way can change it: add {body} or {body_sha256}"


def placed(findings: Findings, place: str) -> Findings:
    """The findings with their places below one of the integration."""
    return (((place, *keys), text) for keys, text in findings)


FORM_WHEN: Final[Mapping[str, Conditions]] = MappingProxyType(
    {key: (("scheme", tuple(sorted(schemes))),) for key, schemes in _BELONGS.items()}
)


class SignatureSettings(KindSettings, SignatureFields):
    """A signature over each request, as receivers of webhooks check them; there is no other credential."""

    title: ClassVar[str] = "Signature"
    form_when: ClassVar[Mapping[str, Conditions]] = FORM_WHEN

    type: Literal["signature"] = Field(description="The kind: a signature over each request.")

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Of the signature."""
        yield from placed(errors_between(mapping(integration.get("auth"))), "auth")

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Of the signature."""
        yield from placed(warnings_of(mapping(integration.get("auth"))), "auth")

    def traits(self) -> Traits:
        """No place but the signer's headers."""
        return Traits(Places(), signing=self.rules())

    def inputs(self) -> Iterator[SecretInput]:
        """The secrets."""
        yield from self.secret_inputs()

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Nothing but a signer."""
        return FixedCredential(Grant(signer=self.signer(values)))
