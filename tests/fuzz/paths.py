"""Paths: how servers may read one, judged beside the readings of a few plain servers."""

from __future__ import annotations

import posixpath
from typing import Final
from urllib.parse import unquote_to_bytes

from fuzz.target import Target
from sidekey.core.paths import Readings, UnreadablePath

_PREFIX: Final = "/v1"
_PATTERNS: Final = (("/v1/token", False), ("/v1/admin/*", True))


def read(path: str) -> Readings | None:
    """Return the readings of a path, or None where it is refused."""
    try:
        readings = Readings(path, _PREFIX)
        readings.inside(_PREFIX)
        readings.meet(_PATTERNS)
    except UnreadablePath:
        return None
    return readings


def parse(data: bytes) -> Readings | None:
    """Read the bytes as a path that a caller sends."""
    return read("/" + data.decode("latin-1"))


def check(data: bytes) -> None:
    """Require that no plain server reads a path outside the prefix that counts as inside."""
    readings = parse(data)
    if readings is None or not readings.inside(_PREFIX):
        return
    path = "/" + data.decode("latin-1")
    decoded = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    twice = unquote_to_bytes(decoded.encode("latin-1")).decode("latin-1")
    for reading in (path, decoded, twice):
        for slashes in (reading, reading.replace("\\", "/")):
            resolved = "/" + posixpath.normpath(slashes).lstrip("/")
            assert resolved == _PREFIX or resolved.startswith(f"{_PREFIX}/"), f"{path!r} is read as {resolved!r}"


TARGET: Final = Target(
    (
        b"v1/users/7",
        b"v1/%2e%2e/admin",
        b"v1/..;x/..%2f%5c../a",
        b"v1/%252e%252e/%u002e/a%c0%ae",
        "v1/\u2215..\uff0f\u00a5a".encode(),
        b"v1//./a/%2F/.. /b::$DATA?",
        b"v1/" + b"%25" * 60 + b";a/" * 20,
    ),
    parse,
    check,
    (b"%2e", b"%2f", b"%5c", b"%25", b"%3b", b"%u002e", b"/../", b"..;/", b"//", b"%c0%ae", b"%e2%88%95", b"::$DATA"),
)
