"""A temporary CA with certificates in PEM files, for real servers and for Sidekey."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from sidekey.snapshot.snapshot import Trust


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate with its chain, and its key, as PEM files."""

    certificate: Path
    key: Path


def file_trust(bundle: Path) -> Trust:
    """Load the CAs of a file, as loading a config does."""
    pem = bundle.read_text()
    return Trust("file", str(bundle), hashlib.sha256(pem.encode()).hexdigest(), pem)


class Authority:
    """One CA for a test session. `bundle` is what a client trusts, for `trusted_ca: {file: ...}`; `trust` that read."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.bundle = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.bundle)
        self.trust = file_trust(self.bundle)
        self._folder = folder
        self._leaves: dict[tuple[str, ...], Leaf] = {}

    def leaf(self, *names: str) -> Leaf:
        """Issue a certificate for host names and addresses. The same names get the same one."""
        if names not in self._leaves:
            issued = self.ca.issue_cert(*names)
            stem = self._folder / f"leaf{len(self._leaves)}"
            leaf = Leaf(stem.with_suffix(".crt"), stem.with_suffix(".key"))
            leaf.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            issued.private_key_pem.write_to_path(leaf.key)
            self._leaves[names] = leaf
        return self._leaves[names]

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Build the context of a server with these `names`, with ALPN http/1.1."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        leaf = self.leaf(*names)
        context.load_cert_chain(leaf.certificate, leaf.key)
        context.set_alpn_protocols(["http/1.1"])
        # Debian's Python 3.11.2 sets it: a server of a test would take a cut for close_notify.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Build the context of a client that trusts only this CA."""
        return ssl.create_default_context(cafile=str(self.bundle))
