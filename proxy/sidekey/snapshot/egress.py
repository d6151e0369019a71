"""The rules of outgoing connections that may differ between integrations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sidekey.policy.addresses import Address, AllowPrivate
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.trust import Trust


@dataclass(frozen=True, slots=True)
class Egress:
    """How Sidekey connects for one integration, or to one issuer of JWTs or log-ins, in addition to `NetworkRules`.

    `trust` verifies servers. `allow_private` extends or replaces that of `NetworkRules`. `source_address` and
    `proxy` replace those of `NetworkRules`; "none" means direct connections. With `resolve_locally`, Sidekey resolves
    names and checks the addresses, even if the parent proxy resolves names: editors or callers choose these targets.
    """

    trust: Trust = field(default_factory=Trust)
    allow_private: AllowPrivate = ()
    source_address: Address | None = None
    proxy: ParentProxy | Literal["none"] | None = None
    resolve_locally: bool = False
