"""Operators' roles and tokens, and the host names and TLS of the admin listener."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.snapshot.egress import Egress

Role = Literal["viewer", "editor", "admin", "sender"]

Permission = Literal["anonymous", "self", "send", "sends", "viewer", "editor", "admin"]
"""The permission that a route requires. `send` sends presets; `sends` reads sends and the forms of presets."""

_EVERYBODY: Final[frozenset[Permission]] = frozenset({"anonymous", "self", "sends"})

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    "viewer": _EVERYBODY | {"viewer"},
    "editor": _EVERYBODY | {"send", "viewer", "editor"},
    "admin": _EVERYBODY | {"send", "viewer", "editor", "admin"},
    "sender": _EVERYBODY | {"send"},
}


def roles_with(permission: Permission) -> list[Role]:
    """Return the roles that have a permission."""
    return [role for role, permissions in PERMISSIONS.items() if permission in permissions]


PER_MINUTE: Final = 60
PER_DAY: Final = 1000
"""Default limits of the presets that one operator sends, per minute and per day."""


@dataclass(frozen=True, slots=True, repr=False)
class AdminToken(SecretHolder):
    """A token of the config: the SHA-256 of its UTF-8 bytes, and its role. A sender may send `presets`."""

    digest: bytes
    role: Role
    presets: tuple[str, ...] = ()
    per_minute: int = PER_MINUTE
    per_day: int = PER_DAY

    def __repr__(self) -> str:
        return f"AdminToken({self.role})"


@dataclass(frozen=True, slots=True, repr=False)
class ServerCertificate(SecretHolder):
    """A certificate chain and its unencrypted private key, in PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"ServerCertificate({hashlib.sha256(self.chain).hexdigest()[:16]})"


@dataclass(frozen=True, slots=True)
class ListenTls:
    """TLS of the proxy listener. `expires_at` is the end of its certificate in Unix time.

    `client_cas` verify callers' certificates, as DER; without any, none is requested. With `requires_certificate`, a
    handshake without a certificate fails.
    """

    certificate: ServerCertificate
    expires_at: float
    client_cas: frozenset[bytes] = field(default=frozenset(), repr=False)
    requires_certificate: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class OidcRules(SecretHolder):
    """Rules of the company log-in with OpenID Connect.

    `roles` and `presets` are keyed by values of the claims `roles_claim` and `presets_claim`. `digest` covers
    everything but the client secret and the CAs. Sessions end when it changes.
    """

    issuer: str
    client_id: str
    client_secret: str
    redirect_url: str
    scopes: tuple[str, ...]
    egress: Egress
    roles_claim: str
    roles: Mapping[str, Role]
    presets_claim: str
    presets: Mapping[str, tuple[str, ...]]
    session_seconds: int
    digest: str

    def __repr__(self) -> str:
        return f"OidcRules({self.issuer})"


@dataclass(frozen=True, slots=True)
class AdminRules:
    """Rules of the admin listener. `tokens` are by name.

    `names` are additional host names of the listener, in lower case. `certificate` is that of the listener, or None for
    plain HTTP. `behind_tls` is True if a proxy in front terminates TLS. `oidc` is None without company log-in.
    `has_operators` is True if the config names operators, even if Sidekey cannot read their tokens now.
    """

    tokens: Mapping[str, AdminToken] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    certificate: ServerCertificate | None = None
    behind_tls: bool = False
    oidc: OidcRules | None = None
    has_operators: bool = False

    @property
    def is_over_tls(self) -> bool:
        """Return True if browsers reach the listener over TLS."""
        return self.behind_tls or self.certificate is not None
