"""The head of an upstream's response as it was read: frozen, like that of a request."""

from __future__ import annotations

from typing import Final


class ResponseHead:
    """The parsed head of one final response.

    `fields` are the lines that may be passed on, each after its line end. `connection` holds the values of Connection
    that name further fields, joined, or None. `length` is the body's as it comes: a number of bytes,
    `framing.CHUNKED` or `framing.UNTIL_CLOSE`; `content_length` is what the field of that name said, or None.
    """

    __slots__ = ("connection", "content_length", "fields", "length", "status")

    def __init__(
        self, status: int, fields: list[bytes], connection: bytes | None, length: int, content_length: int | None
    ) -> None:
        self.status: Final = status
        self.fields: Final = fields
        self.connection: Final = connection
        self.length: Final = length
        self.content_length: Final = content_length
