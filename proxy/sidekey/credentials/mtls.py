"""Mutual TLS alone: the client certificate is the whole credential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from sidekey.credentials.base import (
    Credential,
    CredentialTraits,
    FixedCredential,
    Grant,
    InjectionPoints,
    KindSettings,
    SecretInput,
)
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.fields import Keys


class MtlsSettings(CertificateSettings, KindSettings):
    """A client certificate in the TLS handshake. Sidekey adds nothing to the request."""

    title: ClassVar[str] = "Client certificate (mTLS)"
    summary: ClassVar[str] = "A certificate and its private key"
    aliases: ClassVar[tuple[str, ...]] = (
        "mutual TLS",
        "TLS",
        "SSL",
        "PEM",
        "X.509",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"certificate", "client_certificate", "tls"})

    brings_certificate: ClassVar[bool] = True

    type: Literal["mtls"] = Field(description="The kind: a client certificate (mutual TLS).")

    def certificate_settings(self) -> CertificateSettings:
        """Return itself."""
        return self

    def traits(self) -> CredentialTraits:
        """Return the traits of a credential that adds nothing to a request."""
        return CredentialTraits(InjectionPoints())

    def inputs(self) -> Iterator[SecretInput]:
        """Yield nothing: the certificate loader reads certificate and key."""
        return iter(())

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build a grant that adds nothing."""
        del values
        return FixedCredential(Grant())
