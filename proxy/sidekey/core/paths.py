"""The readings of a request path: what servers on the way may make of the same bytes.

A server may decode, read a backslash as a slash, drop `;parameters`, merge slashes and remove dot segments, in any
combination; and one server may do some of it before the next one does the rest, so the steps may also come before a
decoding. A path counts as inside a prefix only if it is inside in each of these readings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from typing import Final
from urllib.parse import unquote_to_bytes

MALFORMED_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PARAMETERS: Final = re.compile(r";[^/]*")
_SLASHES: Final = re.compile(r"//+")
_REWRITABLE: Final = re.compile(r"[\\;]|//|/\.\.?(?:/|\Z)")
_WAYS: Final = list(product((False, True), (False, True), (False, True), (False, True)))

DECODINGS: Final = 2
MOST_READINGS: Final = 512
MOST_CHARACTERS: Final = 64 << 10
"""Bound the work that a hostile path can cause: readings, and characters to be rewritten at a time. A path of ordinary
escapes has fewer than twenty readings."""


class UnreadablePath(ValueError):
    """The path cannot be judged; the message says why and repeats nothing of the path."""


def decode(path: str) -> str:
    """One percent-decoding, byte for byte (latin-1); an invalid escape stays as it is."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1") if "%" in path else path


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


def _rewrite(path: str, switches: tuple[bool, bool, bool, bool]) -> str:
    backslash, parameters, slashes, dots = switches
    if backslash:
        path = path.replace("\\", "/")
    if parameters:
        path = _PARAMETERS.sub("", path)
    if slashes:
        path = _SLASHES.sub("/", path)
    return remove_dots(path) if dots else path


def _rewritten(path: str, other: str) -> set[tuple[str, str]]:
    if not _REWRITABLE.search(path) and not _REWRITABLE.search(other):
        return {(path, other)}
    return {(_rewrite(path, way), _rewrite(other, way)) for way in _WAYS}


def _paired(path: str, other: str) -> set[tuple[str, str]]:
    """The readings of two paths, each pair read the same way: rewritten, and decoded 0, 1 or 2 times on the way."""
    found: set[tuple[str, str]] = set()
    level = {(path, other)}
    for decodings in range(DECODINGS + 1):
        if decodings:
            level = {(decode(ours), decode(theirs)) for ours, theirs in level}
        if any(CONTROL.search(ours) for ours, _ in level):
            raise UnreadablePath("the path must not contain control characters, encoded or not")
        if len(level) * len(path) > MOST_CHARACTERS:
            raise UnreadablePath("the path has too many readings for its length")
        level = {pair for ours, theirs in level for pair in _rewritten(ours, theirs)}
        found |= level
        if len(found) > MOST_READINGS:
            raise UnreadablePath("the path has too many readings")
    return found


def readings(path: str) -> set[str]:
    """Every reading of an absolute path with one character per byte (latin-1).

    Raises UnreadablePath where a decoding uncovers a control character, or where there are more readings than an honest
    path has.
    """
    return {reading for reading, _ in _paired(path, "/")}


def under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` itself or is below it at a segment boundary."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def inside(path: str, prefix: str) -> bool:
    """Whether `path` is under `prefix` in every reading, each side read the same way; the root prefix is empty."""
    return all(under(ours, theirs.rstrip("/")) for ours, theirs in _paired(path, prefix or "/"))


def meets(path: str, pattern: str, *, below: bool = False) -> bool:
    """Whether any reading of `path` is any reading of `pattern`, or with `below` is under it.

    A segment `*` of the pattern is any one segment. Case and a trailing slash make no difference: many servers read
    `/Token` as `/token`.
    """
    shape = _shape(pattern, below)
    return any(shape.fullmatch(reading) for reading in readings(path))


@lru_cache(maxsize=4096)
def _shape(pattern: str, below: bool) -> re.Pattern[str]:
    alternatives = {
        "/".join("[^/]+" if segment == "*" else re.escape(segment) for segment in reading.rstrip("/").split("/"))
        for reading in readings(pattern)
    }
    return re.compile(f"(?:{'|'.join(sorted(alternatives))}){'(?:/.*)?' if below else '/*'}", re.IGNORECASE | re.DOTALL)
