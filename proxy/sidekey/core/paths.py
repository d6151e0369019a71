"""The readings of a request path: what servers on the way may make of the same bytes.

A server may decode once or twice, take a backslash for a slash, drop `;parameters`, merge slashes and remove dot
segments, in any combination. A path counts as inside a prefix only if it is inside in each of them.
"""

from __future__ import annotations

import re
from itertools import product
from urllib.parse import unquote_to_bytes

MALFORMED_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"//+")


class UnreadablePath(ValueError):
    """The path cannot be judged; the message says why and holds nothing of the path."""


def decode(path: str) -> str:
    """One percent-decoding, byte for byte (latin-1); an escape that is none stays as it is."""
    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


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


def readings(path: str) -> list[str]:
    """Every reading of an absolute path, always in the same order, so that two paths' readings can be paired.

    `path` holds one character a byte (latin-1). Raises UnreadablePath where a decoding uncovers a control.
    """
    levels = [path]
    for _ in range(2):
        levels.append(decode(levels[-1]))
    if any(CONTROL.search(level) for level in levels):
        raise UnreadablePath("the path holds a control character in one of its readings")
    found = []
    for level, switches in product(levels, product((False, True), repeat=4)):
        backslash, parameters, slashes, dots = switches
        reading = level.replace("\\", "/") if backslash else level
        if parameters:
            reading = _PARAMETERS.sub("", reading)
        if slashes:
            reading = _SLASHES.sub("/", reading)
        found.append(remove_dots(reading) if dots else reading)
    return found


def under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` itself or lies below it at a segment boundary."""
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def inside(path: str, prefix: str) -> bool:
    """Whether `path` lies under `prefix` in every combination of readings, each side read the same way."""
    return all(map(under, readings(path), readings_of_prefix(prefix)))


def readings_of_prefix(prefix: str) -> list[str]:
    """The readings of a prefix without its trailing slash; the root is the empty string."""
    return [reading.rstrip("/") for reading in readings(prefix or "/")]


def same(path: str, other: str) -> bool:
    """Whether the two paths are the same resource in any combination of readings, a trailing slash aside."""
    theirs = {reading.rstrip("/") for reading in readings(other)}
    return any(reading.rstrip("/") in theirs for reading in readings(path))
