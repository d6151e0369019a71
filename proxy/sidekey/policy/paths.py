"""Check paths: a path has no dot segment in any spelling, and its bytes begin with those of its prefix.

A server may decode a path several times, fold compatibility characters, read a backslash as a slash, drop
`;parameters`, merge slashes, or trim blanks, and several servers in a row may each do so. All of this changes segments,
but only a dot segment (RFC 3986 5.2.4) leads out of the preceding segments. So it is enough to decode and fold a path
until nothing changes, to look for dot segments in each round, and to compare the path with the prefix byte for byte.
The last round contains every dot segment that any server reads: decoding and folding only add slashes, and keep dots
and blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

from sidekey.policy.decoding import ROUNDS, decode_all, fold, fold_case, to_characters, to_octets

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_BEYOND_UTF_8: Final = re.compile(
    r"[\udcc0\udcc1\udce0\udcf0\udcf4-\udcff]"
    r"(?:(?<=[\udcc0\udcc1])|(?<=\udce0)(?:[\udc80-\udc9f]|[@-_][\udc80-\udcbf])|(?<=\udcf0)[\udc80-\udc8f]"
    r"|(?<=\udcf4)[\udc90-\udcbf][\udc80-\udcbf]{2}|(?<=[\udcf5-\udcff])[\udc80-\udcbf]{3})"
)
"""Overlong UTF-8, and bytes beyond U+10FFFF (RFC 3629 3). Lax decoders turn them into a dot or a slash. C0 and C1 begin
nothing else. The other lead bytes are letters in Latin-1, so they count only with the bytes that follow. Some decoders
do not even require continuation bytes. U+DCxx stands for the byte xx, which is not part of valid UTF-8."""

_BLANKS: Final = " +\x85\xa0\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, [0xDC85, 0xDCA0, *range(0x2000, 0x2010), *range(0x202A, 0x202F)])
)
"""Characters that a server may trim as white space or decode to it: Unicode white space, invisible characters, the
Latin-1 bytes 85 and A0, and `+`."""

_DOT_SEGMENT: Final = re.compile(rf"/[{_BLANKS}]*+\.[.{_BLANKS}]*+(?:[/;?#:]|\Z)")
"""A segment of dots and blanks, up to the part that a server may cut off: `;parameters`, an NTFS stream (`::$DATA`), or
a query or fragment that decoding uncovers."""

_SLASHES: Final = "\\\u2044\u2215\u2216\u20a9\u00a5"
"""Characters that servers read as a slash, or that Windows converts to a slash or backslash in some code page: U+2044
(NFKC writes fractions with it), U+2215, U+2216, and the signs of won and yen (the backslash in Korea and Japan)."""

_CHARACTER: Final = rb"A-Za-z0-9_~!$&'()*+,=:@-"
_SEGMENT: Final = rb"/[" + _CHARACTER + rb"][." + _CHARACTER + rb"]*+"
_QUERY: Final = rb"\?(?:[!\"$&-\[\]-~]++|%[0-9A-Fa-f]{2})*+"
PLAIN_TARGET: Final = re.compile(rb"(?:" + _SEGMENT + rb")*+/?(?:" + _QUERY + rb")?")
"""A path that every server reads the same way, and any query of URI characters. The path has no escape, backslash,
parameter or empty segment, and no segment that begins with a dot. The fast parser and the exact one agree on it."""

Patterns = tuple[tuple[str, bool], ...]
"""Paths of token and login endpoints, which are forbidden. A segment `*` matches any single segment. The flag includes
the paths below."""


class UnreadablePath(ValueError):
    """The path is ambiguous. The message says why and repeats nothing of the path."""


def under(path: str, prefix: str) -> bool:
    """Return True if `path` is `prefix` or is below it at a segment boundary. The root prefix is empty."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def final_form(path: str) -> str:
    """Decode and fold an absolute path until nothing changes.

    `path` has one character per byte (Latin-1). The result is Unicode text.
    Raises UnreadablePath for a dot segment, a control character or overlong UTF-8 in any round, and for a path that
    changes in each of `ROUNDS` rounds.
    """
    characters = to_characters(path)
    for _ in range(ROUNDS):
        _check(characters)
        folded = fold(to_characters(decode_all(to_octets(characters))))
        for slash in _SLASHES:
            folded = folded.replace(slash, "/")
        if folded == characters:
            return characters
        characters = folded
    raise UnreadablePath("the path must not be encoded so many times")


def matches_any(final: str, patterns: Patterns) -> bool:
    """Return True if the final form of a path may lead to one of the patterns. Raises UnreadablePath.

    Servers disagree on where `;parameters` end and on NTFS streams, so the path may contain neither. Case, empty
    segments, an encoded query or fragment, and blanks and dots at the ends of a segment are ignored.
    """
    if not patterns:
        return False
    if ";" in final or "::" in final:
        raise UnreadablePath(
            "the path must not contain ; or ::, encoded or not, at the host of a token endpoint or login"
        )
    parsed = _parse_patterns(patterns)
    segments = list(islice(_segments(final), max(len(pattern) for pattern, _ in parsed) + 1))
    return any(_may_match(pattern, below, segments) for pattern, below in parsed)


def _check(path: str) -> None:
    if CONTROL.search(path):
        raise UnreadablePath("the path must not contain control characters, encoded or not")
    if "." in path and _DOT_SEGMENT.search(path):
        raise UnreadablePath(
            "the path must not contain a dot segment (. or ..), encoded or not, also with blanks, ;, :, ? or # after it"
        )
    if not path.isascii() and _BEYOND_UTF_8.search(path):
        detail = "the path must not contain overlong UTF-8, code points beyond U+10FFFF, or the bytes C0 and C1"
        raise UnreadablePath(f"{detail}, encoded or not")


def _segments(final: str) -> Iterator[tuple[str, bool]]:
    """Yield the segments of a final form for comparison, trimmed as a server may do. The first segment is empty.

    The flag is True if a server may cut off the rest of the path.
    """
    previous, cut = "", False
    for segment in fold_case(final).replace("?", ":").replace("#", ":").split("/"):
        name, mark, _ = segment.partition(":")
        name = name.lstrip(_BLANKS).rstrip(f".{_BLANKS}")
        if name:
            yield previous, cut
            previous, cut = name, False
        cut = cut or bool(mark)
    yield previous, cut


@lru_cache(maxsize=4096)
def _parse_patterns(patterns: Patterns) -> list[tuple[list[str], bool]]:
    """Split patterns into segments, without `;parameters`, which no path to compare contains.

    Patterns come from the config alone, so callers cannot fill the cache.
    """
    return [
        ([name for name, _ in _segments(re.sub(";[^/]*", "", final_form(pattern)))], below)
        for pattern, below in patterns
    ]


def _may_match(pattern: list[str], below: bool, segments: list[tuple[str, bool]]) -> bool:
    """Return True if a server may read the segments as those of the pattern.

    Servers disagree on how much of a path a cut drops, so a path matches if it agrees with the pattern up to its first
    cut.
    """
    for expected, (name, cut) in zip(pattern, segments, strict=False):
        if expected not in ("*", name):
            return False
        if cut:
            return True
    return len(segments) >= len(pattern) if below else len(segments) == len(pattern)
