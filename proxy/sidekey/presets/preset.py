"""Presets: build the request that `POST /p/ID` sends for a caller's payload or parameters.

A preset has a method, a URL and headers. A preset without a body forwards the caller's payload. A preset with a body
fills it, and placeholders in URL and headers, with the caller's parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from sidekey.errors import Problem
from sidekey.policy.headers import Role, is_plain, line_values, nominated, normalise
from sidekey.policy.json_reader import TooDeepError, parse_json
from sidekey.policy.messages import RequestHead
from sidekey.policy.parameters import JSON, UnsupportedBody, media_type
from sidekey.presets.template import (
    NAME,
    Errors,
    Template,
    TooLarge,
    UrlTemplate,
    Value,
    content_type_parameters,
    essence_of,
)

METHOD: Final = b"POST"
"""The method of every request to a preset."""

PARAMETERS_TOO_LARGE: Final = Problem("request_too_large", "the parameters are over limits.preset_parameters")

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
CONTENT_TYPE: Final = re.compile(rf'{_WORD}/{_WORD}(?: *; *{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*')
"""A media type with its parameters (RFC 9110 8.3.1)."""

_MAX_ERRORS: Final = 64
_MAX_CHOICES_LENGTH: Final = 200
"""Characters of the values that an error lists."""
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_NAME: Final = re.compile(NAME)
_TYPES: Final = {
    "text": (str, "must be a text"),
    "number": (Decimal, "must be a number, such as 12.50"),
    "boolean": (bool, "must be true or false"),
}

_CONTENT_TYPE: Final = b"content-type"
_CONTENT_TYPE_START: Final = b"\r\nContent-Type: "
_PAYLOAD_HEADERS: Final = frozenset({b"content-type", b"content-encoding"})
"""Headers that a preset without a body forwards together with the caller's payload."""
_ALWAYS_FORWARDED: Final = frozenset({b"accept", b"idempotency-key", b"traceparent", b"tracestate", b"via"})
"""Headers of the caller that every preset forwards unless it sets them. Via detects loops (RFC 9110 7.6)."""
_BODILESS: Final = frozenset({b"GET", b"DELETE", b"OPTIONS"})
"""Methods for which an empty body has no Content-Length (RFC 9110 8.6)."""


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Parsers disagree about which of two equal keys counts (RFC 8259 4).
        raise KeyError
    return members


# A Decimal keeps every digit, and parsing one takes time in proportion to its length.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_int=Decimal, parse_float=Decimal, parse_constant=Decimal
)


def _format_choices(choices: Sequence[Value]) -> str:
    text = ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
    return text if len(text) <= _MAX_CHOICES_LENGTH else "the values that the preset allows"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a preset. It is required if it has no default. `max_length` 0 means no limit."""

    type: str
    default: Value | None = None
    max_length: int = 0
    enum: Sequence[Value] = ()

    def find_error(self, value: object) -> str | None:
        """Return why a value is invalid, or None if it is valid."""
        kind, text = _TYPES[self.type]
        if not isinstance(value, kind) or (isinstance(value, Decimal) and not value.is_finite()):
            return text
        if isinstance(value, str):
            if self.max_length and len(value) > self.max_length:
                return f"must have at most {self.max_length} characters"
            if not value.isascii() and _SURROGATE.search(value):
                return "must not contain lone surrogates, which have no UTF-8"
        if self.enum and value not in self.enum:
            return f"must be one of {_format_choices(self.enum)}"
        return None


def read_parameters(
    parameters: Mapping[str, Parameter], payload: bytes
) -> tuple[dict[str, Value], list[tuple[str, str]]]:
    """Parse a caller's JSON object. Return the valid values, with defaults, and each error after its JSON pointer."""
    try:
        sent = parse_json(payload, _DECODER.decode)
    except KeyError:
        return {}, [("", "the parameters must not contain a key twice")]
    except InvalidOperation:
        return {}, [("", "the parameters must not contain a number with such an exponent")]
    except TooDeepError as error:
        return {}, [("", f"the parameters {error}")]
    except ValueError:
        return {}, [("", "the parameters must be valid JSON in UTF-8")]
    if not isinstance(sent, dict):
        return {}, [("", "the parameters must be a JSON object")]
    errors: list[tuple[str, str]] = []
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        value = sent.get(name, parameter.default)
        if name not in sent and value is None:
            errors.append((f"/{name}", "is required"))
            continue
        reason = parameter.find_error(value)
        if reason is not None:
            errors.append((f"/{name}", reason))
        elif isinstance(value, str | bool | Decimal):
            values[name] = value
    for name in sent:
        if name not in parameters and len(errors) < _MAX_ERRORS:
            # Repeat only names that a parameter could have: others may be secrets.
            errors.append((f"/{name}" if _NAME.fullmatch(name) else "", "the preset has no such parameter"))
    return values, errors


class HeaderTemplate(NamedTuple):
    """A preset's header."""

    name: str
    value: Template


class FilledRequest(NamedTuple):
    """A request to send: a head with an absolute target, and a body."""

    head: RequestHead
    body: bytes


class PresetRules:
    """Builds requests from those of callers. `fixed_url` is None if the URL has placeholders.

    A preset without a body and with an empty `content_type` accepts a payload of any media type.
    """

    __slots__ = (
        "_body",
        "_content_line",
        "_content_type",
        "_content_type_parameters",
        "_fixed_lines",
        "_fixed_names",
        "_forwarded",
        "_header_templates",
        "_parameters",
        "_preset_headers",
        "_url",
        "fixed_url",
        "has_body",
        "header_names",
        "id",
        "integration",
        "method",
        "sample_url",
    )

    def __init__(  # noqa: PLR0917 - the parts of a request, in the config's order
        self,
        id: str,  # noqa: A002 - the config's key
        integration: str,
        method: str,
        url: UrlTemplate,
        content_type: str,
        headers: Sequence[HeaderTemplate] = (),
        parameters: Mapping[str, Parameter] | None = None,
        body: Template | None = None,
    ) -> None:
        self.id: Final = id
        self.integration: Final = integration
        self.method: Final = method.encode()
        self.fixed_url: Final = None if url.literal is None else url.literal.encode()
        self.sample_url: Final = url.fill_sample()
        """The URL with a plain value for each placeholder, to check it against a policy."""
        self.header_names: Final = [header.name for header in headers]
        self.has_body: Final = body is not None
        self._url: Final = url
        self._parameters: Final = parameters or {}
        self._body: Final = body
        self._content_type: Final = essence_of(content_type)
        self._content_type_parameters: Final = content_type_parameters(content_type)
        self._content_line: Final = _CONTENT_TYPE_START + content_type.encode()
        self._preset_headers: Final = frozenset([_normal_name(header) for header in headers])
        self._forwarded: Final = (
            _ALWAYS_FORWARDED if body is not None else _ALWAYS_FORWARDED | _PAYLOAD_HEADERS
        ) - self._preset_headers
        fixed = [header for header in headers if header.value.literal is not None]
        self._fixed_names: Final = [_normal_name(header) for header in fixed]
        self._fixed_lines: Final = [_line(header.name, header.value.literal or "") for header in fixed]
        self._header_templates: Final = [header for header in headers if header.value.literal is None]

    def build_head(self, head: RequestHead, caller_fields: frozenset[bytes] = frozenset()) -> RequestHead | Problem:
        """Build the head to send before the body is known, or return why the request is refused.

        The caller's headers in `caller_fields` (normalized names) are forwarded too, unless the preset sets them.
        """
        forwarded = self._forwarded
        if caller_fields:
            forwarded |= caller_fields - self._preset_headers
        if head.connection:
            forwarded -= nominated(head.connection)
        forwards_payload = self._body is None
        names: list[bytes] = []
        fields: list[bytes] = []
        has_type = False
        for index, name in enumerate(head.names):
            if name not in forwarded:
                continue
            line = head.fields[index]
            if forwards_payload and name == _CONTENT_TYPE:
                if has_type or (line != self._content_line and not self._accepts_type(line)):
                    return self._type_denied()
                has_type = True
            names.append(name)
            fields.append(line)
        if forwards_payload and not has_type:
            return self._type_denied()
        if not forwards_payload and not _is_json(head):
            detail = "send the parameters as a JSON object: Content-Type must be application/json, without a coding"
            return Problem("content_type_denied", detail, denial="content_type")
        if self._fixed_lines:
            names += self._fixed_names
            fields += self._fixed_lines
        # On the warm path, avoid the slow look-up of an enum member.
        expected = None if head.control_headers is None else head.control_header(Role.EXPECT)
        return RequestHead(
            self.method,
            self.fixed_url or head.target,
            head.host,
            fields,
            names,
            None if expected is None else {Role.EXPECT: expected},
            None,
            head.length,
            head.has_content_length,
            head.http_1_1,
            head.keep_alive,
        )

    def _accepts_type(self, line: bytes) -> bool:
        """Return True if the preset accepts a Content-Type line. It may have more parameters, such as a boundary."""
        value = line.partition(b":")[2].strip(b" \t").decode("latin-1")
        if not self._content_type:
            return CONTENT_TYPE.fullmatch(value) is not None
        return essence_of(value) == self._content_type and self._content_type_parameters <= content_type_parameters(
            value
        )

    def _type_denied(self) -> Problem:
        expected = (
            self._content_line[len(_CONTENT_TYPE_START) :].decode() or "one valid media type, such as application/json"
        )
        return Problem("content_type_denied", f"Content-Type must be {expected}", denial="content_type")

    def fill(self, head: RequestHead, payload: bytes, *, max_body: int, max_target: int) -> FilledRequest | Problem:
        """Fill URL, headers and body with a caller's parameters, or return all errors.

        `max_body` limits the bytes of the body, and of all filled headers together.
        """
        if self._body is None:
            raise ValueError("a preset without a body has no parameters")
        values, problems = read_parameters(self._parameters, payload)
        errors: Errors = {}
        names, fields = head.names.copy(), head.fields.copy()
        body = target = b""
        is_long = is_large = False
        try:
            target = self.fixed_url or self._url.fill(values, errors, max_target).encode()
        except TooLarge:
            is_long = True
        if is_long or len(target) > max_target:
            detail = f"the filled URL must not be over limits.target ({max_target} bytes)"
            problems.append(("", detail))
        try:
            remaining = max_body
            for header in self._header_templates:
                value = header.value.fill(values, errors, remaining)
                remaining -= len(value)
                names.append(_normal_name(header))
                fields.append(_line(header.name, value))
            body = self._body.fill(values, errors, max_body).encode()
        except TooLarge:
            is_large = True
        if is_large or len(body) > max_body:
            detail = f"the filled body or the filled headers must not be over limits.preset_body ({max_body} bytes)"
            problems.append(("", detail))
        problems += [(f"/{name}", reason) for name, reason in errors.items()]
        if problems:
            detail = "the parameters are not valid for the preset"
            return Problem("parameters_invalid", detail, errors=tuple(problems))
        if body:
            names.append(_CONTENT_TYPE)
            fields.append(self._content_line)
        has_content_length = bool(body) or self.method not in _BODILESS
        filled = RequestHead(
            self.method,
            target,
            head.host,
            fields,
            names,
            None,
            None,
            len(body),
            has_content_length,
            head.http_1_1,
            head.keep_alive,
        )
        return FilledRequest(filled, body)


def _normal_name(header: HeaderTemplate) -> bytes:
    return normalise(header.name.encode())


def _line(name: str, value: str) -> bytes:
    return f"\r\n{name}: {value}".encode("latin-1")


def _is_json(head: RequestHead) -> bool:
    types = line_values(head.fields, _CONTENT_TYPE)
    if len(types) != 1 or not is_plain(head.fields):
        return False
    if head.connection and not _PAYLOAD_HEADERS.isdisjoint(nominated(head.connection)):
        return False
    try:
        return media_type(types[0].decode("latin-1")) == JSON
    except UnsupportedBody:
        return False
