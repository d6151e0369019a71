"""A proxy listener with TLS whose callers have certificates, and clients for it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from support.certificates import CLIENT_AUTH, SERVER_AUTH, IssuedCertificate, issue

SPIFFE_ID = "spiffe://example.org/ns/prod/sa/billing"


def uri(text: str) -> x509.GeneralName:
    """Return a URI as a subject alternative name."""
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    """Return a host name as a subject alternative name."""
    return x509.DNSName(text)


@dataclass(frozen=True, slots=True)
class CallerCa:
    """A CA for a listener and its callers, which starts a day ago, with its files in `folder`."""

    folder: Path
    issued: IssuedCertificate

    @classmethod
    def create(cls, folder: Path, name: str = "callers") -> CallerCa:
        """Create the CA, and write its certificate to `NAME.crt`."""
        issued = issue(name, authority=True, start=_yesterday())
        (folder / f"{name}.crt").write_bytes(issued.pem)
        return cls(folder, issued)

    def server(self, name: str = "server") -> IssuedCertificate:
        """Issue the certificate of a listener on 127.0.0.1, and write it to `NAME.crt` and `NAME.key`."""
        names = [dns("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return self._write(name, issue(name, self.issued, start=_yesterday(), usages=(SERVER_AUTH,), names=names))

    def client(
        self,
        name: str,
        *names: x509.GeneralName,
        life: timedelta = timedelta(days=30),
        authority: bool = False,
        usages: Sequence[x509.ObjectIdentifier] = (CLIENT_AUTH,),
    ) -> IssuedCertificate:
        """Issue a caller's certificate with these names, and write it to `NAME.crt` and `NAME.key`."""
        start = _yesterday()
        return self._write(
            name, issue(name, self.issued, start=start, life=life, names=names, authority=authority, usages=usages)
        )

    def context(self, client: str = "") -> ssl.SSLContext:
        """Build the context of a client that trusts this CA, with the certificate of this name if there is one."""
        context = ssl.create_default_context(cadata=self.issued.pem.decode())
        # `issue` writes no authority key identifier, which Python 3.13 requires by default.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if client:
            context.load_cert_chain(self.folder / f"{client}.crt", self.folder / f"{client}.key")
        return context

    def _write(self, name: str, issued: IssuedCertificate) -> IssuedCertificate:
        (self.folder / f"{name}.crt").write_bytes(issued.pem)
        (self.folder / f"{name}.key").write_bytes(issued.key_pem)
        return issued


def _yesterday() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
