"""How Sidekey connects for one integration, or for calls of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sidekey.policy.addresses import Address, AllowPrivate
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.trust import Trust


@dataclass(frozen=True, slots=True)
class Egress:
    """The rules of outgoing connections that one integration, or one issuer of tokens, may set for itself.

    `trust` verifies servers. `allow_private`, `source_address` and `proxy` add to or replace those of `NetworkRules`;
    the proxy "none" means direct connections. With `resolve_locally`, Sidekey resolves the targets' names and checks
    the addresses, even if a parent proxy resolves the names of other targets: editors or callers choose these.
    """

    trust: Trust = field(default_factory=Trust)
    allow_private: AllowPrivate = ()
    source_address: Address | None = None
    proxy: ParentProxy | Literal["none"] | None = None
    resolve_locally: bool = False
