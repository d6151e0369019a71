"""A client certificate with its key, ready for TLS, and the protocol of its source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem


@dataclass(frozen=True, slots=True, repr=False)
class ClientIdentity(SecretHolder):
    """A client certificate and its private key.

    `chain` is PEM, leaf first; `key` is PEM without a passphrase. `fingerprint` is the SHA-256 of both, in hex.
    `not_before` and `not_after` are the leaf's, in seconds since the epoch. `subject` and `issuer` are for display.
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


def expired_problem(identity: ClientIdentity) -> Problem:
    """Build the problem for an expired certificate, which Sidekey never uses."""
    end = datetime.fromtimestamp(identity.not_after, UTC)
    return Problem(
        "credential_unavailable",
        f"the client certificate expired on {end:%Y-%m-%d}",
        error="proxy_configuration_error",
    )


class IdentitySource(Protocol):
    """Holds the client certificate of one integration.

    `identity` is a plain attribute, because every request reads it. It is None while the certificate is unreadable,
    invalid, expired, or not fetched yet.
    """

    identity: ClientIdentity | None

    async def obtain(self) -> ClientIdentity:
        """Load the certificate if `identity` is None. Raises ProblemError (credential_unavailable) with the reason."""
        ...
