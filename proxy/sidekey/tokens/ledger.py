"""The ledger of shared tokens: the state that processes share, and the lease to request the next token.

`StoreLedger` keeps it in the store, so that it outlives the processes.

```text
           acquire               intend                           finish
   free ─────────────► leased ────────────► a call may use up ─────────────► free, with the new state
     ▲                   │                  the refresh token
     ├──── release ──────┘                       │     │
     └──── release: it was not used ─────────────┘     └─► abandon, or the process ends: the chain is spent
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from sidekey.credentials.base import FixedCredential, Grant, Lineage
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.snapshot.snapshot import Integration


class Unavailable(Exception):
    """The ledger cannot be read or written now, so no refresh token may be presented.

    The text is the reason, and continues "no token is asked for: ".
    """


class TokenLeaseLost(Exception):
    """The lease ran out, and another process holds it now."""


class Chain(NamedTuple):
    """A chain of rotated tokens of one integration, from one configured refresh token.

    `lineage` identifies the client and its configured refresh token, and may contain secrets. `destinations` are those
    of the integration: a state is stored for the first one, and read only if it was stored for one of them. If the
    newest refresh token was stored for another destination, the chain counts as spent.
    """

    name: str
    lineage: str
    destinations: tuple[str, ...] = ("",)

    def __repr__(self) -> str:
        return f"Chain({self.name})"


@dataclass(frozen=True, slots=True, repr=False)
class SharedToken(SecretHolder):
    """A token that one process obtained for all processes.

    `token_id` is a random ID. `request` describes the request for the token (`describe_request`), and may hold secrets.
    `secret_digest` is that of the secret that obtained it. The token lives `lifetime` seconds from `called_at`, when
    the call was sent, on the ledger's clock.
    """

    token_id: str
    request: str
    secret_digest: str
    grant: Grant
    called_at: float
    lifetime: float

    def __repr__(self) -> str:
        return f"SharedToken({self.token_id})"


@dataclass(frozen=True, slots=True, repr=False)
class ChainState(SecretHolder):
    """The state that the last lease left: the input of the next call (`Issued.memory`), and the last token."""

    memory: str | None = None
    token: SharedToken | None = None

    def __repr__(self) -> str:
        return f"ChainState({self.token!r})"


class TokenLease(ABC):
    """A lease to request the next token of a chain. Its methods raise Unavailable or TokenLeaseLost.

    `state` is the state that the previous lease left. `now` is when the lease was acquired, in seconds on the ledger's
    clock, which all processes share.
    """

    state: ChainState
    now: float

    @abstractmethod
    async def intend(self) -> None:
        """Record that the next call may use up the refresh token. Do not call if this raises."""

    @abstractmethod
    async def finish(self, state: ChainState) -> None:
        """Store the new state and release the lease: the previous refresh token is spent.

        After Unavailable, the ledger retries in the background, and this process gets no lease until that succeeds.
        """

    @abstractmethod
    async def release(self) -> None:
        """Release the lease and keep the previous refresh token, which was not used. Retry in the background."""

    @abstractmethod
    async def abandon(self) -> None:
        """End the lease and the chain, because the refresh token may be spent. Raises nothing."""


class LeaseUnavailable(NamedTuple):
    """Another process holds the lease or, if `spent`, no process may acquire it: the refresh token may be used up.

    `state` and `now` are as in `TokenLease`.
    """

    spent: bool
    state: ChainState
    now: float


class Ledger(ABC):
    """Grants leases. A process has one."""

    @abstractmethod
    async def acquire(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Acquire the lease if it is free. `rotates`: its calls may use up a refresh token. Raises Unavailable."""


class NoLedger(Ledger):
    """Ledger of a process that must not request shared tokens. `reason` names the cause and the remedy."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def acquire(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Raise Unavailable."""
        del chain, rotates
        raise Unavailable(self._reason)


class TokenOrigin(NamedTuple):
    """The identity of a token: a config change keeps the token if its origin stays the same.

    `lineage` is the credential's. `trust` is the source of the endpoint's CAs, and the digest of their content.
    `certificate` is the fingerprint of the client certificate, or empty (RFC 8705: a token may be bound to it).
    `destinations` are the integration's: a token is bound to the first of them.
    """

    lineage: Lineage
    trust: tuple[str, str]
    certificate: str
    destinations: tuple[str, ...] = ("",)

    def same_client(self, other: TokenOrigin) -> bool:
        """Return True if both are the same client of the same endpoint, and this one keeps the other's destination.

        The client alone is not enough: an editor of stored integrations can name any client without its secret.
        """
        client = (self.lineage.client, self.trust, self.certificate)
        other_client = (other.lineage.client, other.trust, other.certificate)
        return client == other_client and other.destinations[0] in self.destinations

    def same_token(self, other: TokenOrigin) -> bool:
        """Return True if the same client requests the same token."""
        return self.same_client(other) and self.lineage.token == other.lineage.token

    def same_secret(self, other: TokenOrigin) -> bool:
        """Return True if the client authenticates with the same secret in the same way."""
        return self.lineage.proof == other.lineage.proof


def origin_of(integration: Integration) -> TokenOrigin | None:
    """Return the origin of an integration's token, or None while a secret, its CAs or its certificate is unreadable."""
    credential, trust, certificate = integration.secrets.credential, integration.egress.trust, integration.certificate
    if credential is None or isinstance(credential, FixedCredential) or not trust.usable:
        return None
    fingerprint = ""
    if certificate is not None:
        identity = certificate.identity
        if identity is None:
            return None
        fingerprint = identity.fingerprint
    return TokenOrigin(credential.lineage, (trust.source, trust.digest), fingerprint, integration.destinations)
