"""Who may use the admin listener of a process with a store, by which names, and how it is reached."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sidekey.credentials.base import Sealed

Role = Literal["viewer", "editor", "admin"]
"""What an operator's token may do: each of them what the one before may, and more."""

ROLES: Final[tuple[Role, ...]] = ("viewer", "editor", "admin")


def includes(role: Role, needed: Role) -> bool:
    """Whether a role may do what `needed` may."""
    return ROLES.index(role) >= ROLES.index(needed)


@dataclass(frozen=True, slots=True, repr=False)
class AdminToken(Sealed):
    """A token of the config: the SHA-256 of its UTF-8 bytes, and its role."""

    digest: bytes
    role: Role

    def __repr__(self) -> str:
        return f"AdminToken({self.role})"


@dataclass(frozen=True, slots=True, repr=False)
class ServerCertificate(Sealed):
    """A certificate with its chain and its private key, in PEM, not encrypted."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"ServerCertificate({hashlib.sha256(self.chain).hexdigest()[:16]})"


@dataclass(frozen=True, slots=True)
class AdminRules:
    """`tokens` are by name; `names` are further host names of the admin listener, in lower case.

    `certificate` is what the listener's TLS presents; None: it is plain HTTP. `behind_tls`: who connects is a proxy.
    """

    tokens: Mapping[str, AdminToken] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    certificate: ServerCertificate | None = None
    behind_tls: bool = False
