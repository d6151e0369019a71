"""Texts that others may have written, as a terminal may show them."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Controls, which command a terminal (ECMA-48); separators of lines; marks that turn the direction of what follows, so
that it reads as something else (Unicode TR 36, 2.1); and what UTF-8 cannot write."""


def printable(text: str) -> str:
    """A text for a terminal: what would command it, or would turn its direction, is written as an escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
