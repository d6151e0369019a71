"""The system's store without local CAs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidekey.authority import trust
from sidekey.network.system_roots import system
from support.authorities import authority_of
from support.certificates import issue

LOCAL = authority_of("https://a.test").trusted
PUBLIC = issue("Public root", authority=True).pem.decode()
ANOTHER = issue("Another root", authority=True).pem.decode()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file and a folder, as the environment may name them."""
    (tmp_path / "certs").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    return tmp_path


def test_the_bundle_of_a_trust_folder_counts_without_the_local_ca(store: Path) -> None:
    (store / "bundle.pem").write_text(trust.bundle(LOCAL, PUBLIC))
    (store / "certs" / "0a1b2c3d.0").write_text(LOCAL)
    (store / "certs" / "0a1b2c3d.1").write_text(ANOTHER)
    (store / "certs" / "README").write_text(PUBLIC)
    assert system() == PUBLIC + ANOTHER


def test_a_store_without_anything_is_empty(store: Path) -> None:
    """A folder in the place of the file, an absent folder: as OpenSSL passes over them."""
    assert system() == ""
    (store / "certs").rmdir()
    assert system() == ""
