"""The rules that a request keeps from its start to its end: a reload counts for the requests that begin after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sidekey.policy.callers import Caller


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `total` 0 means no limit."""

    connect: float = 5.0
    request_head: float = 10.0
    response: float = 30.0
    idle: float = 60.0
    keep_alive: float = 75.0
    write: float = 60.0
    total: float = 0.0
    drain_delay: float = 0.0
    drain: float = 25.0
    tunnel_idle: float = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, but for `headers`, `in_flight`, `pipelined` and `tunnels`, which are counts."""

    request_head: int = 64 << 10
    target: int = 16 << 10
    headers: int = 200
    request_body: int = 100 << 20
    response_head: int = 64 << 10
    replay_body: int = 64 << 10
    signed_body: int = 8 << 20
    held_bodies: int = 64 << 20
    in_flight: int = 10_000
    pipelined: int = 16
    tunnels: int = 5_000
    preset_parameters: int = 64 << 10
    preset_body: int = 256 << 10


class Rules:
    """The part of a config that every request pins when its first byte is read.

    `callers` are keyed by the SHA-256 digest of their token; None: nobody is asked who they are. `via` is the Via field
    that this process sends, after its line end (empty where it sends none); `head_end` ends a head with it.
    `tunnels_each` is how many tunnels one caller may have.
    `awaits_store` says that the store was not read yet, so that `callers` are those of files alone.
    """

    __slots__ = (
        "awaits_store",
        "callers",
        "head_end",
        "limits",
        "timeouts",
        "tunnels_each",
        "via",
    )

    def __init__(
        self,
        limits: Limits,
        timeouts: Timeouts,
        callers: Mapping[bytes, Caller] | None,
        via: bytes,
        *,
        awaits_store: bool = False,
    ) -> None:
        self.limits: Final = limits
        self.timeouts: Final = timeouts
        self.callers: Final = callers
        self.via: Final = via
        self.awaits_store: Final = awaits_store
        self.head_end: Final = via + b"\r\n\r\n"
        several = callers is not None and len({caller.name for caller in callers.values()}) > 1
        self.tunnels_each: Final = max(1, limits.tunnels // 2) if several else limits.tunnels
