"""Whose token an integration asks for, of whom and what for: decides what of it outlives a change of the config."""

from __future__ import annotations

from typing import NamedTuple

from sidekey.credentials.base import FixedCredential, Lineage
from sidekey.runtime.snapshot import Integration


class Origin(NamedTuple):
    """`kind` is what the kind says. The others are about its calls, which are the same for every kind.

    `trust` is the source of the CAs that vouch for the endpoint, and the digest of their content; `certificate` the
    fingerprint of the client certificate, empty where there is none (RFC 8705: a token may be bound to it).
    `destinations` are the integration's: a token is bound to the first of them.
    """

    kind: Lineage
    trust: tuple[str, str]
    certificate: str
    destinations: tuple[str, ...] = ("",)

    def is_client_of(self, other: Origin) -> bool:
        """Whether it is the same client, of the same endpoint, for where the other's tokens may go.

        The client alone is not enough: an editor of stored integrations names any, without a secret of it.
        """
        own, others = (self.kind.client, *self[1:3]), (other.kind.client, *other[1:3])
        return own == others and other.destinations[0] in self.destinations

    def has_token_of(self, other: Origin) -> bool:
        """Whether, beside that, the same token is asked for."""
        return self.is_client_of(other) and self.kind.token == other.kind.token

    def proves_like(self, other: Origin) -> bool:
        """Whether the client proves itself by the same secret, in the same way."""
        return self.kind.proof == other.kind.proof


def origin_of(integration: Integration) -> Origin | None:
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
    return Origin(credential.lineage, (trust.source, trust.digest), fingerprint, integration.destinations)
