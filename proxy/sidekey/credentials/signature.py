"""A signature over each request as the whole credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    Findings,
    FixedCredential,
    Grant,
    InjectionPoints,
    KindSettings,
)
from sidekey.credentials.fields import Keys, mapping
from sidekey.credentials.signatures.settings import (
    SignatureFields,
    prefix_findings,
    signature_errors,
    signature_warnings,
)


class SignatureSettings(SignatureFields, KindSettings):
    """A signature over each request, as receivers of webhooks check it, without another credential."""

    title: ClassVar[str] = "Signed requests"
    summary: ClassVar[str] = "A signature over each request"
    aliases: ClassVar[tuple[str, ...]] = (
        "signature",
        "HMAC",
        "webhook",
        "HTTP Message Signatures",
        "RFC 9421",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"hmac", "signed", "webhook"})

    type: Literal["signature"] = Field(description="The kind: a signature over each request.")

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield errors between the keys of the signature."""
        yield from prefix_findings(signature_errors(mapping(integration.get("auth"))), "auth")

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield warnings about the signature."""
        yield from prefix_findings(signature_warnings(mapping(integration.get("auth"))), "auth")

    def traits(self) -> CredentialTraits:
        """Describe a credential that only writes the signer's headers."""
        return CredentialTraits(InjectionPoints(), signing=self.rules())

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build a grant with a signer only."""
        return FixedCredential(Grant(signer=self.signer(values)))
