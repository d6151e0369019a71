"""The trust folder: its files are complete, public and without keys."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import certifi
import pytest

from sidekey.ca import trust_folder
from sidekey.ca.trust_folder import TrustFolderError, certificates_in, write
from support import programs
from support.certificates import issue
from support.local_cas import authority_of

LOCAL = authority_of("https://a.test")
ROOTS = certifi.contents().count("BEGIN CERTIFICATE")


def test_files_are_public_and_without_keys_despite_the_umask(tmp_path: Path) -> None:
    extra = issue("Corporate root", authority=True)
    previous_umask = os.umask(0o077)
    try:
        assert write(tmp_path / "public" / "trust", LOCAL.trusted, extra.pem.decode())
    finally:
        os.umask(previous_umask)
    folder = tmp_path / "public" / "trust"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder)] == [0o755, 0o755]
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == set(trust_folder.FILES)
    for path in files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert b"PRIVATE KEY" not in path.read_bytes()
    bundle = files["bundle.pem"].read_text()
    assert files["ca.pem"].read_text() == LOCAL.trusted
    assert bundle.startswith(LOCAL.trusted + extra.pem.decode())
    assert bundle.count("BEGIN CERTIFICATE") == ROOTS + 2
    assert files["wgetrc"].read_text() == f"ca_certificate={folder}/bundle.pem\n"


def test_current_files_are_not_written(tmp_path: Path) -> None:
    assert write(tmp_path, LOCAL.trusted, "")
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert not write(tmp_path, LOCAL.trusted, "")
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    (tmp_path / "truststore.p12").unlink()
    assert write(tmp_path, LOCAL.trusted, "")


def test_changed_bundle_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, LOCAL.trusted, "")
    original = (tmp_path / "bundle.pem").read_bytes()
    (tmp_path / "bundle.pem").write_bytes(b"#" + original[1:])
    assert write(tmp_path, LOCAL.trusted, "")
    assert (tmp_path / "bundle.pem").read_bytes() == original


def test_new_ca_is_in_every_file(tmp_path: Path) -> None:
    write(tmp_path, LOCAL.trusted, "")
    p12 = (tmp_path / "truststore.p12").read_bytes()
    both = LOCAL.trusted + authority_of("https://b.test").trusted
    assert write(tmp_path, both, "")
    assert (tmp_path / "ca.pem").read_text() == both
    assert (tmp_path / "bundle.pem").read_text().startswith(both)
    assert (tmp_path / "truststore.p12").read_bytes() != p12


def test_folder_that_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    expected = re.escape(f"{tmp_path}/file cannot be written: Not a directory; set ca.trust_folder")
    with pytest.raises(TrustFolderError, match=expected):
        write(tmp_path / "file", LOCAL.trusted, "")


def test_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(TrustFolderError):
        write(tmp_path, LOCAL.trusted, "")
    assert list(tmp_path.iterdir()) == []


def test_certificates_in_drops_text_keys_and_duplicates() -> None:
    issued = issue("root", authority=True)
    text = f"words\n{issued.pem.decode()}{issued.key_pem.decode()}# \xfc\n{issued.pem.decode()}"
    assert certificates_in(text) == issued.pem.decode()


def test_java_reads_the_trust_store(tmp_path: Path) -> None:
    keytool = programs.require("keytool")
    write(tmp_path, LOCAL.trusted, "")
    command = [keytool, "-J-Duser.language=en", "-list", "-keystore", str(tmp_path / "truststore.p12")]
    listed = subprocess.run([*command, "-storepass", ""], capture_output=True, text=True, check=True).stdout
    assert listed.count("trustedCertEntry") == ROOTS + 1
    assert ":".join(re.findall("..", LOCAL.fingerprint.upper())) in listed


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients may run in another folder."""
    monkeypatch.chdir(tmp_path)
    assert trust_folder.paths(Path("trust"))["ca.pem"] == tmp_path / "trust" / "ca.pem"
