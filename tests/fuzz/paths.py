"""Paths: the path rule compared with a few plain servers."""

from __future__ import annotations

import posixpath
from typing import Final
from urllib.parse import unquote_to_bytes

from fuzz.target import Target
from sidekey.policy.paths import UnreadablePath, final_form, matches_any, under

_PREFIX: Final = "/v1"
_PATTERNS: Final = (("/v1/token", False), ("/v1/admin/*", True))


def parse(data: bytes) -> str | None:
    """Return the path that a caller sends if it is allowed under the prefix, else None."""
    path = "/" + data.decode("latin-1")
    try:
        final = final_form(path)
        if matches_any(final, _PATTERNS) or not under(path, _PREFIX):
            return None
    except UnreadablePath:
        return None
    return path


def check(data: bytes) -> None:
    """Require that no plain server reads an allowed path as one outside the prefix or as a forbidden one."""
    path = parse(data)
    if path is None:
        return
    decoded = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    twice = unquote_to_bytes(decoded.encode("latin-1")).decode("latin-1")
    for reading in (path, decoded, twice):
        for slashes in (reading, reading.replace("\\", "/")):
            resolved = "/" + posixpath.normpath(slashes).lstrip("/")
            assert resolved == _PREFIX or resolved.startswith(f"{_PREFIX}/"), f"{path!r} is read as {resolved!r}"
            assert resolved.lower() != "/v1/token", f"{path!r} is read as {resolved!r}"


TARGET: Final = Target(
    (
        b"v1/users/7",
        b"v1/a%2fb/caf%e9//%25zz",
        b"v1/%2e%2e/admin",
        b"v1/..;x/..%2f%5c../a",
        b"v1/%252e%252e/%u002e/a%c0%ae",
        "v1/\u2215..\uff0f\u00a5a".encode(),
        b"v1/%ef%bc%852e%ef%bc%852e/caf%e9/%ef%bc%8e%ef%bc%8e/..%e2%81%84%25u2215",
        b"v1//./a/%2F/.. /b::$DATA?",
        b"v1/" + b"%25" * 60 + b";a/" * 20,
    ),
    parse,
    check,
    (b"%2e", b"%2f", b"%5c", b"%25", b"%3b", b"%u002e", b"/../", b"..;/", b"//", b"%c0%ae", b"%e2%88%95", b"::$DATA"),
)
