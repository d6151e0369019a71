"""Tokens of the benchmarks: each contains its client and expiry, so that an upstream can check it alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_SCHEME = "Bearer "


@dataclass(frozen=True, slots=True)
class Client:
    """Settings of a client. `life` is the lifetime of its tokens in seconds.

    `held`: the token endpoint responds only after its release. `refused`: the upstream responds 401 to every token.
    """

    life: int
    held: bool = False
    refused: bool = False


@dataclass(slots=True)
class Account:
    """The record of a client.

    `calls` are the moments of its token requests in seconds. `good` and `expired` count its requests to the upstream,
    with a token that was valid and with one that had expired.
    """

    calls: list[float] = field(default_factory=list)
    good: int = 0
    expired: int = 0


class Ledger:
    """Issues tokens, checks them, and keeps the accounts. All times are of one clock, in seconds."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self.clients = clients
        self.accounts = {name: Account() for name in clients}
        self._issued = 0

    def issue(self, name: str, now: float) -> str:
        """Issue a new token of a client. No two are equal."""
        self._issued += 1
        return f"{name}~{self._issued}~{now + self.clients[name].life:.6f}"

    def check(self, authorization: Sequence[str], now: float) -> bool:
        """Count a request with these Authorization values by its token, and return True if it is served.

        Raises ValueError unless it has exactly one token, of a known client.
        """
        name, expiry = _read(authorization)
        account = self.accounts.get(name)
        if account is None:
            raise ValueError("a token of an unknown client")
        if now >= expiry:
            account.expired += 1
            return False
        account.good += 1
        return not self.clients[name].refused

    def as_json(self) -> dict[str, Any]:
        """The accounts as the control path returns them."""
        return {name: asdict(account) for name, account in self.accounts.items()}


def _read(authorization: Sequence[str]) -> tuple[str, float]:
    if len(authorization) != 1 or not authorization[0].startswith(_SCHEME):
        raise ValueError(f"{len(authorization)} Authorization headers, or one without a bearer token")
    name, _, expiry = authorization[0].removeprefix(_SCHEME).split("~")
    return name, float(expiry)


def most_within(moments: Sequence[float], window: float) -> int:
    """Return the largest number of these ascending times in a window of this length."""
    return max(
        (bisect_left(moments, moment + window) - index for index, moment in enumerate(moments)),
        default=0,
    )
