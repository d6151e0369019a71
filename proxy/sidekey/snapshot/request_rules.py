"""The rules that a request pins at its start. A reload affects only requests that begin after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sidekey.policy.callers import Callers, Unidentified


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds. `total` 0 means no limit."""

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
    """Limits in bytes, except `headers`, `in_flight`, `pipelined` and `tunnels`, which are counts."""

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


class RequestRules:
    """The part of a config that every request pins when Sidekey reads its first byte.

    `callers` is None if callers are not authenticated. `via` is the Via field of this process after a line end, or
    empty; `head_end` ends a head with it. `tunnels_per_caller` limits the open tunnels of one caller. `awaits_store` is
    True until the store was read: until then, `callers` has those of files alone. `client_cas` verify the certificates
    of new connections, as DER.
    """

    __slots__ = (
        "awaits_store",
        "callers",
        "client_cas",
        "has_several_callers",
        "head_end",
        "limits",
        "timeouts",
        "tunnels_per_caller",
        "via",
    )

    def __init__(
        self,
        limits: Limits,
        timeouts: Timeouts,
        callers: Callers | None,
        via: bytes,
        *,
        has_several_callers: bool,
        awaits_store: bool = False,
        client_cas: frozenset[bytes] = frozenset(),
    ) -> None:
        self.limits: Final = limits
        self.timeouts: Final = timeouts
        self.callers: Final = callers
        self.via: Final = via
        self.awaits_store: Final = awaits_store
        self.client_cas: Final = client_cas
        self.head_end: Final = via + b"\r\n\r\n"
        self.has_several_callers: Final = has_several_callers
        self.tunnels_per_caller: Final = max(1, limits.tunnels // 2) if has_several_callers else limits.tunnels

    def for_certificate(self, keys: Iterable[bytes], refused: Unidentified | None) -> RequestRules:
        """Return the rules for a connection whose certificate identifies the callers with these keys."""
        callers = None if self.callers is None else self.callers.on_connection(keys, refused)
        return RequestRules(
            self.limits,
            self.timeouts,
            callers,
            self.via,
            has_several_callers=self.has_several_callers,
            awaits_store=self.awaits_store,
            client_cas=self.client_cas,
        )
