"""The body of a response from which secrets are removed on its way: decoded where it is coded, given out in steps."""

from __future__ import annotations

from typing import Final

from sidekey.core.codings import Decoder, coding_of
from sidekey.core.framing import UNTIL_CLOSE
from sidekey.core.headers import OF_EXACT_BODY, without
from sidekey.core.redaction import RedactedStream, Redactor
from sidekey.core.response import ResponseHead


class RedactedBody:
    """What has come of the body is given out by `step`; `over` says that all of it was.

    Nothing is kept here for long but what a step has left of one read, since a decoded body may be a thousand times
    longer. Raises UnreadableCoding for a coding that cannot be read.
    """

    __slots__ = ("_coded", "_plain", "_stream", "_whole", "over")

    def __init__(self, head: ResponseHead, redactor: Redactor) -> None:
        coding = coding_of(head.fields)
        self.over = False
        self._coded: Final = Decoder(coding) if coding else None
        self._stream: Final = RedactedStream(redactor)
        self._plain = b""
        self._whole = False

    def add(self, pieces: list[bytes], *, whole: bool) -> None:
        """More of the body has come, or its end."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._whole |= whole
        if self._coded is not None:
            self._coded.feed(data, whole=whole)
        else:
            self._plain += data

    @property
    def waits(self) -> bool:
        """Whether there is more to give out without further input."""
        return not self.over and (self._whole or bool(self._plain) or (self._coded is not None and self._coded.waits))

    def step(self) -> bytes:
        """The next bytes of what goes to the caller; none where they may begin a secret. Raises UnreadableCoding."""
        coded = self._coded
        if coded is None:
            out, self._plain = self._stream.feed(self._plain), b""
        else:
            out = self._stream.feed(coded.step())
        if self._whole and (coded is None or not coded.waits):
            self.over = True
            out += self._stream.finish()
        return out


def readable_head(head: ResponseHead) -> ResponseHead:
    """The head of a response whose body is redacted: of unknown length, without what holds for the exact body alone."""
    length = UNTIL_CLOSE if head.length else 0
    return ResponseHead(head.status, without(head.fields, OF_EXACT_BODY), head.connection, length, None)
