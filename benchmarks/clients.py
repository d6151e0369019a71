"""Client certificates of the benchmarks: a temporary CA, which the upstream trusts, and its certificates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class ClientPair:
    """The files of a client's certificate and its key. `joined` contains both."""

    certificate: Path
    key: Path
    joined: Path


class ClientCa:
    """A temporary CA. `bundle` is its certificate in PEM. It writes below `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ca = trustme.CA()
        self.bundle = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.bundle)

    def issue(self, name: str) -> ClientPair:
        """Issue a certificate with a key of its own (ECDSA, P-256)."""
        issued = self._ca.issue_cert(f"{name}.clients.example")
        stem = self._folder / name
        pair = ClientPair(stem.with_suffix(".crt"), stem.with_suffix(".key"), stem.with_suffix(".pem"))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        for path, content in ((pair.certificate, chain), (pair.key, key), (pair.joined, chain + key)):
            path.touch(0o600)
            path.write_bytes(content)
        return pair
