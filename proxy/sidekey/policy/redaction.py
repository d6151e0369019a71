"""Replace the secrets of a grant in responses by `[redacted]`.

Sidekey searches for each spelling that upstreams use to repeat a secret: plain, percent-encoded (RFC 3986 2.1), escaped
in JSON (RFC 8259 7), and inside base64 (RFC 4648 4 and 5). Each spelling is a literal, which `bytes.find` finds in
linear time, whatever an upstream sends. A regular expression would not.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from sidekey.policy.headers import URL_FIELDS, line_name
from sidekey.policy.scrubber import UNENCODED, Scrubber

MARK: Final = b"[redacted]"

MIN_LENGTH: Final = 8
"""Bytes of the shortest secret that is searched for. A shorter one may be a word of any response."""

MAX_LENGTH: Final = 4096
"""Maximum bytes of a literal. A longer secret is split into pieces of at most this length."""

_JSON_UNICODE: Final = ("", "<>&", "<>&'=", "\"<>&'+`")
"""ASCII characters that JSON serializers write as \\uXXXX: none (most serializers), and those of Go, Gson and .NET."""

_HEX: Final = re.compile(r"(?<=%)[0-9A-F]{2}|(?<=\\u)[0-9a-f]{4}")

_BASE64_URL: Final = bytes.maketrans(b"+/", b"-_")
_BASE64_SKIPPED: Final = (0, 2, 3)
"""Base64 characters that also depend on preceding bytes, by the number of preceding bytes (0, 1 or 2)."""

_INITIAL: Final = 8
"""Bytes of a spelling's beginning that are searched for first."""


def searchable(secrets: Iterable[bytes]) -> list[bytes]:
    """Return the secrets that are long enough to search for."""
    return [secret for secret in secrets if len(secret) >= MIN_LENGTH]


def spellings(secret: bytes) -> set[bytes]:
    """Return every literal that stands for a secret."""
    escaped = {*_percent_encoded(secret), *_json_escaped(secret)}
    # Upper case and lower case digits.
    escaped |= {_HEX.sub(lambda digits: digits[0].swapcase(), text) for text in escaped}
    return {secret, *(text.encode() for text in escaped), *_base64_encoded(secret)}


def _percent_encoded(secret: bytes) -> Iterator[str]:
    for unencoded in UNENCODED:
        text = quote(secret, safe=unencoded)
        # Forms encode `~`, and write `+` for a space.
        for variant in (text, text.replace("~", "%7E")):
            yield variant
            yield variant.replace("%20", "+")


def _json_escaped(secret: bytes) -> Iterator[str]:
    text = secret.decode(errors="replace")
    for ascii_only in (True, False):
        for characters in _JSON_UNICODE:
            escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            if '"' in characters:
                escaped = escaped.replace('\\"', '"')
            escaped = escaped.translate({ord(character): f"\\u{ord(character):04x}" for character in characters})
            yield escaped
            yield escaped.replace("/", "\\/")


def _base64_encoded(secret: bytes) -> Iterator[bytes]:
    """Yield the characters that depend on the secret alone, for each of the three alignments and both alphabets."""
    for preceding, skipped in enumerate(_BASE64_SKIPPED):
        end = (preceding + len(secret)) * 8 // 6
        text = b64encode(bytes(preceding) + secret)[skipped:end]
        yield text
        yield text.translate(_BASE64_URL)


def _pieces(secret: bytes) -> Iterator[bytes]:
    """Split a long secret into pieces of about the same length."""
    count = -(-len(secret) // MAX_LENGTH)
    for number in range(count):
        yield secret[number * len(secret) // count : (number + 1) * len(secret) // count]


def _escape_in(spelling: bytes) -> bytes:
    return b"%" if b"%" in spelling else b"\\" if b"\\" in spelling else b""


class Redactor:
    """Removes the secrets of one grant from the responses to its requests.

    `pairs` are the parameters that the grant adds to the query or the body. They are removed, with their names, from
    the response headers that repeat URLs, so that a client can still follow such a URL (`policy.scrubber`).
    """

    __slots__ = ("_beginnings", "_initials", "_scrubber", "_spellings")

    def __init__(self, secrets: Iterable[bytes], pairs: tuple[tuple[str, str], ...] = ()) -> None:
        literals = {text for secret in searchable(secrets) for piece in _pieces(secret) for text in spellings(piece)}
        # Most texts contain no escape, and need no search for the spellings that have one.
        self._spellings: Final = tuple(
            (escape, tuple(text for text in literals if _escape_in(text) == escape)) for escape in (b"", b"%", b"\\")
        )
        self._initials: Final = tuple({text[:_INITIAL] for text in literals})
        # One text takes far less memory than a set of beginnings, and each grant has its own.
        self._beginnings: Final = b"".join(b"\0" + initial[:-1] for initial in self._initials)
        self._scrubber: Final = Scrubber(pairs) if pairs else None

    def __repr__(self) -> str:
        return "Redactor(REDACTED)"

    def clean(self, fields: list[bytes]) -> list[bytes]:
        """Return the header lines without the secrets, and without the headers whose name contains one."""
        text = b"".join(fields)
        scrubber = self._scrubber
        if scrubber is not None and scrubber.finds_value(text):
            lines = [scrubber(line) if line_name(line) in URL_FIELDS else line for line in fields]
            fields = [line for line in lines if line is not None]
            text = b"".join(fields)
        # In a text as short as a head, `find` is faster with few bytes.
        for initial in self._initials:
            if text.find(initial) >= 0:
                break
        else:
            return fields
        if not self._matches(text):
            return fields
        cleaned = [(line[: line.index(b":") + 1], self.split(line, is_last=True)[0]) for line in fields]
        return [line for name, line in cleaned if line.startswith(name)]

    def split(self, text: bytes, *, is_last: bool) -> tuple[bytes, bytes]:
        """Return the text without the secrets, and its end if that may begin a secret (empty for the last piece).

        Of overlapping spellings the first one is replaced, and of those that begin together the longest one.
        """
        end = len(text)
        starts = {spelling: text.find(spelling) for spelling in sorted(self._matches(text), key=len, reverse=True)}
        hold = end if is_last else self._partial(text, 0)
        out = []
        at = 0
        while starts:
            spelling = min(starts, key=starts.__getitem__)
            start = starts[spelling]
            if start >= hold:
                break
            out += [text[at:start], MARK]
            at = start + len(spelling)
            if at > hold:
                hold = self._partial(text, at)
            for other, position in starts.items():
                if position < at:
                    following = text.find(other, at)
                    starts[other] = end if following < 0 else following
        out.append(text[at:hold])
        return b"".join(out), text[hold:]

    def _matches(self, text: bytes) -> list[bytes]:
        """Return the spellings that the text contains."""
        # `find` takes a third of the time of `in`, which checks for a number first.
        return [
            spelling
            for escape, group in self._spellings
            if text.find(escape) >= 0
            for spelling in group
            if text.find(spelling) >= 0
        ]

    def _partial(self, text: bytes, at: int) -> int:
        """Return the first position from `at` on where the rest of the text begins a spelling but does not end it."""
        first = end = len(text)
        for _, group in self._spellings:
            for spelling in group:
                initial = spelling[:_INITIAL]
                start = text.find(initial, max(at, end - len(spelling) + 1), first + _INITIAL - 1)
                while start >= 0 and not spelling.startswith(text[start:]):
                    start = text.find(initial, start + 1, first + _INITIAL - 1)
                if start >= 0:
                    first = start
        # Shorter beginnings. A NUL in the text may match too much, which holds back a few bytes until the next piece.
        for start in range(max(at, end - _INITIAL + 1), first):
            if self._beginnings.find(b"\0" + text[start:]) >= 0:
                return start
        return first


class RedactedStream:
    """Redacts a text that arrives in pieces. The output does not depend on where the text is cut.

    It buffers only an end that may begin a secret, which is shorter than the longest spelling.
    """

    __slots__ = ("_buffered", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor: Final = redactor
        self._buffered = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes that can be sent after the next piece of the text."""
        out, self._buffered = self._redactor.split(self._buffered + piece, is_last=False)
        return out

    def finish(self) -> bytes:
        """Return the buffered bytes, at the end of the text."""
        rest, self._buffered = self._buffered, b""
        return self._redactor.split(rest, is_last=True)[0]
