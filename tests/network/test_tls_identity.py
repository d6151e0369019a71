"""Client certificates in TLS contexts."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import ProblemError
from sidekey.network.tls import client_context
from sidekey.network.tls_identity import present
from support.private_ca import Authority
from support.tls_peer import handshake


def identity(leaf: trustme.LeafCert, key: bytes | None = None) -> ClientIdentity:
    """Build the identity of a certificate and a key."""
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return ClientIdentity(chain, key or leaf.private_key_pem.bytes(), "00", 0.0, 0.0, "client", "test CA")


def subject_seen(ca: Authority, context: ssl.SSLContext) -> str:
    """Return the subject of the certificate that a server receives."""
    server = ca.server_context("up.test")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ca.bundle)
    _, theirs = handshake(context, server)
    seen: dict[str, Any] = theirs.getpeercert() or {}
    return str({key: value for part in seen["subject"] for key, value in part}["commonName"])


@pytest.fixture
def context(ca: Authority) -> ssl.SSLContext:
    """Build a client's context without a certificate."""
    return client_context(ca.trust)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", list(trustme.KeyType))
def test_certificate_is_presented(ca: Authority, context: ssl.SSLContext, kind: trustme.KeyType) -> None:
    """With RSA and ECDSA keys."""
    present(context, identity(ca.ca.issue_cert("c@clients.test", common_name="alice", key_type=kind)))
    assert subject_seen(ca, context) == "alice"
    assert context.post_handshake_auth


def test_key_is_never_on_a_disk(ca: Authority, context: ssl.SSLContext, disk: Path) -> None:
    """It is loaded from memory, and no descriptor stays open."""
    before = disk.stat().st_mtime_ns
    present(context, identity(ca.ca.issue_cert("c@clients.test", common_name="alice")))
    assert disk.stat().st_mtime_ns == before
    links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not any("memfd" in link for link in links)
    assert subject_seen(ca, context) == "alice"


class LoadRecorder(ssl.SSLContext):
    """Records the files that it loads, and their modes."""

    def load_cert_chain(self, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        self.loaded = certfile
        self.mode = stat.S_IMODE(Path(certfile).stat().st_mode)
        super().load_cert_chain(certfile, keyfile, password)


def test_private_temporary_file_replaces_memfd(ca: Authority, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode 0600, and removed once it is loaded."""
    monkeypatch.delattr("os.memfd_create")
    context = LoadRecorder(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.bundle)
    present(context, identity(ca.ca.issue_cert("c@clients.test", common_name="alice")))
    assert Path(context.loaded).parent == disk
    assert context.mode == 0o600
    assert list(disk.iterdir()) == []
    assert subject_seen(ca, context) == "alice"


@pytest.mark.parametrize("memory", [True, False], ids=["memfd", "file"])
@pytest.mark.parametrize("flaw", ["another key", "no key", "encrypted key"])
def test_unusable_pair_is_a_problem_without_its_content(
    ca: Authority, context: ssl.SSLContext, disk: Path, monkeypatch: pytest.MonkeyPatch, flaw: str, memory: bool
) -> None:
    """OpenSSL does not prompt on a terminal."""
    if not memory:
        monkeypatch.delattr("os.memfd_create")
    key = {
        "another key": ca.ca.issue_cert("d@clients.test").private_key_pem.bytes(),
        "no key": b"no key",
        "encrypted key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBS\n-----END ENCRYPTED "
        b"PRIVATE KEY-----\n",
    }[flaw]
    with pytest.raises(ProblemError) as failed:
        present(context, identity(ca.ca.issue_cert("c@clients.test"), key))
    problem = failed.value.problem
    assert (problem.code, problem.error) == ("credential_unavailable", "proxy_configuration_error")
    assert problem.detail == "the client certificate and its private key cannot be used for TLS"
    assert failed.value.__suppress_context__
    assert list(disk.iterdir()) == []
