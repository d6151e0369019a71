"""Parse JSON from outside Sidekey, and limit its depth.

Python's recursion limit does not replace this limit. Since Python 3.14 it does not apply to the parser, and the code
that walks the parsed value reaches it earlier.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Final

MAX_DEPTH: Final = 128
"""Maximum levels of arrays and objects. A document of the config or the API has a lower limit (`yaml_reader`)."""

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A JSON string, also an unterminated one. Possessive quantifiers keep the time linear."""
_BRACKETS: Final = b"[{]}"
_OTHER_BYTES: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\x01\xff\xff")
"""Map a bracket to the step, as a signed byte, that it changes the depth by."""


class TooDeepError(ValueError):
    """JSON is nested deeper than `MAX_DEPTH` levels."""


def parse_json(text: str | bytes, decode: Callable[[str], Any] = json.loads) -> Any:
    """Parse JSON in UTF-8 with `decode`. Raises ValueError, which is a TooDeepError for JSON over the limit."""
    if isinstance(text, bytes):
        # RFC 8259 8.1 allows UTF-8 only. `json.loads` would detect other encodings.
        text = text.decode()
    if text.count("[") + text.count("{") > MAX_DEPTH:
        steps = array("b", without_strings(text.encode("utf-8", "surrogatepass")).translate(_STEPS, _OTHER_BYTES))
        # Up to its first syntax error, where parsing ends, the depth is exact.
        if max(accumulate(steps), default=0) > MAX_DEPTH:
            raise TooDeepError(f"must not be nested deeper than {MAX_DEPTH} levels")
    return decode(text)


def without_strings(data: bytes) -> bytes:
    """Remove the strings from JSON."""
    return _STRING.sub(b"", data)
