"""The readings of a request path: what servers on the way may make of the same bytes.

A server may decode (also `%uXXXX`), fold compatibility characters (NFKC), read a backslash as a slash, drop
`;parameters`, merge slashes and remove dot segments, in any combination; and one server may do some of it before the
next one does the rest, so the steps come in any order, and before a decoding as well as after it. A path counts as
inside a prefix only if it is inside in each of these readings. Some spellings have no honest meaning at all, and are
refused wherever a reading shows them.

All rules that a target is judged by share one reading of its path (`Readings`), and its whole work is bounded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from sidekey.core.decoding import Bounded

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PARAMETERS: Final = re.compile(r";[^/]*")
_SLASH_ESCAPE: Final = re.compile(r"%(?=2[Ff])")
_DOT_SEGMENT: Final = re.compile(r"/\.\.?(?:[/;]|\Z)")
_CHANGEABLE: Final = re.compile(r"[%\\;]|//|[^\x00-\x7f]")
"""A prefix without any of these is the same in each reading; dot segments it has none."""

_BEYOND_UTF_8: Final = re.compile(
    r"[\xc0\xc1\xe0\xf0\xf4-\xff]"
    r"(?:(?<=[\xc0\xc1])|(?<=\xe0)(?:[\x80-\x9f]|[@-_][\x80-\xbf])|(?<=\xf0)[\x80-\x8f]"
    r"|(?<=\xf4)[\x90-\xbf][\x80-\xbf]{2}|(?<=[\xf5-\xff])[\x80-\xbf]{3})"
)
"""Overlong UTF-8, and what is beyond U+10FFFF (RFC 3629 3): lax decoders make a dot or a slash of it. C0 and C1 begin
nothing else. The other lead bytes are letters in Latin-1, so they count only with the bytes that follow; some decoders
do not even ask that those be continuations."""

_BLANK: Final = (
    "(?:"
    r"[. +\x85\xa0]|\xc2[\x85\xa0]"
    r"|\xe1\x9a\x80|\xe2\x80[\x80-\x8f\xa8-\xaf]|\xe2\x81[\x9f\xa0]|\xe3\x80\x80|\xef\xbb\xbf"
    ")"
)
"""What a server may cut off the end of a name: dots, and what trims as white space, in UTF-8 or Latin-1."""

_ODD_DOTS: Final = re.compile(
    rf"/\.(?=[. +:?#\x85\xa0\xc2\xe1-\xe3\xef])(?!\.(?:[/;]|\Z)){_BLANK}*+(?:[/;:?#]|\Z)",
)
"""A dot segment with a tail that a server may cut off: blanks, a stream of NTFS (`::$DATA`), or a query or fragment
that decoding uncovered."""

_BLANK_BEFORE_DOT: Final = re.compile(r"\.(?<=[ +\x80-\xbf]\.)")
_INDENTED_DOTS: Final = re.compile(
    rf"/(?=[ \x85\xa0\xc2\xe1-\xe3\xef]){_BLANK.replace('. ', ' ')}++\.{_BLANK}*+(?:[/;:?#]|\Z)",
)
"""A dot segment with blanks before it: to a server that trims segments, as Java's tokenizers do, it is one. The first
of them is no `+`: that is a blank in a query, and begins numbers of telephones in paths."""

_ALIKE_PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("\xe2\x81\x84", "/"),
    ("\xe2\x88\x95", "/"),
    ("\xe2\x88\x96", "\\"),
    ("\xe2\x82\xa9", "\\"),
    ("\xc2\xa5", "\\"),
)
"""What Windows reads as a slash or a backslash where it fits text into a code page: U+2044 (which NFKC makes
of fractions), U+2215, U+2216, and the signs of won and yen, which are the backslash of Korea and Japan."""

DECODINGS: Final = 3
WORK: Final = 600_000
"""Bounds what a hostile path can cost (`core/decoding.py: Bounded`). 4 KiB of ordinary text take four fifths."""


class UnreadablePath(ValueError):
    """The path cannot be judged; the message says why and repeats nothing of the path."""


def remove_dots(path: str) -> str:
    """RFC 3986 5.2.4: resolve `.` and `..`; an empty segment is a segment like any other."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` itself or is below it at a segment boundary."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


class Readings(Bounded):
    """Every reading of one path, for all rules that judge it.

    `prefixes` are those that it may have to be inside of. A prefix is read the same way as the path, so a reading holds
    what becomes of it, beside what becomes of the path; a plain prefix, which no step changes, needs none.

    Raises UnreadablePath where a reading has no honest meaning, or where to read the path would be more work than an
    honest one is.
    """

    __slots__ = ("_all", "_changing", "_closely")

    def __init__(self, path: str, *prefixes: str) -> None:
        super().__init__(WORK, UnreadablePath("the path has too many readings for its length"))
        self._changing: Final = [each for each in prefixes if _CHANGEABLE.search(each) and under(path, each)]
        self._all: Final[set[tuple[str, ...]]] = set()
        self._closely = False
        self._check_octets(path)
        self._read(path)
        # What else servers do, or leave undone, changes only how many segments dots have before them.
        if any(_DOT_SEGMENT.search(reading[0]) for reading in self._all):
            self._closely = True
            self._all.clear()
            self._read(path)

    def _read(self, path: str) -> None:
        level = self._close([(path, *self._changing)])
        for _ in range(DECODINGS):
            level = self._close(self._next_level(level))

    @property
    def paths(self) -> set[str]:
        """The path in each reading."""
        return {reading[0] for reading in self._all}

    def inside(self, prefix: str) -> bool:
        """Whether the path is under `prefix` (one of those given) in every reading; the root is empty."""
        if prefix in self._changing:
            place = self._changing.index(prefix) + 1
            return all(under(reading[0], reading[place].rstrip("/")) for reading in self._all)
        return all(under(reading[0], prefix) for reading in self._all)

    def meet(self, patterns: tuple[tuple[str, bool], ...]) -> bool:
        """Whether any reading of the path is any reading of a pattern, or where the pattern's flag is set, is under it.

        A segment `*` of a pattern is any one segment. Case, a trailing slash, and what a server may cut off a segment
        or the path make no difference: many servers read `/Token` as `/token`, some `/token.` and `/token%3f`.
        """
        if not patterns:
            return False
        self._charge((400 + 100 * len(patterns)) * len(self._all))
        shape = _shape(patterns)
        return any(shape.fullmatch(reading[0]) for reading in self._all)

    def _close(self, waiting: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Add these readings and whatever comes of them by rewriting, in any order; returns those that are new."""
        fresh = []
        while waiting:
            reading = waiting.pop()
            if reading not in self._all:
                self._charge(4_000 + 3 * len(reading[0]))
                self._check_dots(reading[0])
                self._all.add(reading)
                fresh.append(reading)
                self._rewrite(reading, waiting)
        return fresh

    def _next_level(self, level: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """The readings decoded once more, where that changes anything: whole, and all but the slashes.

        Many servers leave an encoded slash as it is, as data, and then resolve dot segments: what is one segment to
        them is two where it is decoded.
        """
        decoded = []
        for reading in level:
            path = reading[0]
            escape = _ESCAPE.search(path)
            self._charge(3_000 + 80 * path.count("%", 0, len(path) if escape is None else escape.start()))
            if escape is not None:
                found = tuple([self._decoded(each) for each in reading])
                self._check_octets(found[0])
                decoded.append(found)
                slashes = path.count("%2f") + path.count("%2F") if self._closely else 0
                if slashes:
                    self._charge(1_500 + 3 * len(path) + 200 * slashes)
                    decoded.append(tuple([self._decoded(_SLASH_ESCAPE.sub("%25", each)) for each in reading]))
        return decoded

    def _check_octets(self, path: str) -> None:
        """Refuse the bytes that no decoding may uncover."""
        self._charge(1_000 + 6 * len(path))
        if CONTROL.search(path):
            raise UnreadablePath("the path must not contain control characters, encoded or not")
        if path.isascii() or _is_utf_8(path):
            return
        self._charge(50 * len(path))
        if _BEYOND_UTF_8.search(path):
            detail = "the path must not contain overlong UTF-8, what is beyond U+10FFFF, or the bytes C0 and C1"
            raise UnreadablePath(f"{detail}, encoded or not")

    def _check_dots(self, path: str) -> None:
        self._charge(40 * path.count("."))
        if _BLANK_BEFORE_DOT.search(path):
            self._charge(20 * len(path))
            if _INDENTED_DOTS.search(path):
                raise UnreadablePath("the path must not contain a dot segment behind spaces")
        if "/." not in path:
            return
        self._charge(250 * path.count("/."))
        if _ODD_DOTS.search(path):
            raise UnreadablePath("the path must not contain a dot segment with a tail (dots, spaces, a colon, ? or #)")
        dots = _DOT_SEGMENT.search(path)
        behind = "" if dots is None else path[dots.end() :]
        # An upstream that reads the decoded path as a URL ends it there, at a place that was never judged.
        if "?" in behind or "#" in behind:
            raise UnreadablePath("the path must not contain an encoded ? or # behind a dot segment")

    def _rewrite(self, reading: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
        """Append what each step alone makes of a reading, where it applies to it."""
        path = reading[0]
        step = 1_500 + 3 * len(path)
        if "\\" in path:
            self._charge(step)
            found.append(tuple([each.replace("\\", "/") for each in reading]))
        if ";" in path:
            self._charge(step + 120 * path.count(";"))
            found.append(tuple([_PARAMETERS.sub("", each) for each in reading]))
            if self._closely:
                # Some servers take all behind the first one for parameters.
                self._charge(step)
                found.append(tuple([each.partition(";")[0] for each in reading]))
        if "//" in path:
            self._charge(step + 100 * path.count("//"))
            # Two by two, as some do once: how many are left decides what dot segments take away.
            found.append(tuple([each.replace("//", "/") for each in reading]))
        if _DOT_SEGMENT.search(path):
            self._charge(step + 90 * path.count("/"))
            found.append(tuple([remove_dots(each) for each in reading]))
        if self._closely and ("%2e" in path or "%2E" in path):
            # Parsers of URLs, and proxies that normalise, read dots so and decode nothing else (RFC 3986 6.2.2.2).
            self._charge(step + 40 * path.count("%2"))
            found.append(tuple([each.replace("%2e", ".").replace("%2E", ".") for each in reading]))
        if "%u" in path or "%U" in path:
            self._charge(step)
            wide = tuple([self._wide_decoded(each) for each in reading])
            self._check_octets(wide[0])
            found.append(wide)
        if not path.isascii():
            self._charge(step)
            found.append(tuple([self._folded(each) for each in reading]))
            if self._closely:
                self._charge(step)
                found.append(tuple([self._compatible_octets(each) for each in reading]))

    def _folded(self, path: str) -> str:
        """NFKC, with what else looks like a slash or backslash as one."""
        return _alike(self._compatible_octets(path))

    def _compatible_octets(self, path: str) -> str:
        return self._compatible(path).encode("utf-8", "surrogateescape").decode("latin-1")


def _alike(path: str) -> str:
    """With what looks like a slash or backslash as one."""
    for written, plain in _ALIKE_PAIRS:
        path = path.replace(written, plain)
    return path


def _is_utf_8(path: str) -> bool:
    try:
        path.encode("latin-1").decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=4096)
def _shape(patterns: tuple[tuple[str, bool], ...]) -> re.Pattern[str]:
    """What `Readings.meet` looks for. Patterns come from the config alone, so nothing that a caller sends is kept."""
    alternatives = set()
    for pattern, below in patterns:
        end = "(?:[/;?#].*)?" if below else "/*(?:[;?#].*)?"
        for reading in readings(pattern):
            alternatives.add("/".join(map(_segment_shape, reading.rstrip("/").split("/"))) + end)
    return re.compile("|".join(sorted(alternatives)), re.IGNORECASE | re.DOTALL)


def _segment_shape(segment: str) -> str:
    if not segment:
        return ""
    return "[^/]+" if segment == "*" else rf"{re.escape(segment)}{_BLANK}*+(?::[^/?#]*)?"


def readings(path: str) -> set[str]:
    """Every reading of an absolute path with one character per byte (latin-1). Raises UnreadablePath."""
    return Readings(path).paths


def inside(path: str, prefix: str) -> bool:
    """Whether `path` is under `prefix` in every reading, each side read the same way; the root prefix is empty."""
    return Readings(path, prefix).inside(prefix)


def meets(path: str, pattern: str, *, below: bool = False) -> bool:
    """Whether any reading of `path` is any reading of `pattern`; see `Readings.meet`."""
    return Readings(path).meet(((pattern, below),))
