"""An integration whose client certificate lies in files, as the config's loader makes it, on a clock moved by hand."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sidekey.config.load import Loaded, load
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.certificates.validate import CertificateInput, examine
from sidekey.snapshot.certificate_loader import CertificateLoader
from sidekey.snapshot.snapshot import Integration
from support.certificates import NOW, Issued, issue
from support.manual_clock import StillLoop
from support.raw_connection import RawConnection

FILES = "certificate: {file: tls.crt}, private_key: {file: tls.key}"


def wall() -> float:
    """The clock that certificates are judged by: `NOW` when the loop's stands at 0."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, StillLoop):
        raise TypeError("this test needs the loop of tests/tokens/conftest.py")
    return NOW.timestamp() + loop.time()


def lasting(days: float, subject: str = "client.example") -> Issued:
    """A self-signed certificate that ends this many days after `NOW`."""
    return issue(subject, life=timedelta(days=days + 1))


def starting(days: float) -> Issued:
    """One that begins this many days after `NOW`."""
    return issue(start=NOW + timedelta(days=days))


def current(subject: str = "client.example") -> Issued:
    """One that is valid now, for servers that look at it."""
    return issue(subject, start=datetime.now(UTC) - timedelta(days=1))


def asking(context: ssl.SSLContext, *trusted: Issued) -> ssl.SSLContext:
    """Let a server insist on one of these client certificates."""
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata="".join(each.pem.decode() for each in trusted))
    return context


def shown(connection: RawConnection) -> bytes | None:
    """The client certificate that a server saw, in DER."""
    tls: ssl.SSLObject = connection.transport.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True)


def identity_of(issued: Issued) -> ClientIdentity:
    """The certificate and its key as a connection takes them."""
    found = examine(CertificateInput(issued.pem, issued.key_pem), datetime.now(UTC).timestamp(), allow_private_ca=True)
    assert found.identity is not None, found.errors
    return found.identity


def mount(folder: Path, issued: Issued) -> Issued:
    """Put certificate and key where `FILES` says."""
    (folder / "tls.crt").write_bytes(issued.pem)
    (folder / "tls.key").write_bytes(issued.key_pem)
    return issued


def configured(folder: Path, keys: str = FILES, *, now: float | None = None, more: str = "") -> Loaded:
    """A config with integration `bank` of kind mtls, loaded at `now` (left out: `NOW`). Fails where it has errors."""
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
    """The integration of `configured`."""
    assert loaded.snapshot is not None
    return loaded.snapshot.integrations["bank"]


def loader_of(loaded: Loaded) -> CertificateLoader:
    """Its loader."""
    loader = bank(loaded).certificate
    assert loader is not None
    return loader


def is_of(identity: ClientIdentity | None, issued: Issued) -> bool:
    """Whether this identity was made of that certificate and key."""
    return identity is not None and identity.chain == issued.pem


def events(lines: list[Any], level: str) -> list[str]:
    """The events of a level, as `structlog.testing.capture_logs` gives them."""
    return [line["event"] for line in lines if line["log_level"] == level]


def day(issued: Issued) -> str:
    """The day of its end."""
    return f"{issued.certificate.not_valid_after_utc.astimezone(UTC):%Y-%m-%d}"
