"""Bring a target into canonical form: decode and encode every path segment and every part of the query once.

Some upstreams verify a signature over the target (AWS), so both sides must spell it the same way. Sidekey checks, signs
and sends the canonical form. `policy.paths` reads it like any other path.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote

from sidekey.policy.parameters import contains_prefix
from sidekey.policy.targets import Prefix
from sidekey.policy.urls import Target

PLAIN_PATH: Final = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*+)*+/?")
"""A canonical path, without a query, that every server reads the same way (see `paths.PLAIN_TARGET`)."""


# Substitutions run over the complete text, not part by part, so that a hostile target with many parts costs little.
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_SEPARATORS: Final = re.compile("&&+")
_EQUALS_AGAIN: Final = re.compile("=[^&=]*=")
_VALUE: Final = re.compile("=([^&]*)")

_CHARACTERS: Final = {chr(code): quote(chr(code), safe="", encoding="latin-1") for code in range(256)}
_ESCAPES: Final = {"%": "%25"} | {f"%{ord(character):02X}": encoded for character, encoded in _CHARACTERS.items()}
"""The canonical form of each escape, and of a percent sign that begins none."""
_IN_PATHS: Final = str.maketrans({char: encoded for char, encoded in _CHARACTERS.items() if char not in "%/"})
_IN_QUERIES: Final = str.maketrans(
    {char: encoded for char, encoded in _CHARACTERS.items() if char not in "%&=+"} | {"+": "%20"}
)


class CanonicalForm(NamedTuple):
    """The canonical form of targets. Callers may send no query parameter whose name begins with `reserved`."""

    reserved: str

    def canonicalize(self, target: Target) -> Target:
        """Bring a target into canonical form. A query without parts is removed."""
        return target._replace(path=canonical_form(target.path), query=canonical_query(target.query) or None)

    def canonicalize_prefix(self, prefix: Prefix) -> Prefix:
        """Bring a prefix into canonical form."""
        return Prefix(prefix.origin, canonical_form(prefix.path))

    def contains_reserved(self, query: str) -> bool:
        """Return True if the query has a parameter with a reserved name, in any spelling. Raises UnreadableNames."""
        return contains_prefix(query, self.reserved)


def canonical_form(path: str) -> str:
    """Decode and encode each segment of a path once."""
    return _ESCAPE.sub(_canonical_escape, path).translate(_IN_PATHS)


def encode_path(text: str) -> str:
    """Encode a text as a path. Its slashes separate segments."""
    return quote(text, encoding="latin-1")


def canonical_query(query: str | None) -> str:
    """Decode and encode each part of a query once, in order, and omit empty parts. A `+` is a space, as in forms."""
    parts = _SEPARATORS.sub("&", query or "").strip("&")
    if _EQUALS_AGAIN.search(parts):
        parts = _VALUE.sub(_encoded_equals, parts)
    return _ESCAPE.sub(_canonical_escape, parts).translate(_IN_QUERIES)


def _encoded_equals(value: re.Match[str]) -> str:
    return "=" + value[1].replace("=", "%3D")


def _canonical_escape(escape: re.Match[str]) -> str:
    return _ESCAPES[escape[0].upper()]
