"""Injected parameters: where they go in a query or a body, and whether the caller named one himself.

A grant may be placed in the query or the body of a request (RFC 6750 2.2, 2.3). What was judged stays as it is, byte
for byte; the parameter is appended to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

DECODINGS = 2
"""How often servers on the way may decode a name, beyond what the form itself asks for."""

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

_SEPARATORS = re.compile(r"[&;]")
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_JSON_SPACE = " \t\r\n"


class NamedAlready(ValueError):
    """The caller's own request holds a parameter of the injected one's name."""


class Unplaceable(ValueError):
    """The body has no place for a parameter; the message says why."""


def encode(pairs: Iterable[tuple[str, str]]) -> str:
    """Write pairs as a query or a form (application/x-www-form-urlencoded), without any character to argue about."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def names_any(encoded: str, names: Iterable[str]) -> bool:
    """Whether a query or form (one character a byte) holds one of the parameters, in any decoding.

    Names are compared as the laxest servers do: case, `[]`, and dots or spaces for `_` make no difference.
    """
    wanted = {_normal(name) for name in names}
    return any(name in wanted for reading in _readings(encoded) for name in _names(reading))


def _readings(text: str) -> Iterator[str]:
    """The text decoded 0 to `DECODINGS` times, the form's own decoding aside."""
    for _ in range(DECODINGS + 1):
        yield text
        text = _decode(text)


def _names(encoded: str) -> Iterator[str]:
    for field in _SEPARATORS.split(encoded):
        yield from map(_normal, _readings(field.partition("=")[0]))


def _decode(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


def _normal(name: str) -> str:
    name = name.replace("+", " ").partition("[")[0].strip()
    return name.replace(" ", "_").replace(".", "_").lower()


def append(encoded: str, addition: str) -> str:
    """Append encoded pairs to a query or form."""
    joint = "&" if encoded and not encoded.endswith("&") else ""
    return f"{encoded}{joint}{addition}"


def media_type(content_type: str) -> str:
    """`FORM` or `JSON`, told by a Content-Type. Raises Unplaceable for every other and for charsets but UTF-8."""
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF_8:
            raise Unplaceable("the body is not in UTF-8")
    if essence == FORM:
        return FORM
    if essence == JSON or (essence.startswith("application/") and essence.endswith("+json")):
        return JSON
    raise Unplaceable("the body is neither a form nor JSON (Content-Type)")


def check_body(body: bytes, kind: str, names: Iterable[str]) -> None:
    """Refuse a body that cannot take the parameters: raises Unplaceable, or NamedAlready."""
    if kind == FORM:
        if names_any(body.decode("latin-1"), names):
            raise NamedAlready
        return
    wanted = {name.lower() for name in names}
    if any(name.lower() in wanted for name in _object_names(body)):
        raise NamedAlready


def _object_names(body: bytes) -> list[str]:
    """The names of a JSON object's members, the outermost ones alone and each as often as it stands there."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Unplaceable("the body is not valid JSON in UTF-8") from None
    # An array is a list as well, but none of pairs: what tells the two apart is the first character.
    if not body.lstrip(_JSON_SPACE.encode()).startswith(b"{"):
        raise Unplaceable("the body's JSON is no object")
    return [name for name, _ in value]


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON (RFC 8259 6)")


def placed(body: bytes, kind: str, pairs: Iterable[tuple[str, str]]) -> bytes:
    """The body with the parameters appended; it has passed `check_body`."""
    if kind == FORM:
        return append(body.decode("latin-1"), encode(pairs)).encode("latin-1")
    head, _, tail = body.rpartition(b"}")
    fields = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    joint = b"" if head.rstrip(_JSON_SPACE.encode()).endswith(b"{") else b","
    return head + joint + fields.encode() + b"}" + tail


class Scrubber:
    """Removes injected parameters from the fields of an answer, which may repeat the URL that was asked for.

    A pair `name=value` goes with its joint, so that what is left is a URL that may be followed; a value that stands
    elsewhere goes alone. Both are found through any percent-encoding, up to `ENCODINGS` times over.
    """

    ENCODINGS = 3

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        # In this order: a value that is taken out alone would leave the rest of its pair behind. The joint before a
        # pair stays where another pair follows, in place of the one between them.
        self._sought = [
            re.compile(shape.format(name=re.escape(name), value=re.escape(value)).encode("latin-1"))
            for shape in (r"(?<=[?&;#]){name}={value}[&;]", r"[?&;#]?{name}={value}", r"{value}")
            for name, value in pairs
        ]

    def __call__(self, field: bytes) -> bytes:
        """The field without the injected values."""
        for sought in self._sought:
            for times in range(self.ENCODINGS + 1):
                decoded, ends = _decoded(field, times)
                while (match := sought.search(decoded)) is not None:
                    start = ends[match.start() - 1] if match.start() else 0
                    field = field[:start] + field[ends[match.end() - 1] :]
                    decoded, ends = _decoded(field, times)
        return field


def _decoded(field: bytes, times: int) -> tuple[bytes, list[int]]:
    """The field percent-decoded so many times, and where in the field each byte of that ends."""
    ends = list(range(1, len(field) + 1))
    for _ in range(times):
        found = bytearray()
        kept: list[int] = []
        at = 0
        while at < len(field):
            escape = _ESCAPE.match(field, at)
            at += 3 if escape else 1
            found.append(int(escape[1], 16) if escape else field[at - 1])
            kept.append(ends[at - 1])
        field, ends = bytes(found), kept
    return field, ends
