"""One spelling for each target: every segment of the path and every part of the query is decoded once, encoded once.

For upstreams that compute over a target what clients have computed over it: two spellings of one target must not be
two texts there. The spelled target is what is judged, signed and sent; `core.paths` reads it as it reads any other.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote

from sidekey.policy.parameters import contains_prefix
from sidekey.policy.targets import Prefix
from sidekey.policy.urls import Target

PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*+)*+/?")
"""A path that is in its one spelling and that every server reads the same way (`routing.PLAIN`), without a query."""


# Whole texts are spelled at once, not part by part: what a hostile target may have most of costs least so.
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_SEPARATORS: Final = re.compile("&&+")
_EQUALS_AGAIN: Final = re.compile("=[^&=]*=")
_VALUE: Final = re.compile("=([^&]*)")

_CHARACTERS: Final = {chr(code): quote(chr(code), safe="", encoding="latin-1") for code in range(256)}
_SPELLED: Final = {"%": "%25"} | {f"%{ord(character):02X}": spelled for character, spelled in _CHARACTERS.items()}
"""The one spelling of each escape; of a percent sign that begins none as well."""
_OF_PATHS: Final = str.maketrans({each: spelled for each, spelled in _CHARACTERS.items() if each not in "%/"})
_OF_QUERIES: Final = str.maketrans(
    {each: _CHARACTERS[each] for each in _CHARACTERS if each not in "%&=+"} | {"+": "%20"}
)


class CanonicalForm(NamedTuple):
    """How targets of an integration are spelled. `reserved` begins names of parameters that no caller may send."""

    reserved: str

    def spell(self, target: Target) -> Target:
        """The target in its one spelling; nothing is sent of a query without parts."""
        return target._replace(path=canonical_form(target.path), query=spelled_query(target.query) or None)

    def spell_prefix(self, prefix: Prefix) -> Prefix:
        """A prefix as it is in spelled targets."""
        return Prefix(prefix.origin, canonical_form(prefix.path))

    def reserves_any(self, query: str) -> bool:
        """Return True if the query has a parameter with a reserved name, in any spelling. Raises UnreadableNames."""
        return contains_prefix(query, self.reserved)


def canonical_form(path: str) -> str:
    """A path with each segment decoded once and encoded once."""
    return _ESCAPE.sub(_spelled_escape, path).translate(_OF_PATHS)


def encoded_path(text: str) -> str:
    """A decoded text as a path, whose slashes separate segments."""
    return quote(text, encoding="latin-1")


def spelled_query(query: str | None) -> str:
    """A query with each part decoded once and encoded once, in its own order; empty parts are left out.

    A `+` is a space, as in forms.
    """
    parts = _SEPARATORS.sub("&", query or "").strip("&")
    if _EQUALS_AGAIN.search(parts):
        parts = _VALUE.sub(_encoded_equals, parts)
    return _ESCAPE.sub(_spelled_escape, parts).translate(_OF_QUERIES)


def _encoded_equals(value: re.Match[str]) -> str:
    return "=" + value[1].replace("=", "%3D")


def _spelled_escape(escape: re.Match[str]) -> str:
    return _SPELLED[escape[0].upper()]
