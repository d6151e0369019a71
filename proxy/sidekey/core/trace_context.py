"""The trace that a caller's request belongs to: `traceparent` of W3C Trace Context, which is forwarded as it came."""

from __future__ import annotations

import re
from typing import Final

from sidekey.core.request import RequestHead

_NAME: Final = b"traceparent"
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)(?:00(?=.{53}\Z)|(?!00)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?",
    re.S,
)
"""Version 00 ends after the flags; what a later one adds begins with a dash (3.2.2, 4)."""


def trace_id(head: RequestHead) -> str:
    """The trace ID, 32 hexadecimal digits; empty where the request gives none that is valid, or more than one."""
    names = head.names
    if _NAME not in names or names.count(_NAME) > 1:
        return ""
    value = head.fields[names.index(_NAME)].partition(b":")[2].strip(b" \t")
    found = _TRACEPARENT.fullmatch(value)
    return "" if found is None else found[1].decode()
