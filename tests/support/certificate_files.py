"""An integration with a client certificate in files, loaded like a config, on a manual clock."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sidekey.config.load import Loaded, load
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.validate import CertificateInput, check_client_certificate
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.snapshot import Integration
from support.certificates import NOW, IssuedCertificate, issue
from support.manual_clock import ManualClockLoop
from support.raw_connection import RawConnection

FILES = "certificate: {file: tls.crt}, private_key: {file: tls.key}"


def wall() -> float:
    """Return the time for certificates: `NOW` when the loop's clock is at 0."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, ManualClockLoop):
        raise TypeError("this test needs the loop of tests/tokens/conftest.py")
    return NOW.timestamp() + loop.time()


def expiring_in(days: float, subject: str = "client.example") -> IssuedCertificate:
    """Create a self-signed certificate that expires this many days after `NOW`."""
    return issue(subject, life=timedelta(days=days + 1))


def valid_from(days: float) -> IssuedCertificate:
    """Create a self-signed certificate that becomes valid this many days after `NOW`."""
    return issue(start=NOW + timedelta(days=days))


def valid_now(subject: str = "client.example") -> IssuedCertificate:
    """Create a certificate that is valid now, for servers that check it."""
    return issue(subject, start=datetime.now(UTC) - timedelta(days=1))


def require_client_certificate(context: ssl.SSLContext, *trusted: IssuedCertificate) -> ssl.SSLContext:
    """Require one of these client certificates in a server's context."""
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(issued.pem.decode() for issued in trusted))
    return context


def client_certificate_of(connection: RawConnection) -> bytes | None:
    """Return the client certificate that a server received, in DER."""
    tls: ssl.SSLObject = connection.transport.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True)


def identity_of(issued: IssuedCertificate) -> ClientIdentity:
    """Build the identity of a certificate and its key for connections."""
    result = check_client_certificate(
        CertificateInput(issued.pem, issued.key_pem), datetime.now(UTC).timestamp(), allow_private_ca=True
    )
    assert result.identity is not None, result.errors
    return result.identity


def mount(folder: Path, issued: IssuedCertificate) -> IssuedCertificate:
    """Write certificate and key to the paths of `FILES`."""
    (folder / "tls.crt").write_bytes(issued.pem)
    (folder / "tls.key").write_bytes(issued.key_pem)
    return issued


def configured(folder: Path, keys: str = FILES, *, now: float | None = None, more: str = "") -> Loaded:
    """Load a config with integration `bank` of kind mtls at `now` (default: `NOW`). It must have no errors."""
    path = folder / "sidekey.yaml"
    path.write_text(f"""\
version: 1
{more}
integrations:
  bank:
    endpoint_prefix: https://up.test/hooks
    auth: {{type: mtls, allow_private_ca: true, {keys}}}
""")
    loaded = load(path, {}, NOW.timestamp() if now is None else now)
    assert loaded.errors == []
    return loaded


def bank(loaded: Loaded) -> Integration:
    """Return the integration of `configured`."""
    assert loaded.snapshot is not None
    return loaded.snapshot.integrations["bank"]


def loader_of(loaded: Loaded) -> CertificateLoader:
    """Return the certificate loader of an integration."""
    loader = bank(loaded).certificate
    assert loader is not None
    return loader


def has_certificate(identity: ClientIdentity | None, issued: IssuedCertificate) -> bool:
    """Return True if this identity has that certificate and key."""
    return identity is not None and identity.chain == issued.pem


def events(lines: list[Any], level: str) -> list[str]:
    """Return the events of a level from `structlog.testing.capture_logs`."""
    return [line["event"] for line in lines if line["log_level"] == level]


def day(issued: IssuedCertificate) -> str:
    """Return the day of expiry."""
    return f"{issued.certificate.not_valid_after_utc.astimezone(UTC):%Y-%m-%d}"
