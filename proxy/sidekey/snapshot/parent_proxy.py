"""The parent proxy through which Sidekey makes its outgoing connections."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.policy.addresses import parse_address
from sidekey.policy.parent_proxy import NoProxy, is_localhost
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

    def receives_name(self, host: str, hosts: Container[str]) -> bool:
        """Return True if the proxy resolves this host, unless `no_proxy` covers it.

        Sidekey itself resolves literals, `localhost` and the names in `hosts`, for which the config has addresses.
        """
        return self.resolves and host not in hosts and parse_address(host) is None and not is_localhost(host)


ProxyChoice = ParentProxy | Literal["none", "checked"] | None
"""The parent proxy of an integration: its own, or None for `NetworkRules.proxy`. `none` connects directly.

`checked` is `NetworkRules.proxy` with addresses that Sidekey has checked, although the proxy resolves names for others:
an editor or a caller chooses these targets, not the operator.
"""
