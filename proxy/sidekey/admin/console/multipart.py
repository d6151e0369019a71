"""Forms with files (RFC 7578), as browsers without script send them: read in memory, since files may be keys."""

from __future__ import annotations

import re
from typing import Final

TYPE: Final = "multipart/form-data"

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 5.1.1."""

_NAME: Final = re.compile(r';[ \t]*name="([^"]*)"')
_FILE: Final = re.compile(r";[ \t]*filename\*?=")
_HEAD: Final = 4096
"""Bytes of the head of a part: a name, and a file's."""


def fields_of(data: bytes, boundary: str, most: int) -> dict[str, str]:
    """The first value of each field; a file's content, where it is no UTF-8, with a character for each byte.

    Raises ValueError.
    """
    if _BOUNDARY.fullmatch(boundary) is None:
        raise ValueError("the boundary is not valid")
    line = b"\r\n--" + boundary.encode("ascii")
    # What is before the first boundary, and after the last one, does not count.
    pieces = (b"\r\n" + data).split(line, most + 2)[1:]
    found: dict[str, str] = {}
    for number, piece in enumerate(pieces):
        if piece.startswith(b"--"):
            return found
        if number >= most:
            raise ValueError("there are too many fields")
        head, separator, value = piece.partition(b"\r\n\r\n")
        if not separator or len(head) > _HEAD:
            raise ValueError("a part has no end of its head")
        name, is_file = _named(head.decode())
        found.setdefault(name, _text(value, is_file=is_file))
    raise ValueError("the last boundary is missing")


def _named(head: str) -> tuple[str, bool]:
    """The name of a part, and whether it is a file."""
    for each in head.split("\r\n"):
        field, _, value = each.partition(":")
        if field.strip().lower() == "content-disposition":
            name = _NAME.search(value)
            if name is not None:
                # As the HTML standard writes a name.
                text = name[1].replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
                return text, _FILE.search(value) is not None
    raise ValueError("a part has no name")


def _text(value: bytes, *, is_file: bool) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        if not is_file:
            raise
        return value.decode("latin-1")
