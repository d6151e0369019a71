"""The parent proxy through which Sidekey makes its outgoing connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.parent_proxy import NoProxy
from sidekey.policy.urls import Origin
from sidekey.snapshot.trust import Trust


@dataclass(frozen=True, slots=True, repr=False)
class ParentProxy(SecretHolder):
    """A proxy at `origin`, to which Sidekey sends CONNECT.

    `authorization` is the value of `Proxy-Authorization`, or empty. `trust` verifies a proxy whose scheme is https.
    With `resolves`, the proxy receives host names, otherwise addresses. `problem` says why the proxy cannot be used, or
    is empty. Sidekey then makes no connection, because a direct one may not be allowed.
    """

    origin: Origin
    authorization: str = ""
    trust: Trust = field(default_factory=Trust)
    no_proxy: NoProxy = field(default_factory=NoProxy)
    resolves: bool = False
    problem: str = ""

    def __repr__(self) -> str:
        return f"ParentProxy({self.origin})"
