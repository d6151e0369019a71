"""Injected parameters: where they go in a query or a body, and whether the caller named one too.

A grant may be placed in the query or the body of a request (RFC 6750 2.2, 2.3). What was judged stays as it is, byte
for byte; the parameter is appended to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

DECODINGS: Final = 2
"""How often servers on the way may decode a name, beyond what the form itself asks for."""

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

_SEPARATORS: Final = re.compile(r"[&;]")
_BRACKETS: Final = re.compile(r"[\[\]]")
_WIDE_ESCAPE: Final = re.compile(r"%u00([0-9A-Fa-f]{2})", re.IGNORECASE)
"""`%u0061`: not an escape of a URI, but some servers read it in forms."""

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_BYTE_ORDER_MARK: Final = "\xef\xbb\xbf"
_ASCII_ALIKE: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"})
"""Charsets in which a form's own characters are what they are in ASCII."""

_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})
_JSON_SPACE: Final = " \t\r\n"


class NamedAlready(ValueError):
    """The caller's own request has a parameter with the injected one's name."""


class Unplaceable(ValueError):
    """The body has no place for a parameter; the message says why."""


def encode(pairs: Iterable[tuple[str, str]]) -> str:
    """Write pairs as a query or a form (application/x-www-form-urlencoded), all but unreserved characters encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def names_any(encoded: str, names: Iterable[str]) -> bool:
    """Whether a query or form (one character per byte) has one of the parameters, in any decoding.

    Names are compared as the laxest servers do: case, brackets, and dots or spaces for `_` make no difference, and a
    name ends at a NUL.
    """
    wanted = {name.lower().replace(".", "_") for name in names}
    found = {name for reading in _readings(encoded) for name in _names(reading)}
    return any(not wanted.isdisjoint(_spellings(spelled)) for name in found for spelled in _readings(name))


def _readings(text: str) -> Iterator[str]:
    """The text decoded 0 to `DECODINGS` times, as long as that changes anything; apart from the form's own decoding."""
    yield text
    for _ in range(DECODINGS):
        if "%" not in text:
            return
        text = unquote_to_bytes(_WIDE_ESCAPE.sub(r"%\1", text).encode("latin-1")).decode("latin-1")
        yield text


def _names(encoded: str) -> set[str]:
    return {name for field in _SEPARATORS.split(encoded) if (name := field.partition("=")[0])}


def _spellings(name: str) -> set[str]:
    """What servers may read a name as: PHP, Rack and Express each read brackets in their own way."""
    name = name.replace("+", " ").partition("\0")[0].removeprefix(_BYTE_ORDER_MARK).strip().lower()
    first = _BRACKETS.split(name.lstrip("[]"))[0]
    return {spelled.replace(" ", "_").replace(".", "_") for spelled in (name.replace("[", "_"), first)}


def append(encoded: str, addition: str) -> str:
    """Append encoded pairs to a query or form."""
    joint = "&" if encoded and not encoded.endswith("&") else ""
    return f"{encoded}{joint}{addition}"


def media_type(content_type: str) -> str:
    """`FORM` or `JSON`, as Content-Type says. Raises Unplaceable for other types, and for charsets other than UTF-8."""
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    form = essence == FORM
    if not form and essence != JSON and not (essence.startswith("application/") and essence.endswith("+json")):
        raise Unplaceable("Content-Type must be application/x-www-form-urlencoded or JSON")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in (_ASCII_ALIKE if form else _UTF_8):
            raise Unplaceable("the charset of Content-Type must be UTF-8")
    return FORM if form else JSON


def check_body(body: bytes, kind: str, names: Iterable[str]) -> None:
    """Refuse a body to which the parameters cannot be added: raises Unplaceable, or NamedAlready."""
    if kind == FORM:
        if names_any(body.decode("latin-1"), names):
            raise NamedAlready
        return
    wanted = {name.casefold() for name in names}
    if any(name.partition("\0")[0].casefold() in wanted for name in _object_names(body)):
        raise NamedAlready


def _object_names(body: bytes) -> list[str]:
    """The names of a JSON object's members, the outermost only, each as often as it occurs."""
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Unplaceable("the body must be valid JSON in UTF-8") from None
    # An array is a list as well, but not of pairs: the first character tells the two apart.
    if not body.lstrip(_JSON_SPACE.encode()).startswith(b"{"):
        raise Unplaceable("the body must be a JSON object")
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
    """Removes injected parameters from the fields of a response, which may repeat the URL of the request.

    A pair `name=value` is removed with its separator, so that what is left is a URL that may be followed; a value
    elsewhere is removed alone. Both are found through any percent-encoding, up to `ENCODINGS` times over.
    """

    ENCODINGS: Final = 3

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        spelled = [(re.escape(name), re.escape(value)) for name, value in pairs]
        pair = f"(?:{'|'.join(f'{name}={value}' for name, value in spelled)})"
        # The separator before stays where another pair follows, in place of the one between them: it is a group.
        shape = rf"[?&;#]{pair}(?:[&;]{pair})*(?![&;])|([?&;#])(?:{pair}[&;])+|{pair}(?:[&;]{pair})*"
        self._pairs = re.compile(shape.encode("ascii"))
        self._values = re.compile("|".join(value for _, value in spelled).encode("ascii"))

    def __call__(self, field: bytes) -> bytes | None:
        """The field without the injected values; None where a value is left after that: the field must be dropped."""
        # Pairs first: a value that is removed alone would leave the rest of its pair behind.
        for sought in (self._pairs, self._values):
            field = _without(field, self._spans(field, sought))
        return None if self._spans(field, self._values) else field

    def _spans(self, field: bytes, sought: re.Pattern[bytes]) -> list[tuple[int, int]]:
        """Where in the field it is found, in each of its decodings."""
        spans: list[tuple[int, int]] = []
        decoded: bytes = field
        places: Sequence[int] = range(len(field) + 1)
        for times in range(self.ENCODINGS + 1):
            if times:
                if b"%" not in decoded:
                    break
                decoded, places = _decoded(decoded, places)
            for match in sought.finditer(decoded):
                start, end = match.end(1) if match.lastindex else match.start(), match.end()
                spans.append((places[start], places[end]))
        return spans


def _without(field: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The field without these pieces, which may overlap."""
    kept = []
    at = 0
    for start, end in sorted(spans):
        kept.append(field[at : max(at, start)])
        at = max(at, end)
    return b"".join([*kept, field[at:]])


def _decoded(field: bytes, places: Sequence[int]) -> tuple[bytes, list[int]]:
    """One percent-decoding of the field, and where each byte of that begins, by where those of `field` do.

    The last place is where the field ends.
    """
    found = bytearray()
    kept: list[int] = []
    at = 0
    for escape in _ESCAPE.finditer(field):
        start, end = escape.span()
        found += field[at:start] + bytes.fromhex(escape[1].decode())
        kept += places[at : start + 1]
        at = end
    return bytes(found + field[at:]), [*kept, *places[at:]]
