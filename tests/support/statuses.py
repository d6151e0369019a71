"""Integrations with a status other than ok: with an expiring certificate, or without their secret."""

from __future__ import annotations

from dataclasses import replace

from sidekey.credentials.base import Credential
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import SecretUnreadable
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration


def with_certificate(integration: Integration, ends: float, *, read_at: float = 0.0) -> Integration:
    """Copy the integration with a client certificate that expires then, read while it was valid or later."""
    expired = (("auth", "certificate"), "this certificate expired")
    identity = ClientIdentity(b"chain", b"key", "1" * 64, 0.0, ends, "CN=client", "CN=ca")
    reading = (
        CertificateResult(identity, expires_at=ends)
        if read_at < ends
        else CertificateResult(None, (expired,), expires_at=ends)
    )
    loader = CertificateLoader(lambda *_: reading)
    loader.load(read_at)
    return replace(integration, certificate=loader)


def without_certificate(integration: Integration, reason: str, *, refused: bool = False) -> Integration:
    """Copy the integration with a client certificate that cannot be read, or is `refused`."""
    loader = CertificateLoader(
        lambda *_: CertificateResult(None, ((("auth", "certificate"), reason),), refused=refused)
    )
    loader.load(0.0)
    return replace(integration, certificate=loader)


def with_unreadable_secrets(integration: Integration, reason: str) -> Integration:
    """Copy the integration with secrets that cannot be read. `reason` is `LOCATION: TEXT`."""
    place, _, text = reason.partition(": ")

    def read() -> Credential:
        raise SecretUnreadable(((tuple(place.split(".")), text),))

    secrets = SecretLoader(read)
    secrets.load()
    return replace(integration, secrets=secrets)
