"""The rules that a request keeps from its start to its end: a reload counts for the requests that begin after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidekey.settings.snapshot import Caller, Limits, Snapshot, Timeouts


class Rules:
    """The part of a snapshot that every request pins when its first byte is read.

    `via` is the Via field that this process sends, after its line end (empty where it sends none); `head_end` ends a
    head with it.
    """

    __slots__ = ("callers", "head_end", "limits", "timeouts", "via")

    def __init__(self, snapshot: Snapshot, instance: bytes) -> None:
        self.limits: Final[Limits] = snapshot.limits
        self.timeouts: Final[Timeouts] = snapshot.timeouts
        self.callers: Final[Mapping[bytes, Caller]] = snapshot.callers
        self.via: Final = b"\r\nVia: 1.1 sidekey (%b)" % instance if snapshot.via else b""
        self.head_end: Final = self.via + b"\r\n\r\n"
