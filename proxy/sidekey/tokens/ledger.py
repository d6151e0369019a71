"""What processes that use the same token know together, and whose turn it is to call for the next one.

A token source needs no more than this of whatever keeps it. What is kept outlives the processes.

```text
             take                intend                    leave
   nobody's ──────► a Turn ─────────────► a call may spend ───────► the next may be taken, with what was left
                      │ release           │      │ release: it was not spent
                      ▼                   │      ▼
                   nobody's               │   nobody's
                                          └─► give_up, or the process ends: spent, nobody has a turn any more
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
    """What is kept cannot be read or written now. What may be spent must not be presented.

    The text says why: it continues "no token is asked for: ".
    """


class TokenLeaseLost(Exception):
    """The turn took too long, and another process has it now."""


class Chain(NamedTuple):
    """The tokens that come of one another: of the integration that `name` stands for, beginning at a `lineage`.

    The lineage is text that may hold secrets; what begins with another refresh token is another chain. `to` is where
    the tokens may go, beside the endpoint: what is left is for the first of these, and what was left for none of them
    is not handed out; where it took the place of the first refresh token, that one is spent.
    """

    name: str
    lineage: str
    to: tuple[str, ...] = ("",)

    def __repr__(self) -> str:
        return f"Chain({self.name})"


@dataclass(frozen=True, slots=True, repr=False)
class SharedToken(SecretHolder):
    """A token that one process has obtained for all.

    `number` is one that no other token has. `asked` says what it is for, and may hold secrets. `proof` is a digest of
    the secret that obtained it. `called` is when the call for it was sent, by the ledger's clock, and `life` how many
    seconds it lives from then on.
    """

    number: str
    asked: str
    proof: str
    grant: Grant
    called: float
    life: float

    def __repr__(self) -> str:
        return f"SharedToken({self.number})"


@dataclass(frozen=True, slots=True, repr=False)
class TurnState(SecretHolder):
    """What the last turn has left: what the next call may use (`Issued.memory`), and the last token."""

    memory: str | None = None
    token: SharedToken | None = None

    def __repr__(self) -> str:
        return f"Left({self.token!r})"


class TokenLease(ABC):
    """The right to call for the next token of a chain, for a while. What it may do next raises Unavailable, TurnLost.

    `left` is what the turn before has left, `now` what the ledger's clock showed as the turn was taken: in seconds,
    and one for all processes, whose own may differ.
    """

    left: TurnState
    now: float

    @abstractmethod
    async def intend(self) -> None:
        """Note that a call is made now that may spend what it presents. No call may be made where this raises."""

    @abstractmethod
    async def leave(self, left: TurnState) -> None:
        """Keep what the call has brought, and end the turn: what was left before is spent.

        Where it is Unavailable, it is kept as soon as that is possible, and until then nobody has a turn.
        """

    @abstractmethod
    async def release(self) -> None:
        """End the turn with what was left before, which was not spent. Raises nothing: it is done once it can be."""

    @abstractmethod
    async def give_up(self) -> None:
        """End the turn, and the chain: nobody knows whether what was left is spent. Raises nothing."""


class LeaseUnavailable(NamedTuple):
    """It is another process's turn; or nobody's any more, since what was left may be `spent`. `now` as in a turn."""

    spent: bool
    left: TurnState
    now: float


class Ledger(ABC):
    """Where turns are taken. A process has one."""

    @abstractmethod
    async def take(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Take the turn, where it is nobody's. `rotates`: its calls are going to be intended. Raises Unavailable."""


class NoLedger(Ledger):
    """The ledger of a process that must not ask for what others share. `reason` says why, and what to do."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def take(self, chain: Chain, *, rotates: bool) -> TokenLease | LeaseUnavailable:
        """Nobody has a turn here."""
        del chain, rotates
        raise Unavailable(self._reason)


class TokenOrigin(NamedTuple):
    """`kind` is what the kind says. The others are about its calls, which are the same for every kind.

    `trust` is the source of the CAs that vouch for the endpoint, and the digest of their content; `certificate` the
    fingerprint of the client certificate, empty where there is none (RFC 8705: a token may be bound to it).
    `destinations` are the integration's: a token is bound to the first of them.
    """

    kind: Lineage
    trust: tuple[str, str]
    certificate: str
    destinations: tuple[str, ...] = ("",)

    def is_client_of(self, other: TokenOrigin) -> bool:
        """Whether it is the same client, of the same endpoint, for where the other's tokens may go.

        The client alone is not enough: an editor of stored integrations names any, without a secret of it.
        """
        own, others = (self.kind.client, *self[1:3]), (other.kind.client, *other[1:3])
        return own == others and other.destinations[0] in self.destinations

    def has_token_of(self, other: TokenOrigin) -> bool:
        """Whether, beside that, the same token is asked for."""
        return self.is_client_of(other) and self.kind.token == other.kind.token

    def proves_like(self, other: TokenOrigin) -> bool:
        """Whether the client proves itself by the same secret, in the same way."""
        return self.kind.proof == other.kind.proof


def origin_of(integration: Integration) -> TokenOrigin | None:
    """That of an integration's token; None while a secret, its CAs or its certificate cannot be read."""
    credential, trust, certificate = integration.secrets.credential, integration.trust, integration.certificate
    if credential is None or isinstance(credential, FixedCredential) or not trust.usable:
        return None
    fingerprint = ""
    if certificate is not None:
        identity = certificate.identity
        if identity is None:
            return None
        fingerprint = identity.fingerprint
    return TokenOrigin(credential.lineage, (trust.source, trust.digest), fingerprint, integration.destinations)
