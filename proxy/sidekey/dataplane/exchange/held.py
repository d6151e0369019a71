"""A response that is kept back because its status may refuse the grant."""

from __future__ import annotations

from typing import Final

MOST: Final = 64 << 10
"""Bytes of a response's body that are kept back; a longer one is judged by its status alone."""


class HeldResponse:
    """The head as it goes to the caller, and what has come of the body, unframed.

    `chunked` says that the body goes to the caller in chunks, `readable` that it has no content coding. `whole` is set
    once all of it has come.
    """

    __slots__ = ("_body", "_head", "_readable", "_size", "chunked", "whole")

    def __init__(self, head: list[bytes], *, chunked: bool, readable: bool) -> None:
        self.chunked: Final = chunked
        self.whole = False
        self._head = head
        self._readable = readable
        self._body: list[bytes] = []
        self._size = 0

    def add(self, pieces: list[bytes], *, whole: bool) -> None:
        """More of the body has come, or its end."""
        self._body += pieces
        self._size += sum(map(len, pieces))
        self.whole |= whole

    @property
    def is_full(self) -> bool:
        """Whether the body is longer than what is kept back."""
        return self._size > MOST

    @property
    def content(self) -> bytes | None:
        """The body, or None where it is incomplete or coded."""
        return b"".join(self._body) if self.whole and self._readable and not self.is_full else None

    def wire(self) -> bytes:
        """What goes to the caller."""
        if not self.chunked:
            return b"".join([*self._head, *self._body])
        body = [b"%x\r\n" % self._size, *self._body, b"\r\n"] if self._size else []
        return b"".join([*self._head, *body, b"0\r\n\r\n" if self.whole else b""])
