"""Remove injected parameters from response headers that may repeat the URL of the request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

_HEX: Final = re.compile("%..")

_DEPTH: Final = 3
"""`Scrubber` finds parameters in URLs that were percent-encoded up to this many times."""


UNENCODED: Final = ("", "/", "*", "!'()*", "!$&'()*+,;=:@", "!$&'()*+,;=:@/?")
"""Characters, besides the unreserved ones, that encoders leave unencoded: Sidekey, Python's `quote`, forms,
`encodeURIComponent`, and encoders of path segments and of queries (RFC 3986 3.3 and 3.4)."""


def _encodings(text: str, *, lower: bool, unencoded: str = "") -> tuple[bytes, ...]:
    """Percent-encode a text 0 to `_DEPTH` + 1 times, with hexadecimal digits in upper or lower case.

    Only the first time, the characters `unencoded` stay as they are.
    """
    encodings = [text.encode()]
    for depth in range(_DEPTH + 1):
        encoded = quote(encodings[-1], safe="" if depth else unencoded)
        encodings.append((_HEX.sub(lambda escape: escape[0].lower(), encoded) if lower else encoded).encode())
    return tuple(encodings)


_DELIMITERS: Final = {lower: [_encodings(mark, lower=lower) for mark in "?#&;="] for lower in (False, True)}


class Scrubber:
    """Removes injected parameters from a response header that may repeat the URL of the request.

    It removes a pair `name=value` with its separator, so that a client can still follow the URL. Elsewhere it removes
    the value alone. It finds both in a URL that was percent-encoded up to `_DEPTH` times.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs: Final = [
            (_encodings(name, lower=lower), encodings, delimiters)
            for name, value in pairs
            for lower, delimiters in _DELIMITERS.items()
            for encodings in {_encodings(value, lower=lower, unencoded=unencoded) for unencoded in UNENCODED}
        ]
        # Longest first, since an encoding may begin with a shorter one.
        self._values: Final = sorted({value for _, values, _ in self._pairs for value in values}, key=len, reverse=True)

    def __call__(self, line: bytes) -> bytes | None:
        """Return the line without the injected values, or None if one remains: drop such a header."""
        if not self.finds_value(line):
            return line
        for names, values, delimiters in self._pairs:
            for depth in range(_DEPTH, -1, -1):
                question, fragment, ampersand, semicolon, equals = (encodings[depth] for encodings in delimiters)
                # The value was encoded once more than the URL, unless the upstream has decoded it.
                for value in (values[depth + 1], values[depth]):
                    pair = names[depth] + equals + value
                    line = line.replace(ampersand + pair, b"").replace(semicolon + pair, b"")
                    for start in (question, fragment):
                        line = line.replace(start + pair + ampersand, start).replace(start + pair + semicolon, start)
                        line = line.replace(start + pair, b"")
                    line = line.replace(pair, b"")
        for value in self._values:
            line = line.replace(value, b"")
        return None if self.finds_value(line) else line

    def finds_value(self, text: bytes) -> bool:
        """Return True if an injected value is in the text."""
        return any(text.find(value) >= 0 for value in self._values)
