"""Mozilla's certificates as a folder, and the system's certificates."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from sidekey.ca import trust_folder
from sidekey.config.load import load
from sidekey.network import public_roots
from sidekey.network.public_roots import PREFIX, CaFolder, read_system_roots, subject_hash
from sidekey.network.tls import client_context, prepare_trust
from sidekey.snapshot.snapshot import Trust
from support import programs
from support.certificates import issue
from support.local_cas import authority_of
from support.private_ca import Authority
from support.tls_peer import handshake


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the parent of the folders."""
    place = tmp_path / "places"
    place.mkdir()
    monkeypatch.setattr(public_roots, "_PARENTS", (str(place),))
    return place


def existing_folder(folder: CaFolder) -> Path:
    """Return the folder, which must exist."""
    path = folder.path()
    assert path is not None
    return Path(path)


def test_every_certificate_of_the_bundle_verifies_with_the_folder(tmp_path: Path) -> None:
    openssl = programs.require("openssl")
    bundle = Path(public_roots.mozilla_bundle())
    folder = existing_folder(CaFolder(str(bundle)))
    files = []
    for number, pem in enumerate(bundle.read_text().split("-----END CERTIFICATE-----\n")[:-1]):
        file = tmp_path / f"{number}.pem"
        file.write_text(f"{pem}-----END CERTIFICATE-----\n")
        files.append(str(file))
    assert len(files) > 100
    assert len(list(folder.iterdir())) == len(files)

    def verdicts(*where: str) -> str:
        command = [openssl, "verify", "-no-CAstore", *where, *files]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    result = verdicts("-no-CAfile", "-CApath", str(folder))
    assert result == verdicts("-no-CApath", "-CAfile", str(bundle))
    assert result.count(": OK\n") == len(files)


@pytest.mark.parametrize(
    "attributes",
    [
        [[("Plain", _ASN1Type.UTF8String)]],
        [[(" \tTwo   words \n", _ASN1Type.UTF8String)]],
        [[("GRÖSSE é Ω 日本", _ASN1Type.UTF8String)]],
        [[("Grosse Ω", _ASN1Type.BMPString)], [("MIXED case", _ASN1Type.PrintableString)]],
        [[("Universal", _ASN1Type.UniversalString)], [("ia5@EXAMPLE.test", _ASN1Type.IA5String)]],
        [[("12  34", _ASN1Type.NumericString)], [("Teletex  ONE", _ASN1Type.T61String)]],
        [[("b", _ASN1Type.UTF8String), ("a", _ASN1Type.PrintableString)]],
        [[("x" * 60, _ASN1Type.UTF8String)] for _ in range(6)],
        [],
    ],
    ids=["plain", "blanks", "letters", "BMP", "universal", "numeric", "set", "long", "empty"],
)
def test_hash_equals_that_of_openssl(attributes: list[list[tuple[str, _ASN1Type]]], tmp_path: Path) -> None:
    """For names of every text type, with blanks and capitals, and several attributes in one part."""
    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    parts = [
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(kinds[i], text, kind) for i, (text, kind) in enumerate(part)]
        )
        for part in attributes
    ]
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name(parts), datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1)).sign(key, SHA256())
    file = tmp_path / "c.pem"
    file.write_bytes(built.public_bytes(Encoding.PEM))
    command = [programs.require("openssl"), "x509", "-noout", "-subject_hash", "-in", str(file)]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert subject_hash(built.public_bytes(Encoding.DER)) == expected


@pytest.mark.parametrize(
    "der", [b"", b"\x30", b"\x30\x05\x30", b"\x30\x02\x30\x00", b"\x30\x82\xff\xff\x00", b"x" * 40]
)
def test_anything_but_a_certificate_raises_value_error(der: bytes) -> None:
    with pytest.raises(ValueError):
        subject_hash(der)


def test_server_is_verified_by_the_folder_only(ca: Authority) -> None:
    context = client_context(Trust(), str(existing_folder(CaFolder(str(ca.bundle)))))
    handshake(context, ca.server_context("up.test"))
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("up.test").configure_cert(stranger)
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        handshake(context, stranger)
    assert refused.value.verify_code == 20


def test_folder_is_private_and_created_once(places: Path, ca: Authority) -> None:
    """Other users cannot add a certificate."""
    folder = CaFolder(str(ca.bundle))
    path = existing_folder(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert existing_folder(folder) == path
    assert [entry.name for entry in places.iterdir()] == [path.name]


HTTPS, HTTP = "endpoint_prefix: https://a.example", "endpoint_prefix: http://a.example"
BASIC = "auth: {type: basic, username: u, password: {insecure_value: p}}"
OAUTH2 = (
    "allow_other_domains: true, allowed_domains: ['http://a.example'], auth: {type: oauth2, client_id: c, "
    "client_secret: {insecure_value: s}, token_endpoint: 'https://b.example/token'}"
)


@pytest.mark.parametrize(
    ("stanza", "top", "expected"),
    [
        (f"{HTTPS}, {BASIC}", "", True),
        (f"{HTTP}, {BASIC}", "", False),
        (f"{HTTPS}, {BASIC}, trusted_ca: system", "", False),
        (f"{HTTP}, {OAUTH2}", "", True),
        (f"{HTTP}, {BASIC}", "forward: {unmatched: pass}\n", True),
    ],
    ids=["https", "http", "other CAs", "a token endpoint", "unmatched targets"],
)
def test_folder_is_created_before_the_first_connection(
    stanza: str, top: str, expected: bool, places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_roots, "_mozilla", None)
    config = tmp_path / "sidekey.yaml"
    config.write_text(f"version: 1\n{top}integrations:\n  one: {{{stanza}}}\n")
    snapshot = load(config, {}).snapshot
    assert snapshot is not None
    prepare_trust(snapshot)
    assert any(places.iterdir()) is expected


@pytest.mark.parametrize("loss", ["a file", "the folder", "a foreign file"])
def test_changed_folder_is_created_again(loss: str, places: Path, ca: Authority) -> None:
    """Otherwise a cleaner of temporary files would make every server untrusted."""
    folder = CaFolder(str(ca.bundle))
    path = existing_folder(folder)
    if loss == "the folder":
        shutil.rmtree(path)
    elif loss == "a file":
        next(path.iterdir()).unlink()
    else:
        (path / "0123abcd.0").write_bytes(ca.bundle.read_bytes())
    renewed = existing_folder(folder)
    assert len(list(renewed.iterdir())) == 1
    assert [entry.name for entry in places.iterdir()] == [renewed.name]


def test_bundle_is_loaded_if_no_folder_can_be_created(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ca: Authority
) -> None:
    """For example in a container with read-only file systems."""
    monkeypatch.setattr(public_roots, "_PARENTS", (str(tmp_path / "absent"),))
    assert CaFolder(str(ca.bundle)).path() is None


def test_bundle_with_an_unreadable_certificate_is_loaded_without_a_folder(places: Path, tmp_path: Path) -> None:
    """Distributions replace certifi's bundle."""
    odd = tmp_path / "odd.pem"
    odd.write_text("-----BEGIN CERTIFICATE-----\nMAIwAA==\n-----END CERTIFICATE-----\n")
    assert CaFolder(str(odd)).path() is None
    assert list(places.iterdir()) == []


def test_empty_bundle_gives_no_folder(tmp_path: Path) -> None:
    """An empty folder would refuse every server without a reason."""
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    assert CaFolder(str(empty)).path() is None


PROGRAM = """
import os, signal, sys
from sidekey.network import public_roots
public_roots._PARENTS = (sys.argv[1],)
print(public_roots.mozilla_folder(), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(places: Path, end: str) -> tuple[int, Path]:
    """Run a process that creates the folder. Return its status and the folder's path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(places), end]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.returncode, Path(ran.stdout.strip())


def test_process_removes_its_folder(places: Path) -> None:
    status, path = run(places, "ended")
    assert status == 0
    assert path.parent == places
    assert path.name.startswith(PREFIX)
    assert not path.exists()


def test_folder_of_a_killed_process_is_removed_by_the_next(places: Path, ca: Authority) -> None:
    """The folder of a running process stays."""
    living = CaFolder(str(ca.bundle))
    status, path = run(places, "killed")
    assert status == -signal.SIGKILL
    assert path.exists()
    kept = existing_folder(living)
    other = existing_folder(CaFolder(str(ca.bundle)))
    assert sorted(places.iterdir()) == sorted([kept, other])


LOCAL = authority_of("https://a.test").trusted
PUBLIC = issue("Public root", authority=True).pem.decode()
ANOTHER = issue("Another root", authority=True).pem.decode()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file and a folder for the variables of the environment."""
    (tmp_path / "certs").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    return tmp_path


def test_local_ca_in_the_system_store_is_ignored(store: Path) -> None:
    (store / "bundle.pem").write_text(trust_folder.bundle(LOCAL, PUBLIC))
    (store / "certs" / "0a1b2c3d.0").write_text(LOCAL)
    (store / "certs" / "0a1b2c3d.1").write_text(ANOTHER)
    (store / "certs" / "README").write_text(PUBLIC)
    assert read_system_roots() == PUBLIC + ANOTHER


def test_missing_file_and_folder_are_an_empty_store(store: Path) -> None:
    assert read_system_roots() == ""
    (store / "certs").rmdir()
    assert read_system_roots() == ""
