"""A client certificate with its key, ready for TLS, and where the data plane gets it from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem


@dataclass(frozen=True, slots=True, repr=False)
class ClientIdentity(SecretHolder):
    """What authenticates a client in a TLS handshake.

    `chain` is PEM, leaf first; `key` is PEM without a passphrase. `fingerprint` tells identities apart: the SHA-256 of
    both, in hex. `not_before` and `not_after` are the leaf's, in seconds since the epoch. `subject` and `issuer` are
    for people.
    """

    chain: bytes
    key: bytes
    fingerprint: str
    not_before: float
    not_after: float
    subject: str
    issuer: str

    def __repr__(self) -> str:
        return f"ClientIdentity({self.fingerprint[:12]}, REDACTED)"


def expired(identity: ClientIdentity) -> Problem:
    """The response where a certificate has expired: it is never used then."""
    end = datetime.fromtimestamp(identity.not_after, UTC)
    return Problem(
        "credential_unavailable",
        f"the client certificate expired on {end:%Y-%m-%d}",
        error="proxy_configuration_error",
    )


class IdentitySource(Protocol):
    """Where an integration's client certificate is. The warm path is a plain attribute read of `identity`.

    `identity` is None while there is none that may be used: unreadable, invalid, expired, or not fetched yet.
    """

    identity: ClientIdentity | None

    async def obtain(self) -> ClientIdentity:
        """Get it where `identity` is None. Raises ProblemError (credential_unavailable) that says why there is none."""
        ...
