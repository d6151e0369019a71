"""Add parameters to a query or body, and find them in what callers send.

A credential may go into the query or the body of a request (RFC 6750 2.2, 2.3). Parameters are appended: the bytes that
the policy has checked do not change.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from sidekey.policy.decoding import ROUNDS, decode_all, fold, fold_case, to_characters, to_octets
from sidekey.policy.json_reader import TooDeepError, parse_json

Scalar = str | int | float | bool
"""The value of a parameter before it is encoded."""

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

_UNDERSCORES: Final = "_. "
_TO_UNDERSCORE: Final = str.maketrans(". +[", "____")
_SEPARATOR: Final = re.compile("[&;]")
_LEADING: Final = r"[\s+?\[\]\ufeff]*+"
"""Characters that servers drop before a name: blanks, brackets, a byte order mark, and a question mark
(URLSearchParams)."""
_LEADING_CHARACTERS: Final = re.compile(rf"\A{_LEADING}")
_TRAILING: Final = r"[\s+]*+(?=[=&;\[\]\0]|\Z)"
_END: Final = re.compile(r"[=\[\]\0]|\Z")

_METHOD_OVERRIDES: Final = ("_method", "_HttpMethod")
"""Query parameters that override the method in some frameworks."""

_ASCII_ALIKE: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "iso-8859-1", "windows-1252"})
"""Charsets that agree with ASCII on the characters of a form."""

_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})
_JSON_SPACE: Final = " \t\r\n"


class DuplicateParameter(ValueError):
    """The caller sent a parameter that Sidekey adds."""


class UnreadableNames(ValueError):
    """A query or form is encoded too many times to read its names. The message says what must be true."""


class UnsupportedBody(ValueError):
    """Sidekey cannot add a parameter to this body. The message says why."""


def encode_pairs(pairs: Iterable[tuple[str, Scalar]]) -> str:
    """Encode pairs as a query or form. Numbers and booleans are written as in JSON."""
    texts = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in texts)


def contains_parameter(encoded: str, names: Iterable[str]) -> bool:
    """Return True if a query or form (one character per byte) has one of the parameters, in any decoding.

    Names are compared as the laxest servers do: they fold text (`fold_name`), ignore brackets, read dots and blanks as
    `_`, and end a name at a NUL. Raises UnreadableNames.
    """
    parameters = tuple(names)
    return bool(parameters) and _has_field(encoded, _field_shape(parameters, _TRAILING))


def overrides_method(query: str, allowed: frozenset[bytes]) -> bool:
    """Return True if a query (one character per byte) may make a server use a method that is not allowed.

    Raises UnreadableNames.
    """
    names = {fold_name(name) for name in _METHOD_OVERRIDES}
    # Skip fields that every server reads as an allowed method.
    rest = [field for field in _SEPARATOR.split(query) if not _is_allowed_override(field, names, allowed)]
    return contains_parameter("&".join(rest), _METHOD_OVERRIDES)


def may_override_method(query: bytes) -> bool:
    """Return True unless this ASCII query certainly overrides no method. A cheap test before `overrides_method`."""
    return b"%" in query or b"method" in query.lower()


def _is_allowed_override(field: str, names: set[str], allowed: frozenset[bytes]) -> bool:
    name, _, value = field.partition("=")
    method = unquote(value).upper()
    return field.isascii() and method.isascii() and method.encode() in allowed and fold_name(unquote(name)) in names


def contains_prefix(encoded: str, prefix: str) -> bool:
    """Return True if a parameter's name begins with `prefix`, compared as in `contains_parameter`."""
    return _has_field(encoded, _field_shape((prefix,), ""))


def fold_name(name: str) -> str:
    """Fold a name for comparison: replace compatibility characters (NFKC) and ignore case.

    `accessToken` differs from `access_token`, although protobuf's JSON mapping reads both as one field. Given both,
    protobuf fails or uses the last one, which is Sidekey's. Other APIs may have two parameters of these names.
    """
    return fold_case(unicodedata.normalize("NFKC", name))


def _rounds(text: str) -> Iterator[str]:
    """Yield text (one character per byte) as characters, after each round of decoding and folding that changes it.

    Raises UnreadableNames if the text changes in each of `ROUNDS` rounds.
    """
    characters = to_characters(text)
    for _ in range(ROUNDS):
        yield characters
        folded = fold(to_characters(decode_all(to_octets(characters))))
        if folded == characters:
            return
        characters = folded
    raise UnreadableNames("must not be encoded so many times")


def _has_field(encoded: str, shape: re.Pattern[str]) -> bool:
    return any(shape.search(f"&{fold_case(text)}") for text in _rounds(encoded))


@lru_cache(maxsize=256)
def _field_shape(names: tuple[str, ...], end: str) -> re.Pattern[str]:
    """Compile a pattern for a field with one of these names. No caller can fill the cache."""
    spelled = [
        "".join("[_. +\\[]" if character in _UNDERSCORES else re.escape(character) for character in fold_name(name))
        for name in names
    ]
    return re.compile(rf"[&;]{_LEADING}(?:{'|'.join(spelled)}){end}")


class ParameterNames:
    """Parameter names in a config, to find duplicates: a lenient server reads `client_id[]` as `client_id`."""

    __slots__ = ("_names", "_parts")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: Final[dict[str, str]] = {}
        self._parts: Final[dict[str, str]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name. Raises UnreadableNames for a name that is encoded too many times."""
        canonical, parts = _canonical(name)
        self._names.setdefault(canonical, name)
        for part in parts:
            self._parts.setdefault(part, name)

    def find(self, name: str) -> str | None:
        """Find a known name that a lenient server may not distinguish from this one. Raises UnreadableNames."""
        canonical, parts = _canonical(name)
        if canonical in self._parts:
            return self._parts[canonical]
        return next((self._names[part] for part in parts if part in self._names), None)


def _canonical(name: str) -> tuple[str, list[str]]:
    """Decode and fold a name. Return it, and every part of it that a server may read as the complete name.

    A server may end a name at a bracket or NUL, begin it after a separator, and replace some characters by `_`.
    """
    *_, decoded = _rounds(name.encode().decode("latin-1"))
    folded = fold_case(decoded)
    parts = []
    for field in (folded, *_SEPARATOR.split(folded)):
        text = _LEADING_CHARACTERS.sub("", field)
        parts += [text[: end.start()].rstrip(" +").translate(_TO_UNDERSCORE) for end in _END.finditer(text)]
    return _LEADING_CHARACTERS.sub("", folded).rstrip(" +").translate(_TO_UNDERSCORE), parts


def append_pairs(encoded: str, addition: str) -> str:
    """Append encoded pairs to a query or form."""
    joint = "&" if encoded and not encoded.endswith("&") else ""
    return f"{encoded}{joint}{addition}"


def media_type(content_type: str) -> str:
    """Return `FORM` or `JSON`. Raises UnsupportedBody for any other media type or charset."""
    essence, *parameters = (part.strip().lower() for part in content_type.split(";"))
    form = essence == FORM
    if not form and essence != JSON and not (essence.startswith("application/") and essence.endswith("+json")):
        raise UnsupportedBody("Content-Type must be application/x-www-form-urlencoded or JSON")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in (_ASCII_ALIKE if form else _UTF_8):
            raise UnsupportedBody("the charset of Content-Type must be UTF-8")
    return FORM if form else JSON


def check_body(body: bytes, kind: str, names: Iterable[str]) -> None:
    """Check that parameters can be added to a body. Raises UnsupportedBody, DuplicateParameter or UnreadableNames."""
    if kind == FORM:
        if contains_parameter(body.decode("latin-1"), names):
            raise DuplicateParameter
        return
    added = set(map(fold_name, names))
    # Folding shortens a text at most fourfold, so a longer name cannot match.
    max_length = 4 * max(map(len, added), default=0)
    # Servers written in C end a member's name at a NUL.
    members = {name for member in _object_names(body) if len(name := member.partition("\0")[0]) <= max_length}
    if not added.isdisjoint(map(fold_name, members)):
        raise DuplicateParameter


def _object_names(body: bytes) -> list[str]:
    """Return the names of the members of a JSON object, duplicates included. Ignore nested objects."""
    try:
        value = parse_json(body, _DECODER.decode)
    except TooDeepError as error:
        raise UnsupportedBody(f"the body {error}") from None
    except ValueError:
        raise UnsupportedBody("the body must be valid JSON in UTF-8") from None
    # An array is decoded to a list, too.
    if not body.lstrip(_JSON_SPACE.encode()).startswith(b"{"):
        raise UnsupportedBody("the body must be a JSON object")
    return [name for name, _ in value]


def _no_constant(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON (RFC 8259 6)")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_constant)


def add_parameters(body: bytes, kind: str, pairs: Iterable[tuple[str, Scalar]]) -> bytes:
    """Append parameters to a body that has passed `check_body`."""
    if kind == FORM:
        return append_pairs(body.decode("latin-1"), encode_pairs(pairs)).encode("latin-1")
    head, _, tail = body.rpartition(b"}")
    fields = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    joint = b"" if head.rstrip(_JSON_SPACE.encode()).endswith(b"{") else b","
    return head + joint + fields.encode() + b"}" + tail
