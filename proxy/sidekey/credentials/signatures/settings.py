"""The config of signatures, as a kind's keys and as the section `signature`, and the checks between its keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import Findings, Grant, PartSettings, SecretInput, SupplementSettings
from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.destination import SAFE_TO_CHANGE
from sidekey.credentials.fields import (
    MAX_NAMES,
    REDACT,
    HeaderName,
    Keys,
    Reference,
    Secret,
    Text,
    check_header_value,
    literal_check,
    mapping,
    normal_name,
    parse_secret,
    refuse,
    shape_marker,
)
from sidekey.credentials.header_values import check_unique
from sidekey.credentials.key_formats import SecretEncoding
from sidekey.credentials.signatures.keys import HmacAlgorithm, SigningKey, load_hmac_key, load_key, load_webhook_key
from sidekey.credentials.signatures.rfc9421 import (
    DEFAULT_COMPONENTS,
    DEFAULT_LABEL,
    Asymmetric,
    MessageSigner,
    SignatureParameters,
    check_component,
    check_label,
    check_string,
)
from sidekey.credentials.signatures.schemes import (
    ID,
    SCHEMES,
    SIGNATURE,
    SIGNATURES,
    Encoding,
    Scheme,
    parse_header_template,
    parse_signature_format,
    parse_signed_text,
)
from sidekey.credentials.signatures.template import BODY, BODY_SHA256, FROM_REQUEST, GENERATED, Template
from sidekey.credentials.signing import Signer, SigningRules
from sidekey.credentials.units import Duration
from sidekey.policy.headers import may_change_request

SchemeName = Literal["standard-webhooks", "svix", "convoy", "github", "slack", "stripe", "shopify", "custom", "rfc9421"]
Algorithm = Literal[HmacAlgorithm, Asymmetric]

_ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"custom": get_args(HmacAlgorithm), "rfc9421": ("hmac-sha256", *get_args(Asymmetric))}
)
"""The algorithms of schemes that do not imply one."""

_ASYMMETRIC: Final = frozenset(get_args(Asymmetric))

_SCHEMES_OF_KEY: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "algorithm": frozenset(_ALGORITHMS),
        "secret": frozenset({*SCHEMES, "custom"}),
        "secret_encoding": frozenset({"custom", "rfc9421"}),
        **dict.fromkeys(("signed", "encoding", "each", "join", "headers"), frozenset({"custom"})),
        **dict.fromkeys(("key", "key_id", "components", "expires", "nonce", "tag", "label"), frozenset({"rfc9421"})),
    }
)
"""The schemes with which a key may be used."""

_REQUIRED: Final = frozenset({("secret", ""), ("signed", ""), ("headers", ""), ("key", ""), ("algorithm", "rfc9421")})
"""Required keys, each with the scheme that requires it. An empty text means every scheme of `_SCHEMES_OF_KEY`."""

MAX_SECRETS: Final = 8
"""Maximum number of secrets: Sidekey signs every request with each."""

_SECRETS: Final = TypeAdapter(Annotated[list[Secret], Field(min_length=1)])


def _parse_secrets(raw: object, context: Context) -> Reference | tuple[Reference, ...]:
    if not isinstance(raw, list):
        return parse_secret(raw, context)
    if len(raw) > MAX_SECRETS:
        raise ValueError(f"must have at most {MAX_SECRETS} entries: each signs every request")
    return tuple(_SECRETS.validate_python(raw, context=context))


Secrets = Annotated[
    Reference | tuple[Reference, ...],
    parsed_by(_parse_secrets),
    REDACT,
    WithJsonSchema(
        {"anyOf": [shape_marker("secret"), {"type": "array", "items": shape_marker("secret"), "minItems": 1}]}
    ),
]
"""A secret, or a list of them."""


def _check_signed(text: str) -> str:
    parse_signed_text(text)
    return text


def _check_each(text: str) -> str:
    parse_signature_format(text)
    check_header_text(text)
    return text


def _check_join(text: str) -> str:
    check_header_text(f"-{text}-")
    return text


def check_header_text(text: str) -> None:
    """Raise ValueError for a text that must not be part of a header's value."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("must consist of printable ASCII characters: it is part of a header")
    check_header_value(text)


def _parse_header(text: str) -> Template:
    check_header_text(text)
    return parse_header_template(text)


def _check_header(text: str) -> str:
    _parse_header(text)
    return text


def _check_name(name: str) -> str:
    if may_change_request(normal_name(name).encode()):
        raise ValueError("must not be a header by which a server may take the request for another")
    return name


_Headers = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_check_name)], Annotated[str, AfterValidator(_check_header)]], MAX_NAMES
]


def _check_component(name: str) -> str:
    check_component(name)
    return name


_Component = Annotated[str, AfterValidator(_check_component)]


def _parse_key(raw: object, info: ValidationInfo) -> Reference:
    """Parse a shared secret of one line, or a private key in PEM."""
    return parse_secret(raw, Context.of(info), pem=info.data.get("algorithm") != "hmac-sha256")


def _check_expires(seconds: float) -> float:
    if seconds < 1 or seconds % 1:
        raise ValueError("must be a whole number of seconds, at least 1s")
    return seconds


def _check_string(text: str) -> str:
    check_string(text)
    return text


def _check_label(label: str) -> str:
    check_label(label)
    return label


class SignatureFields(PartSettings):
    """The keys of a signature: those of the kind and of the section `signature`."""

    filled_later: ClassVar[frozenset[str]] = frozenset({*GENERATED, *FROM_REQUEST, BODY, SIGNATURE, SIGNATURES})

    scheme: Annotated[SchemeName, SAFE_TO_CHANGE] = Field(
        description="The signature scheme of a platform ([table](signatures.md#schemes)), or `custom` with the "
        "keys below."
    )
    algorithm: Annotated[Algorithm | None, SAFE_TO_CHANGE] = Field(
        default=None,
        validate_default=True,
        description="With `custom`: the HMAC (RFC 2104), one of `hmac-...`; default: `hmac-sha256`. Required with "
        "`rfc9421`: `ed25519`, `ecdsa-p256-sha256`, `rsa-pss-sha512` or `hmac-sha256`.",
    )
    secret: Secrets | None = Field(
        default=None,
        validate_default=True,
        description="The secret, as a reference. Or a list of secrets: each makes a signature, so that receivers can "
        "change from one to the next. With `standard-webhooks` and `svix`, the prefixes `whsec_` and "
        "`whsk_` have the meaning of Standard Webhooks. Otherwise the whole text is the key.",
    )
    secret_encoding: Annotated[SecretEncoding, SAFE_TO_CHANGE] = Field(
        default="text",
        description="With `custom`, and with `hmac-sha256` of `rfc9421`: the encoding of the key in the secret. "
        "`text`: none.",
    )
    signed: Annotated[Annotated[str, AfterValidator(_check_signed)] | None, SAFE_TO_CHANGE] = Field(
        default=None,
        validate_default=True,
        description="With `custom`: the text to sign, with values in braces, such as "
        "`{timestamp}.{method}.{target}.{body}` ([values](signatures.md#values)).",
    )
    encoding: Annotated[Encoding, SAFE_TO_CHANGE] = Field(
        default="hex", description="With `custom`: the encoding of a signature. `base64url` has no padding."
    )
    each: Annotated[str, AfterValidator(_check_each), SAFE_TO_CHANGE] = Field(
        default="{signature}",
        description="With `custom`: the format of each signature in `{signatures}`, such as `v1={signature}`.",
    )
    join: Annotated[str, AfterValidator(_check_join), SAFE_TO_CHANGE] = Field(
        default=",", description="With `custom`: the separator in `{signatures}`."
    )
    headers: Annotated[Annotated[_Headers, AfterValidator(check_unique)] | None, SAFE_TO_CHANGE] = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="With `custom`: the headers that Sidekey sets, such as `t={timestamp},{signatures}`. If a "
        "header is exactly `{id}`, Sidekey keeps the caller's value.",
    )
    key: Annotated[Reference, PlainValidator(_parse_key), REDACT, WithJsonSchema(shape_marker("pem_secret"))] | None = (
        Field(
            default=None,
            validate_default=True,
            description="With `rfc9421`: the private key in PEM, without a passphrase, as a reference; for "
            "`hmac-sha256` the secret.",
        )
    )
    key_id: Annotated[Annotated[Text, literal_check(check_string)] | None, SAFE_TO_CHANGE] = Field(
        default=None,
        description="With `rfc9421`: the `keyid` by which the receiver finds the key; default: the key's thumbprint "
        "(RFC 7638). Required with `hmac-sha256`.",
    )
    components: Annotated[list[_Component], MAX_NAMES, SAFE_TO_CHANGE] = Field(
        default=[*DEFAULT_COMPONENTS],
        min_length=1,
        description="With `rfc9421`: the components to sign: header names in lower case, and `@method`, "
        "`@target-uri`, `@authority`, `@scheme`, `@request-target`, `@path` and `@query` (RFC 9421 2.2). "
        "Sidekey writes `content-digest` itself. Without a body, it omits all `content-...`.",
    )
    expires: Annotated[Annotated[Duration, AfterValidator(_check_expires)] | None, SAFE_TO_CHANGE] = Field(
        default=None,
        description="With `rfc9421`: after how long the signature expires, in whole seconds; default: never.",
    )
    nonce: Annotated[bool, SAFE_TO_CHANGE] = Field(
        default=False, description="With `rfc9421`: whether the signature has a random nonce."
    )
    tag: Annotated[Annotated[str, AfterValidator(_check_string)] | None, SAFE_TO_CHANGE] = Field(
        default=None, description="With `rfc9421`: the application's tag."
    )
    label: Annotated[str, AfterValidator(_check_label), SAFE_TO_CHANGE] = Field(
        default=DEFAULT_LABEL, description="With `rfc9421`: the name of the signature in its two headers."
    )

    @field_validator("*")
    @classmethod
    def _check_scheme(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a key that its scheme does not use, and a required key without a value."""
        key = str(info.field_name)
        scheme, schemes = info.data.get("scheme"), _SCHEMES_OF_KEY.get(key)
        if scheme is None or schemes is None:
            return value
        if scheme not in schemes:
            if value != cls.model_fields[key].default:
                raise ValueError(f"may be used only with scheme {_any_of(sorted(schemes))}")
        elif value is None and not _REQUIRED.isdisjoint(((key, ""), (key, scheme))):
            raise PydanticKnownError("missing")
        return value

    @field_validator("components")
    @classmethod
    def _check_components(cls, components: list[str]) -> list[str]:
        repeated = (index for index, name in enumerate(components) if components.index(name) < index)
        refuse(((index,), ValueError("is there already: remove one")) for index in repeated)
        return components

    @field_validator("algorithm")
    @classmethod
    def _check_algorithm(cls, algorithm: str | None, info: ValidationInfo) -> str | None:
        known = _ALGORITHMS.get(info.data.get("scheme", ""))
        if algorithm is not None and known is not None and algorithm not in known:
            raise ValueError(f"must be {_any_of(known)} with scheme {info.data['scheme']}")
        return algorithm

    def inputs(self) -> Iterator[SecretInput]:
        """Yield every value that is a reference."""
        yield from (SecretInput(place, reference, self._check_key) for place, reference in self._keys())
        if self.key_id is not None:
            yield SecretInput(("key_id",), self.key_id, check_string)

    def rules(self) -> SigningRules:
        """Return the rules of the signer, which depend on no secret."""
        return self._parameters().rules() if self.scheme == "rfc9421" else self._scheme().rules()

    def signer(self, values: Mapping[Keys, str]) -> Signer:
        """Build the signer from the values of `inputs`."""
        keys = [self._read_key(values[place]) for place, _ in self._keys()]
        if self.scheme == "rfc9421":
            ((key, thumbprint),) = keys
            return MessageSigner(key, values.get(("key_id",), thumbprint), self._parameters())
        return self._scheme().signer([key for key, _ in keys])

    def _keys(self) -> Iterator[tuple[Keys, Reference]]:
        """Yield the reference to each signing key with its location."""
        if self.key is not None:
            yield ("key",), self.key
        elif isinstance(self.secret, Reference):
            yield ("secret",), self.secret
        elif self.secret is not None:
            yield from ((("secret", str(index)), reference) for index, reference in enumerate(self.secret))

    def _read_key(self, secret: str) -> tuple[SigningKey, str]:
        """Parse a signing key. Return the key and its thumbprint, which is empty for a secret. Raises ValueError."""
        if self.scheme == "rfc9421":
            if self.algorithm in _ASYMMETRIC:
                return load_key(secret, self.algorithm)
            return load_hmac_key(secret, self.secret_encoding, "hmac-sha256"), ""
        scheme = self._scheme()
        if scheme.asymmetric:
            return load_webhook_key(secret), ""
        return load_hmac_key(secret, self.secret_encoding, scheme.algorithm), ""

    def _check_key(self, secret: str) -> None:
        self._read_key(secret)

    def _scheme(self) -> Scheme:
        scheme = SCHEMES.get(self.scheme)
        if scheme is not None:
            return scheme
        return Scheme(
            signed=self.signed or "",
            headers=self.headers or {},
            algorithm=self.algorithm or "hmac-sha256",
            encoding=self.encoding,
            each=self.each,
            join=self.join,
        )

    def _parameters(self) -> SignatureParameters:
        return SignatureParameters(
            tuple(self.components), self.label, int(self.expires or 0), self.nonce, self.tag or ""
        )


def _any_of(names: Sequence[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} or {last}" if rest else last


def signature_errors(raw: Mapping[str, Any]) -> Findings:
    """Yield errors between the raw keys of a signature, with locations inside it."""
    scheme = SCHEMES.get(str(raw.get("scheme")))
    secrets = raw.get("secret")
    secret_count = len(secrets) if isinstance(secrets, list) else 1
    if scheme is not None:
        if secret_count > 1 and not scheme.allows_several:
            yield ("secret",), f"{raw['scheme']} carries one signature: give one secret"
        return
    if raw.get("scheme") == "rfc9421":
        yield from _rfc9421_errors(raw)
    if raw.get("scheme") != "custom":
        return
    signed, headers = _parse_or_none(raw.get("signed"), parse_signed_text), _parse_headers(raw.get("headers"))
    if headers is None:
        return
    header_values = {name: template.names for name, template in headers.items()}
    names = frozenset(chain.from_iterable(header_values.values()))
    if names.isdisjoint((SIGNATURE, SIGNATURES)):
        yield ("headers",), "one must contain {signature}, or {signatures} for one of each secret"
    if secret_count > 1 and SIGNATURE in names:
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
        yield from _template_errors(signed, names, headers)


def _template_errors(signed: Template, header_values: frozenset[str], headers: Mapping[str, Template]) -> Findings:
    for name in GENERATED:
        if name in signed.names and header_values.isdisjoint(_EQUIVALENT.get(name, (name,))):
            yield ("signed",), f"{{{name}}} is signed but in no header, so no receiver can know it: write it in headers"
    header_names = {normal_name(name) for name in headers}
    for name in sorted(signed.fields & header_names):
        yield ("signed",), f"{{header:{name}}} is a header that this signature writes: no signature can cover itself"


def _rfc9421_errors(raw: Mapping[str, Any]) -> Findings:
    if raw.get("algorithm") == "hmac-sha256":
        if raw.get("key_id") is None:
            text = "needs key_id: a thumbprint, which others have by default, would tell of the secret (RFC 7638 7)"
            yield ("algorithm",), text
    elif raw.get("secret_encoding", "text") != "text":
        yield ("secret_encoding",), "may be used only with hmac-sha256: a private key is PEM"


_EQUIVALENT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "timestamp": ("timestamp", "timestamp_ms", "date"),
        "date": ("timestamp", "timestamp_ms", "date"),
    }
)
"""For a value to sign: the values in headers from which a receiver can derive it. By default, only the value itself."""


def _parse_headers(raw: Any) -> dict[str, Template] | None:
    """Parse the templates of all headers. Return None if there are none or one is invalid."""
    templates = {name: _parse_or_none(text, _parse_header) for name, text in mapping(raw).items()}
    valid = {name: template for name, template in templates.items() if template is not None}
    return valid if valid and len(valid) == len(templates) else None


def _parse_or_none(raw: Any, read: Callable[[str], Template]) -> Template | None:
    try:
        return read(raw) if isinstance(raw, str) else None
    except ValueError:
        return None


def signature_warnings(raw: Mapping[str, Any]) -> Findings:
    """Yield warnings about the raw keys of a signature, with locations inside it."""
    signed, components = _parse_or_none(raw.get("signed"), parse_signed_text), raw.get("components")
    if raw.get("scheme") == "custom" and signed is not None and signed.names.isdisjoint((BODY, BODY_SHA256)):
        yield ("signed",), f"{_UNSIGNED_BODY}: add {{body}} or {{body_sha256}}"
    if signed is not None and any(map(_KEY_LIKE.search, signed.texts)):
        yield ("signed",), "has what looks like a key, and is shown to whoever may explain a target: write it in secret"
    if raw.get("scheme") == "rfc9421" and isinstance(components, list) and "content-digest" not in components:
        yield ("components",), f"{_UNSIGNED_BODY}: add content-digest"


_UNSIGNED_BODY: Final = "the body is not signed, so that a change of it on the way is not seen"

_KEY_LIKE: Final = re.compile(r"(?<![A-Za-z0-9+])(?=[A-Za-z+]*[0-9])(?=[0-9+]*[A-Za-z])[A-Za-z0-9+]{16,}")
"""A run of mixed letters and digits, as in a key in hex or base64, but not in words and paths.

The lookbehind lets it match only at the start of a run, so that a long run is scanned once.
"""


def prefix_findings(findings: Findings, section: str) -> Findings:
    """Prefix the locations of findings with a section of the integration."""
    return (((section, *keys), text) for keys, text in findings)


class SignatureSectionSettings(SignatureFields, SupplementSettings):
    """A signature over each request, including everything that `auth` and `add` put into it."""

    SECTION: ClassVar[str] = "signature"

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield errors between the keys of the signature."""
        yield from prefix_findings(signature_errors(raw), cls.SECTION)

    @classmethod
    def find_warnings_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield warnings about the signature."""
        yield from prefix_findings(signature_warnings(raw), cls.SECTION)

    def signing(self) -> SigningRules:
        """Return the rules of the signer."""
        return self.rules()

    def location_of_header(self, name: str) -> Keys:
        """Return the location of the header under `headers`, or else of `scheme`, which sets it."""
        headers = self.headers or ()
        return next((("headers", header) for header in headers if normal_name(header) == name), ("scheme",))

    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """Build a grant with a signer only."""
        return Grant(signer=self.signer(values))
