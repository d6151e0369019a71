"""Client certificates as files, issued by a private CA, for a config and for real servers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from support.certificates import IssuedCertificate, issue
from support.files import replace


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A client's certificate with its chain and its private key, and their paths."""

    certificate: Path
    key: Path
    issued: IssuedCertificate

    @property
    def sha1(self) -> str:
        """The certificate's fingerprint in nginx's format."""
        return self._fingerprint(SHA1())

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint in Caddy's format."""
        return self._fingerprint(SHA256())

    def keys(self, *more: str) -> str:
        """The certificate's config keys, in YAML's flow style without the braces."""
        keys = (f"certificate: {{file: '{self.certificate}'}}", f"private_key: {{file: '{self.key}'}}")
        return ", ".join((*keys, "allow_private_ca: true", *more))

    def _fingerprint(self, algorithm: HashAlgorithm) -> str:
        return self.issued.certificate.fingerprint(algorithm).hex()


class ClientAuthority:
    """A bank's CA for its clients: a root, which servers trust (`bundle`), and an intermediate."""

    def __init__(self, folder: Path, name: str = "Bank") -> None:
        self._folder = folder
        self._start = datetime.now(UTC) - timedelta(hours=1)
        self.root = issue(f"{name} Root CA", authority=True, start=self._start)
        self.intermediate = issue(f"{name} Client CA", self.root, authority=True, start=self._start)
        self.bundle = folder / f"{name}-root.pem"
        self.bundle.write_bytes(self.root.pem)

    def issue(self, name: str, *, chained: bool = False) -> IssuedCertificate:
        """Issue a certificate for a client, by the root or, if `chained`, by the intermediate."""
        return issue(name, self.intermediate if chained else self.root, start=self._start)

    def client(self, name: str) -> ClientFiles:
        """Issue a certificate by the root, and write it to new files."""
        return self.write(name, self.issue(name))

    def write(
        self, name: str, issued: IssuedCertificate, *, chain: bytes | None = None, passphrase: str | None = None
    ) -> ClientFiles:
        """Replace a client's files. The key is written last."""
        files = ClientFiles(self._folder / f"{name}.crt", self._folder / f"{name}.key", issued)
        replace(files.certificate, issued.pem if chain is None else chain, 0o600)
        replace(files.key, issued.key_as(passphrase=passphrase), 0o600)
        return files
