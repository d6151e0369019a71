"""The path rule: a path has no dot segment in any spelling, and is under its prefix as it is written.

A server may decode a path several times, fold compatibility characters, read a backslash as a slash, drop
`;parameters`, merge slashes, or cut blanks off a segment, and several servers on the way may each do some of it. All of
that changes segments, but only a dot segment (RFC 3986 5.2.4) leads out of the segments before it. So it is enough to
decode and fold a path until nothing changes, to look for dot segments at each round, and to compare the path with the
prefix byte for byte. A dot segment that one server reads is in the last round as well: decoding and folding only add
slashes, and leave dots and blanks what they are.
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
"""Overlong UTF-8, and bytes beyond U+10FFFF (RFC 3629 3): lax decoders make a dot or a slash of them. C0 and C1 begin
nothing else. The other lead bytes are letters in Latin-1, so they count only with the bytes that follow; some decoders
do not even require continuation bytes. U+DCxx stands for the byte xx, which is not part of valid UTF-8."""

_BLANKS: Final = " +\x85\xa0\u1680\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, [0xDC85, 0xDCA0, *range(0x2000, 0x2010), *range(0x202A, 0x202F)])
)
"""Characters that a server may trim as white space, or decode to it: those of Unicode, invisible ones, the Latin-1
bytes 85 and A0, and `+`."""

_DOT_SEGMENT: Final = re.compile(rf"/[{_BLANKS}]*+\.[.{_BLANKS}]*+(?:[/;?#:]|\Z)")
"""A segment of dots and blanks, up to what a server may cut off: `;parameters`, an NTFS stream (`::$DATA`), or a query
or fragment that decoding uncovers."""

_SLASHES: Final = "\\\u2044\u2215\u2216\u20a9\u00a5"
"""Characters that servers read as a slash, or that Windows turns into a slash or backslash where it converts text to a
code page: U+2044 (NFKC makes it of fractions), U+2215, U+2216, and the signs of won and yen, which are the backslash of
Korea and Japan."""

Patterns = tuple[tuple[str, bool], ...]
"""Forbidden paths. A segment `*` stands for any one segment; the flag says that paths below count as well."""


class UnreadablePath(ValueError):
    """The path cannot be judged. The message says why and repeats nothing of the path."""


def under(path: str, prefix: str) -> bool:
    """Return True if `path` is `prefix` or is below it at a segment boundary. The root prefix is empty."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def final_form(path: str) -> str:
    """Decode and fold an absolute path, one character per byte, until nothing changes; return it as characters.

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


def meets(final: str, patterns: Patterns) -> bool:
    """Return True if the final form of a path may lead to one of the patterns. Raises UnreadablePath.

    Servers disagree on where `;parameters` end and on NTFS streams, so the path may contain neither. Case, empty
    segments, an encoded query or fragment, and what a server may cut off a segment make no difference.
    """
    if not patterns:
        return False
    if ";" in final or "::" in final:
        raise UnreadablePath(
            "the path must not contain ; or ::, encoded or not, at the host of a token endpoint or login"
        )
    shapes = _parse(patterns)
    segments = list(islice(_segments(final), max(len(shape) for shape, _ in shapes) + 1))
    return any(_covers(shape, below, segments) for shape, below in shapes)


def _check(path: str) -> None:
    if CONTROL.search(path):
        raise UnreadablePath("the path must not contain control characters, encoded or not")
    if "." in path and _DOT_SEGMENT.search(path):
        raise UnreadablePath(
            "the path must not contain a dot segment (. or ..), encoded or not, also with blanks, ;, :, ? or # after it"
        )
    if not path.isascii() and _BEYOND_UTF_8.search(path):
        detail = "the path must not contain overlong UTF-8, what is beyond U+10FFFF, or the bytes C0 and C1"
        raise UnreadablePath(f"{detail}, encoded or not")


def _segments(final: str) -> Iterator[tuple[str, bool]]:
    """Yield the segments of a final form as they are compared: without what a server may trim.

    The first one is empty. The flag says that a server may cut off what follows.
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
def _parse(patterns: Patterns) -> list[tuple[list[str], bool]]:
    """Split patterns into segments. They come from the config alone, so the cache keeps nothing that a caller sends."""
    return [
        ([name for name, _ in _segments(re.sub(";[^/]*", "", final_form(pattern)))], below)
        for pattern, below in patterns
    ]


def _covers(shape: list[str], below: bool, segments: list[tuple[str, bool]]) -> bool:
    """Return True if the segments may be those of the shape.

    Servers disagree on how much of a path a cut drops, so a path matches if it agrees with the shape up to its first
    cut.
    """
    for wanted, (name, cut) in zip(shape, segments, strict=False):
        if wanted not in ("*", name):
            return False
        if cut:
            return True
    return len(segments) >= len(shape) if below else len(segments) == len(shape)
