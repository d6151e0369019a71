"""Field types that kinds share: references to secrets and texts, and rules for injected names and values.

Parsers and checks come first, the annotated types (`Secret`, `Text`, `HeaderName`) at the end. Every check raises
ValueError with a reason that is safe to show: it never repeats the value.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticKnownError, core_schema

from sidekey.credentials.commands import Command, parse_command
from sidekey.credentials.context import Context, parsed_by

Source = Literal["file", "env", "command", "url", "insecure_value", "inline", "text", "plain", "stored", "stored_url"]

WRITTEN: Final = frozenset({"text", "inline", "plain"})
"""Sources of values that the document itself contains. `plain` is a secret that a file writes as text."""

StoredForm = Literal["value", "text", "inline", "secret"]
"""How a stored document contains a value that came from a config file: as `{value}`, as the text itself, as
`{inline}`, or as `{secret: {value}}`."""

Keys = tuple[str, ...]
"""The keys on the path to a value."""

REDACTED = "REDACTED"
REMEDY = "use {file: PATH} or {env: NAME}"
STORED_SECRET_KEYS = frozenset({"set", "id", "set_at", "set_by"})
"""The keys of a stored secret in an API response."""

HIDDEN_MARKER: Final = "x-sidekey-hidden-from-viewers"
"""Marks a `HiddenFromViewers` key in a JSON schema."""


@dataclass(frozen=True, slots=True)
class HiddenFromViewers:
    """Marks a public key of a stored integration that is hidden from operators with the role `viewer`."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), HIDDEN_MARKER: True}


HIDDEN_FROM_VIEWERS: Final = HiddenFromViewers()

SEND_VALUE = "send {value: SECRET}, which is sealed"

_NO_TEXT = "must be a text, {file: PATH} or {env: NAME}: put numbers, true, false and null in quotes"
_ENTRY_OPTIONS: Final = frozenset({"format", "key"})
_UNSUPPORTED = {
    "store": "secrets of a store are not supported yet",
    "secrets": "secrets of a store are not supported yet",
    "url": "{url} may be used only for client certificates and their keys",
    "command": "a command may provide secrets of integrations only",
}
_FILE_ONLY = {
    "file": "no file of Sidekey's machine may be read",
    "env": "no environment variable may be read",
    "command": "no program may be run",
    "insecure_value": "a secret may not be written in the open",
}
"""Keys of references that only a config file may contain, each with the reason."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(r"[A-Za-z0-9_.~-]+")
_PRIVATE_KEY = re.compile(r"PRIVATE[\s_-]+KEY", re.IGNORECASE)

HTTP_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token in the sense of RFC 9110 5.6.2, such as a header name."""

NOT_INJECTED = frozenset(
    {
        "host",
        # Sidekey frames the request itself (RFC 9112 6).
        "content-length",
        "transfer-encoding",
        # Hop-by-hop (RFC 9110 7.6.1), including names that older peers treat as such.
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        # The caller compares the response with its own (RFC 6455 4.1).
        "sec-websocket-key",
        "sec-websocket-version",
        # Between the caller and Sidekey, or written by Sidekey.
        "expect",
        "via",
        "x-integration-id",
    }
)
"""Header names, in normal form, that no integration may inject. `Sidekey-*` is refused as well."""


class Entered(dict[str, Any]):
    """A mapping in a body that may enter a new secret, as `{value}` or `{url}`. `id` becomes the secret's ID."""

    __slots__ = ("id",)

    def __init__(self, raw: Mapping[str, Any]) -> None:
        super().__init__(raw)
        self.id = f"s_{secrets.token_hex(8)}"

    def __repr__(self) -> str:
        return f"Entered({self.id}, REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("an entered value may be a secret and is not pickled")


class ProvidedText(str):
    """A text that a provider profile sets in place of a secret, such as a fixed user name."""

    __slots__ = ()


class SecretUnreadable(Exception):
    """Unreadable values of an integration. `reasons` has the location and reason of each, never its content."""

    def __init__(self, reasons: tuple[tuple[Keys, str], ...]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(keys)}: {reason}" for keys, reason in self.reasons)


@dataclass(frozen=True, slots=True)
class DocumentType:
    """Names the model of a key's mapping in the document if the parsed value has another type."""

    model: type[BaseModel]


@dataclass(frozen=True, slots=True)
class MaxEntries:
    """Limits the entries of a mapping or list, and counts them before it validates any."""

    entries: int

    def admits(self, raw: object) -> bool:
        """Return True if `raw` is within the limit."""
        return not isinstance(raw, Mapping | list) or len(raw) <= self.entries

    def _check(self, raw: object) -> object:
        if not self.admits(raw):
            noun = "names" if isinstance(raw, Mapping) else "entries"
            raise ValueError(f"must have at most {self.entries} {noun}: remove some")
        return raw

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # Keys with the same annotation share one schema object.
        result: dict[str, Any] = deepcopy(handler(schema))
        for variant in (result, *result.get("oneOf", ()), *result.get("anyOf", ())):
            limit = {"array": "maxItems", "object": "maxProperties"}.get(variant.get("type"))
            if limit is not None:
                variant[limit] = self.entries
        return result


class Section(BaseModel):
    """A mapping of the config: no unknown keys, no conversions, and no input in an error."""

    # `defer_build`: pydantic builds one validator at the first use of the whole config, not one for each class.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True, defer_build=True)


def expand_tag(raw: object) -> object:
    """Turn the bare name of a union's member into `{type: NAME}`; return other values unchanged."""
    return {"type": raw} if isinstance(raw, str) else raw


MAX_NAMES: Final = MaxEntries(64)
"""The maximum number of names in a section. Sidekey compares each request with all of them."""

MAX_ENTRIES: Final = MaxEntries(256)
"""The maximum number of entries in a list that Sidekey compares with another list, such as prefixes with domains."""

MAX_NAME_LENGTH: Final = 256
"""Characters of a name."""


FileFormat = Literal["json", "dotenv"]


class FileEntry(NamedTuple):
    """An entry of a file with several values: a member of a JSON object, or a variable of a dotenv file."""

    format: FileFormat
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """The source of a value. `value` is a path, a variable's name, a URL, the text, or the ID of a stored secret.

    Nothing shows `value`, because it may be a secret.
    """

    source: Source
    value: str
    pem: bool = False
    """True if the value is PEM, which has several lines."""
    form: StoredForm = field(default="value", compare=False)
    """How the store writes the value (see `StoredForm`)."""
    command: Command | None = None
    """The program that writes the value if the source is `command`; `value` is its path."""
    entry: FileEntry | None = None
    """The entry of a structured file that has the value, or None if the whole file is the value."""
    reread: bool = False
    """True if another program replaces the file, so Sidekey reads it before each call instead of watching it."""

    @property
    def is_secret(self) -> bool:
        """Return True for a value from outside the document, unless its key is public, such as a certificate's.

        No other code decides this: permissions, sealing and redaction follow it.
        """
        return self.source not in WRITTEN and self.form in ("value", "secret")

    def __repr__(self) -> str:
        return f"Reference({self.source}, {REDACTED})"

    def __reduce__(self) -> str:
        raise TypeError("a reference may hold a secret and is not pickled")


def clean(text: str) -> str:
    """Drop one trailing newline. Raises ValueError if other control characters (C0, DEL, C1) remain.

    The error's text continues a sentence that starts with the name of the value.
    """
    if text.isprintable():
        # The fast path, which matters for ten thousand integrations: no control character and no surrogate.
        return text
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if _CONTROL.search(text):
        if not _CONTROL.search(text.rstrip("\r\n")):
            raise ValueError("must not end with more than one newline")
        raise ValueError("must not contain a control character")
    if _SURROGATE.search(text):
        # YAML allows \uD800 to \uDFFF: half a character, which cannot be encoded.
        raise ValueError("must not contain a lone surrogate, which is not a character")
    return text


def clean_secret(text: str) -> str:
    """Clean a text that must not be empty."""
    text = clean(text)
    if not text:
        raise ValueError("must not be empty")
    return text


def clean_pem(text: str) -> str:
    """Clean PEM (RFC 7468), which has several lines, and possibly text before the first block."""
    lines = text.replace("\r\n", "\n").split("\n")
    if not any(lines):
        raise ValueError("must not be empty")
    if any(map(_CONTROL.search, lines)):
        raise ValueError("must not contain a control character")
    if "-----BEGIN " not in text:
        raise ValueError("must be PEM: no line begins with -----BEGIN")
    return "\n".join(lines)


def clean_value(reference: Reference, text: str) -> str:
    """Clean the text that was read for a reference to a secret. Raises ValueError."""
    return clean_pem(text) if reference.pem else clean_secret(text)


def parse_secret(raw: object, context: Context, *, pem: bool = False) -> Reference:
    """Parse the reference to a secret: {file}, {env}, {command} or {insecure_value} in a file.

    Elsewhere, parse a `stored_secret`.
    """
    if not isinstance(raw, Mapping):
        reason = f"a secret may not be written inline: {REMEDY}"
        # pydantic reports ValueError.
        raise ValueError(reason if context.is_file else f"must not be a bare text: {SEND_VALUE}")  # noqa: TRY004
    if not context.is_file:
        return stored_secret(raw, context, pem=pem)
    if "command" in raw:
        command = parse_command(raw)
        return Reference("command", command.program, pem, command=command)
    entry, raw = split_entry(raw)
    source, value = single_source(raw, ("file", "env", "insecure_value"), REMEDY)
    if source == "insecure_value":
        return Reference("insecure_value", _clean_literal(value, clean_pem if pem else clean_secret), pem)
    return external_reference(source, value, pem, entry=entry)


def parse_secret_or_text(raw: object, context: Context) -> Reference:
    """Parse a secret that a config file or a provider profile may also write as plain text."""
    if isinstance(raw, str) and (context.is_file or isinstance(raw, ProvidedText) or not raw):
        return Reference("plain", _clean_literal(raw, clean))
    if not isinstance(raw, Mapping):
        raise ValueError(_NO_TEXT if context.is_file else f"must not be a bare text: {SEND_VALUE}")  # noqa: TRY004
    return parse_secret(raw, context)


def parse_global_secret(raw: object, context: Context, *, pem: bool = False) -> Reference:
    """Parse the reference to a secret of a global section: {file}, {env} or {insecure_value}."""
    if isinstance(raw, Mapping) and "command" in raw:
        raise ValueError(f"{_UNSUPPORTED['command']}; {REMEDY}")
    return parse_secret(raw, context, pem=pem)


def parse_external_secret(raw: object) -> Reference:
    """Parse the reference to a secret that must be outside the config, even for trials: {file} or {env}."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"a secret may not be written inline: {REMEDY}")  # noqa: TRY004 - as above
    if "insecure_value" in raw:
        raise ValueError(f"this secret may not be in the config file, even for trials: {REMEDY}")
    entry, raw = split_entry(raw)
    return external_reference(*single_source(raw, ("file", "env"), REMEDY), entry=entry)


def parse_text(raw: object, context: Context, *, pem: bool = False, form: StoredForm = "text") -> Reference:
    """Parse a public text: the text itself, or in a file also {file} or {env}."""
    if isinstance(raw, str):
        if pem:
            refuse_key(raw, "write it under private_key")
        return Reference("text", _clean_literal(raw, clean_pem if pem else clean), pem)
    if not isinstance(raw, Mapping):
        raise ValueError(_NO_TEXT if context.is_file else "must be a text")  # noqa: TRY004 - as above
    if not context.is_file:
        refuse_file_reference(raw, "send the text itself")
        raise ValueError("must be a text, which is public here: send the text itself")
    entry, raw = split_entry(raw)
    source, value = single_source(raw, ("file", "env"), "use a text, {file: PATH} or {env: NAME}")
    return external_reference(source, value, pem, form, entry)


def parse_scalar(raw: object, context: Context, reason: str) -> Reference | int | float | bool:
    """Parse a text, a number, a boolean, or the reference to a secret; else raise ValueError with `reason`."""
    if isinstance(raw, Mapping):
        return parse_secret(raw, context)
    if isinstance(raw, str):
        return parse_text(raw, context)
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return raw
    raise ValueError(reason)


def _clean_literal(text: str, cleaner: Callable[[str], str]) -> str:
    try:
        return cleaner(text)
    except ValueError as error:
        raise ValueError(f"the value {error}") from None


def single_source(raw: Mapping[Any, Any], sources: tuple[str, ...], remedy: str) -> tuple[str, str]:
    """Return source and value of a reference whose only key is in `sources`. Raises ValueError with the `remedy`."""
    refused = next((reason for key, reason in _UNSUPPORTED.items() if key in raw and key not in sources), None)
    if refused is not None:
        raise ValueError(f"{refused}; {remedy}")
    if "file" in sources and raw.keys() & _ENTRY_OPTIONS:
        raise ValueError(f"format and key are not supported here, only a whole file: {remedy}")
    if len(raw) != 1:
        raise ValueError(f"a reference must have exactly one key: {remedy}")
    if next(iter(raw)) not in sources:
        # The key may be a secret that was pasted by mistake.
        raise ValueError(f"a reference may not have this key here: {remedy}")
    source, value = next(iter(raw.items()))
    if not isinstance(value, str):
        raise ValueError(f"{source} must be a text: put it in quotes")  # noqa: TRY004 - as above
    return source, value


def mentions_private_key(pem: str) -> bool:
    """Return True if a text has the label of a private key, even a misspelled one that no parser accepts."""
    return _PRIVATE_KEY.search(pem) is not None


def refuse_key(pem: str, remedy: str) -> None:
    """Raise ValueError for a private key in a public text."""
    if mentions_private_key(pem):
        raise ValueError(f"must not contain a private key, which is a secret: {remedy}")


ENTRY_KEYS: Final = frozenset({"file", "format", "key"})
"""The keys of a reference to an entry of a file."""

_ENTRY_REMEDY = "use {file: PATH, format: json, key: NAME} or {file: PATH, format: dotenv, key: NAME}"


def split_entry(raw: Mapping[Any, Any]) -> tuple[FileEntry | None, Mapping[Any, Any]]:
    """Return the entry of a file that a reference names, if any, and the rest of the reference. Raises ValueError."""
    if "file" not in raw or not ("format" in raw or "key" in raw):
        return None, raw
    key, format_name = raw.get("key"), raw.get("format")
    if raw.keys() != ENTRY_KEYS or format_name not in get_args(FileFormat):
        raise ValueError(f"a reference to an entry of a file has file, format and key: {_ENTRY_REMEDY}")
    if not isinstance(key, str) or not key or _CONTROL.search(key):
        raise ValueError("key must be the name of an entry: a text, in quotes if it is a number, true, false or null")
    return FileEntry("json" if format_name == "json" else "dotenv", key), {"file": raw["file"]}


def external_reference(
    source: str, value: str, pem: bool = False, form: StoredForm = "value", entry: FileEntry | None = None
) -> Reference:
    """Build the reference to a file or a variable. Raises ValueError."""
    if source == "env":
        if not _ENV_NAME.fullmatch(value):
            raise ValueError("env must be the name of an environment variable: letters, digits and _")
        return Reference("env", value, pem, form)
    if not value or _CONTROL.search(value):
        raise ValueError("file must be a path, not empty and without control characters")
    return Reference("file", value, pem, form, entry=entry)


def write_stored(form: StoredForm, text: str) -> Any:
    """Build the value of a stored document for the text of a reference."""
    if form == "text":
        return text
    if form == "secret":
        return {"secret": {"value": text}}
    return {form: text}


def stored_secret(raw: Mapping[str, Any], context: Context, *, pem: bool) -> Reference:
    """Parse a secret of a body or row: `{set: true, id}`, which keeps the stored one, or in a body a new `{value}`."""
    if keeps_stored_secret(raw):
        return Reference("stored", stored_secret_id(raw), pem)
    refuse_file_reference(raw, SEND_VALUE)
    refuse_entered(context)
    text = raw.get("value")
    if list(raw) != ["value"] or not isinstance(text, str):
        raise ValueError(f"must have one key, value, with a text: {SEND_VALUE}")
    _clean_literal(text, clean_pem if pem else clean_secret)
    if not text.strip("*\u2022 "):
        raise ValueError(
            "the value must not consist of * or \u2022 only, as forms show a secret: send the secret itself, or "
            "{set: true, id: ID} as you read it, to keep the stored secret"
        )
    return Reference("stored", entered_id(raw), pem)


def keeps_stored_secret(raw: Mapping[str, Any]) -> bool:
    """Return True for a mapping that keeps a stored secret: the one that the API returned, or a part of it."""
    return raw.get("set") is True and raw.keys() <= STORED_SECRET_KEYS


def stored_secret_id(raw: Mapping[str, Any]) -> str:
    """Return the ID of the stored secret that a mapping keeps. Raises ValueError."""
    secret = raw.get("id")
    if not isinstance(secret, str):
        reason = f"must have the id of the stored secret: send it as you read it, or {SEND_VALUE}"
        raise ValueError(reason)  # noqa: TRY004 - as above
    return secret


def refuse_entered(context: Context) -> None:
    """Raise ValueError if the document is a row, in which every secret must be sealed."""
    if context.where == "row":
        raise ValueError("must be {set: true, id: ID}: a row contains no secret in the open")


def entered_id(raw: Mapping[str, Any]) -> str:
    """Return the ID of a new secret. Raises TypeError if the body was not passed to `with_new_ids`."""
    if not isinstance(raw, Entered):
        raise TypeError("give the secrets of a body their IDs before you validate it")
    return raw.id


def refuse_file_reference(raw: Mapping[str, Any], remedy: str) -> None:
    """Raise ValueError for a reference that only a config file may contain."""
    for key, reason in _FILE_ONLY.items():
        if key in raw:
            raise ValueError(f"{reason} in a stored integration: {remedy}")


def literal_check(check: Callable[[str], None]) -> AfterValidator:
    """Validate a value in the document itself. `SecretInput.check` validates other values once they are read."""

    def check_literal(reference: Reference) -> Reference:
        if reference.source in ("text", "plain", "insecure_value"):
            check(reference.value)
        return reference

    return AfterValidator(check_literal)


def check_not_empty(text: str) -> None:
    """Raise ValueError for an empty text."""
    if not text:
        raise ValueError("must not be empty")


def mapping(raw: Any) -> Mapping[str, Any]:
    """Return `raw` if it is a mapping, else an empty one, for checks of values that may be invalid."""
    return raw if isinstance(raw, Mapping) else {}


def check_field_name(name: str) -> str:
    """Return the name of a field, a parameter or a claim. Raises ValueError."""
    if not name or _CONTROL.search(name) or _SURROGATE.search(name):
        raise ValueError("the name must not be empty or contain a control character")
    _check_length(name)
    return name


def _check_length(name: str) -> None:
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"the name must have at most {MAX_NAME_LENGTH} characters")


def refuse(errors: Iterable[tuple[tuple[str | int, ...], ValueError]]) -> None:
    """Raise pydantic's error for these errors, if any. Their locations are relative to the validated value."""
    details = [
        InitErrorDetails(type="value_error", loc=place, input=None, ctx={"error": error}) for place, error in errors
    ]
    if details:
        raise ValidationError.from_exception_data("config", details, hide_input=True)


def refuse_locations(places: Iterable[Keys], reason: str) -> None:
    """Raise pydantic's error for several locations with the same reason."""
    refuse((place, ValueError(reason)) for place in places)


def refuse_keys(section: BaseModel, keys: Iterable[str], reason: str) -> None:
    """Raise pydantic's error for each of `keys` that the config sets."""
    refuse_locations(((key,) for key in keys if key in section.model_fields_set), reason)


def raise_missing() -> NoReturn:
    """Raise pydantic's error for a missing key."""
    raise PydanticKnownError("missing")


def require_exactly_if(value: object, needed: bool, partner: str) -> None:
    """Raise if `value` is needed but missing, or set without its `partner`."""
    if needed and value is None:
        raise_missing()
    if not needed and value is not None:
        raise ValueError(f"may be used only with {partner}")


def normal_name(name: str) -> str:
    """Return a header name in comparable form: lower case, `_` as `-`, which CGI-like upstreams do not distinguish."""
    return name.lower().replace("_", "-")


def check_header_name(name: str) -> str:
    """Return a header name that may be injected (RFC 9110 5.1). Raises ValueError."""
    if not HTTP_TOKEN.fullmatch(name):
        raise ValueError("must be a header name: letters, digits and !#$%&'*+-.^_`|~ only (RFC 9110 5.6.2)")
    normal = normal_name(name)
    if normal in NOT_INJECTED or normal.startswith("sidekey-"):
        raise ValueError("this header may not be injected: it belongs to the connection or to Sidekey")
    _check_length(name)
    return name


def is_parameter_name(name: str) -> bool:
    """Return True if `check_parameter_name` accepts the name."""
    return len(name) <= MAX_NAME_LENGTH and _PARAMETER.fullmatch(name) is not None


def check_parameter_name(name: str) -> str:
    """Return the name of an injected parameter. Raises ValueError for a name that callers could encode differently."""
    if not _PARAMETER.fullmatch(name):
        raise ValueError("the name of a parameter must consist of ASCII letters, digits, _ . ~ and -")
    _check_length(name)
    return name


def check_header_value(value: str) -> None:
    """Raise ValueError for spaces at the ends: recipients drop them (RFC 9110 5.5), which changes the secret."""
    if value != value.strip(" "):
        raise ValueError("must not begin or end with a space: HTTP drops it")


def check_prefix(text: str) -> None:
    """Raise ValueError if the text before a secret in a header value, such as `Bearer `, starts with a space."""
    if text.startswith(" "):
        raise ValueError("must not begin with a space: HTTP drops it")


def encode_header_value(value: str) -> str:
    """Encode a header value in UTF-8, and return each byte as one Latin-1 character.

    RFC 9110 5.5 leaves bytes above 127 opaque. RFC 7617 and current servers expect UTF-8.
    """
    return value.encode().decode("latin-1")


SHAPE: Final = "x-sidekey-shape"
"""Marks a value in a JSON schema. Its schema depends on where the document is stored."""

Shape = Literal[
    "certificate_source",
    "key_source",
    "pem_secret",
    "pem_text",
    "secret",
    "external_secret",
    "global_secret",
    "secret_or_text",
    "text",
    "token_file",
    "tree",
    "trusted_ca",
]
"""The names of values marked with `SHAPE`. `sidekey.config.schema` has their JSON schemas."""


def shape_marker(name: Shape) -> dict[str, Any]:
    """Return the marker of a value in a JSON schema, which has no validation context."""
    return {SHAPE: name}


REDACT = PlainSerializer(lambda _: REDACTED, return_type=str)
"""Redacts a reference in every dump of a model."""

Secret = Annotated[Reference, parsed_by(parse_secret), REDACT, WithJsonSchema(shape_marker("secret"))]
"""A secret of an integration: {file}, {env} or {insecure_value}, in a file also {command}."""

GlobalSecret = Annotated[
    Reference, parsed_by(parse_global_secret), REDACT, WithJsonSchema(shape_marker("global_secret"))
]
"""A secret of a global section: {file}, {env} or {insecure_value}.

A failing program may exit with status 0 and write an error message, which would admit a caller.
"""

GlobalPemSecret = Annotated[
    Reference, parsed_by(partial(parse_global_secret, pem=True)), REDACT, WithJsonSchema(shape_marker("global_secret"))
]
"""A `GlobalSecret` in PEM."""

SecretOrText = Annotated[
    Reference, parsed_by(parse_secret_or_text), REDACT, WithJsonSchema(shape_marker("secret_or_text"))
]
"""A secret that a file may also write as plain text, such as a user name. The store encrypts it."""

ExternalSecret = Annotated[
    Reference,
    PlainValidator(parse_external_secret),
    REDACT,
    WithJsonSchema(shape_marker("external_secret")),
]
"""A secret that must be outside the config: {file} or {env}."""

Text = Annotated[Reference, parsed_by(parse_text), REDACT, WithJsonSchema(shape_marker("text"))]
"""A text that is not a secret: itself, {file} or {env}."""

PublicText = Annotated[
    Reference,
    parsed_by(parse_text),
    PlainSerializer(lambda reference: reference.value if reference.source == "text" else REDACTED, return_type=str),
    WithJsonSchema(shape_marker("text")),
]
"""A text whose default the config reference shows."""

PemSecret = Annotated[
    Reference, parsed_by(partial(parse_secret, pem=True)), REDACT, WithJsonSchema(shape_marker("pem_secret"))
]
"""A secret in PEM, such as a private key."""

PemText = Annotated[
    Reference, parsed_by(partial(parse_text, pem=True)), REDACT, WithJsonSchema(shape_marker("pem_text"))
]
"""A text in PEM that is not a secret, such as a certificate."""


def _check_path(path: str) -> str:
    for name in path.split("."):
        check_field_name(name)
    return path


FieldPath = Annotated[str, AfterValidator(_check_path)]
"""The path of a value in a response: names, with dots between nested objects."""

HeaderName = Annotated[str, AfterValidator(check_header_name)]
"""The name of an injected header."""

ParameterName = Annotated[str, AfterValidator(check_parameter_name)]
"""The name of an injected query parameter or body field."""
