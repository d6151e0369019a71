"""Presets: the request that a caller's payload, or a few parameters, stand for (`POST /p/{id}`).

A preset says method, URL and headers. Without a body of its own it passes the caller's payload on; with one it fills
the body, and where they have placeholders the URL and headers, with the caller's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sidekey.core.headers import Role, is_plain, line_values, nominated, normalise
from sidekey.core.parameters import JSON, Unplaceable, media_type
from sidekey.core.preset_parameters import Parameter, Values, values_of
from sidekey.core.request import RequestHead
from sidekey.core.templates import Errors, Template, TooLarge, UrlTemplate, essence_of, parameters_of
from sidekey.errors import Problem

METHOD: Final = b"POST"
"""By which presets are used."""

OVERSIZED: Final = Problem("request_too_large", "the parameters are over limits.preset_parameters")
"""Of parameters, before they are read."""

_CONTENT_TYPE: Final = b"content-type"
_OF_PAYLOAD: Final = frozenset({b"content-type", b"content-encoding"})
_ALWAYS: Final = frozenset({b"accept", b"idempotency-key", b"traceparent", b"tracestate", b"via"})
"""Fields of the caller that go on, but for those that the preset sets. Via, so that loops are found (RFC 9110 7.6)."""
_BODILESS: Final = frozenset({b"GET", b"DELETE", b"OPTIONS"})
"""Methods of which an empty body is not announced (RFC 9110 8.6)."""


class HeaderTemplate(NamedTuple):
    """A header field of a preset: its name as it is written, and its value."""

    name: str
    value: Template


class Filled(NamedTuple):
    """A request whose parameters are filled in: its head, with an absolute target, and its body."""

    head: RequestHead
    body: bytes


@dataclass(frozen=True, slots=True)
class BodyRules:
    """What a preset with a body is filled with: a template, and the parameters that callers give."""

    template: Template
    parameters: Mapping[str, Parameter]


class Preset:
    """What a request by a preset becomes.

    `url` is where it goes where that needs no parameters, else None. `integration` is the ID of the one by which.
    """

    __slots__ = (
        "_body",
        "_content_line",
        "_content_parameters",
        "_content_type",
        "_filled",
        "_lines",
        "_names",
        "_own",
        "_passing",
        "_url",
        "id",
        "integration",
        "method",
        "url",
    )

    def __init__(  # noqa: PLR0917 - the parts of a request, in the config's order
        self,
        id: str,  # noqa: A002 - as the config calls it
        integration: str,
        method: str,
        url: UrlTemplate,
        content_type: str,
        headers: Sequence[HeaderTemplate] = (),
        body: BodyRules | None = None,
    ) -> None:
        self.id: Final = id
        self.integration: Final = integration
        self.method: Final = method.encode()
        literal = url.literal
        self.url: Final = None if literal is None else literal.encode()
        self._url: Final = url
        self._body: Final = body
        self._content_type: Final = essence_of(content_type)
        self._content_parameters: Final = parameters_of(content_type)
        self._content_line: Final = b"\r\nContent-Type: " + content_type.encode()
        passing = _ALWAYS if body is not None else _ALWAYS | _OF_PAYLOAD
        self._passing: Final = passing.difference([normalise(header.name.encode()) for header in headers])
        names: list[bytes] = []
        lines: list[bytes] = []
        filled: list[HeaderTemplate] = []
        for header in headers:
            value = header.value.literal
            if value is None:
                filled.append(header)
            else:
                names.append(normalise(header.name.encode()))
                lines.append(_line(header.name, value))
        self._names: Final = names
        self._lines: Final = lines
        self._own: Final = tuple(headers)
        self._filled: Final = filled

    def __repr__(self) -> str:
        return f"Preset({self.id})"

    @property
    def sample(self) -> str:
        """Its URL with a plain value for each placeholder, to be judged by a policy."""
        return self._url.sample()

    @property
    def header_names(self) -> list[str]:
        """The names of its headers, as they are written."""
        return [header.name for header in self._own]

    @property
    def has_body(self) -> bool:
        """Whether it has a body of its own, so that callers send parameters."""
        return self._body is not None

    def receive(self, head: RequestHead, kept: frozenset[bytes] = frozenset()) -> RequestHead | Problem:
        """The head of what goes on, as far as it is known without the caller's body; or why nothing does.

        The method is the preset's, the target its URL where that is known. `kept` are the normalised names of further
        fields that go on, but for the preset's own.
        """
        passing = self._passing
        if kept:
            passing |= kept.difference([normalise(header.name.encode()) for header in self._own])
        if head.connection:
            passing -= nominated(head.connection)
        payload = self._body is None
        names: list[bytes] = []
        fields: list[bytes] = []
        typed = False
        for at, name in enumerate(head.names):
            if name not in passing:
                continue
            line = head.fields[at]
            if payload and name == _CONTENT_TYPE:
                if typed or (line != self._content_line and not self._is_of_type(line)):
                    return self._type_denied()
                typed = True
            names.append(name)
            fields.append(line)
        if payload and not typed:
            return self._type_denied()
        if not payload and not _is_json(head):
            detail = "send the parameters as a JSON object: Content-Type must be application/json, without a coding"
            return Problem("content_type_denied", detail, denial="content_type")
        if self._lines:
            names += self._names
            fields += self._lines
        # Asked only where there is a mark: this is the warm path, and members of an enum are looked up slowly.
        expected = None if head.marks is None else head.mark(Role.EXPECT)
        return RequestHead(
            self.method,
            self.url or head.target,
            head.host,
            fields,
            names,
            None if expected is None else {Role.EXPECT: expected},
            None,
            head.length,
            head.length_given,
            head.http_1_1,
            head.keep_alive,
        )

    def _is_of_type(self, line: bytes) -> bool:
        """Whether a line of Content-Type is this preset's, which may leave parameters to callers (a boundary)."""
        value = line.partition(b":")[2].decode("latin-1")
        return essence_of(value) == self._content_type and self._content_parameters <= parameters_of(value)

    def _type_denied(self) -> Problem:
        detail = f"Content-Type must be {self._content_line[16:].decode()}"
        return Problem("content_type_denied", detail, denial="content_type")

    def fill(self, head: RequestHead, payload: bytes, *, most: int, longest: int) -> Filled | Problem:
        """What a whole payload of parameters makes of a head that was received, or why not.

        `most` bytes may be in the body and in each header, `longest` in the target.
        """
        body = self._body
        if body is None:
            raise ValueError("a preset without a body has no parameters")
        values, found = values_of(body.parameters, payload)
        errors: Errors = {}
        names, fields = head.names.copy(), head.fields.copy()
        data = b""
        target = b""
        try:
            target = self.url or self._url.fill(values, errors, longest).encode()
            is_long = len(target) > longest
        except TooLarge:
            is_long = True
        if is_long:
            found.append(("", f"the URL that they are filled in to must not be over limits.target ({longest} bytes)"))
        try:
            self._add_headers(values, errors, names, fields, most)
            data = body.template.fill_bytes(values, errors, most)
        except TooLarge:
            found.append(("", f"what they are filled in to must not be over limits.preset_body ({most} bytes)"))
        found += [(f"/{name}", reason) for name, reason in errors.items()]
        if found:
            detail = "the parameters are not what the preset asks for"
            return Problem("parameters_invalid", detail, errors=tuple(found))
        if data:
            names.append(_CONTENT_TYPE)
            fields.append(self._content_line)
        given = bool(data) or self.method not in _BODILESS
        filled = RequestHead(
            self.method,
            target,
            head.host,
            fields,
            names,
            None,
            None,
            len(data),
            given,
            head.http_1_1,
            head.keep_alive,
        )
        return Filled(filled, data)

    def _add_headers(self, values: Values, errors: Errors, names: list[bytes], fields: list[bytes], most: int) -> None:
        """Add the headers that are filled, which are at most that long together. Raises TooLarge."""
        for header in self._filled:
            value = header.value.fill(values, errors, most)
            most -= len(value)
            names.append(normalise(header.name.encode()))
            fields.append(_line(header.name, value))


def _line(name: str, value: str) -> bytes:
    return f"\r\n{name}: {value}".encode("latin-1")


def _is_json(head: RequestHead) -> bool:
    types = line_values(head.fields, _CONTENT_TYPE)
    if len(types) != 1 or not is_plain(head.fields):
        return False
    if head.connection and not _OF_PAYLOAD.isdisjoint(nominated(head.connection)):
        return False
    try:
        return media_type(types[0].decode("latin-1")) == JSON
    except Unplaceable:
        return False
