"""What a service trusted before, beside Sidekey's: files of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidekey.ca.maintain import ensure_authorities
from sidekey.cli.trust_variables import KeptTrustError, trust_variables
from support.local_cas import NOW, rules_in


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """Sidekey's trust folder."""
    ensure_authorities(rules_in(tmp_path / "ours", "https://a.test"), NOW)
    return tmp_path / "ours" / "trust"


@pytest.fixture
def corp(tmp_path: Path) -> Path:
    """A file with another CA, and words around it."""
    certificate = (
        ensure_authorities(rules_in(tmp_path / "theirs", "https://b.test"), NOW).authorities.every[0].certificate
    )
    file = tmp_path / "corp.pem"
    file.write_bytes(b"Soci\xe9t\xe9\n" + certificate.encode())
    return file


def bodies(path: str | Path) -> set[str]:
    """The certificates of a file."""
    return {
        part.partition("-----END")[0] for part in Path(path).read_text("latin-1").split("BEGIN CERTIFICATE-----")[1:]
    }


def test_theirs_and_ours_are_joined(trust: Path, corp: Path, tmp_path: Path) -> None:
    """In a file that others may read and nobody else write; its name follows from its content."""
    environ = {"SSL_CERT_FILE": str(corp), "NODE_EXTRA_CA_CERTS": str(corp), "HOME": str(tmp_path)}
    found = trust_variables(trust, environ)
    assert bodies(found["SSL_CERT_FILE"]) == bodies(corp) | bodies(trust / "bundle.pem")
    assert bodies(found["NODE_EXTRA_CA_CERTS"]) == bodies(corp) | bodies(trust / "ca.pem")
    file = Path(found["SSL_CERT_FILE"])
    assert file.parent == tmp_path / ".cache" / "sidekey" / "trust"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o022) == (0o644, 0)
    assert trust_variables(trust, environ) == found
    assert trust_variables(trust, {**environ, **found}) == found


def test_a_folder_keeps_all_its_certificates(trust: Path, corp: Path, tmp_path: Path) -> None:
    """requests takes a folder as well."""
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "README").write_text("no certificate")
    corp.rename(folder / "9d66eef0.0")
    found = trust_variables(trust, {"REQUESTS_CA_BUNDLE": str(folder), "XDG_CACHE_HOME": str(tmp_path / "c")})
    assert bodies(found["REQUESTS_CA_BUNDLE"]) == bodies(folder / "9d66eef0.0") | bodies(trust / "bundle.pem")


@pytest.mark.parametrize("name", ["", "nothing/there", "ours/trust/bundle.pem", "ours/trust/ca.pem"])
def test_where_theirs_add_nothing_ours_is_enough(name: str, trust: Path, tmp_path: Path) -> None:
    """No cache is needed then, and nothing is written."""
    environ = {"SSL_CERT_FILE": str(tmp_path / name) if name else ""}
    assert trust_variables(trust, environ)["SSL_CERT_FILE"] == str(trust / "bundle.pem")


@pytest.mark.parametrize("by", ["WGETRC", "HOME"])
def test_wget_keeps_its_settings(by: str, trust: Path, corp: Path, tmp_path: Path) -> None:
    """Of $WGETRC, or of ~/.wgetrc, which wget reads only where WGETRC is not set; they may hold passwords."""
    theirs = tmp_path / ".wgetrc"
    theirs.write_bytes(b"http_password = caf\xe9\nCA-Certificate = ~/corp.pem\ntries=3")
    environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "c")}
    if by == "WGETRC":
        theirs = theirs.rename(tmp_path / "own")
        environ["WGETRC"] = str(theirs)
    found = trust_variables(trust, environ)
    file = Path(found["WGETRC"])
    *settings, last = file.read_bytes().splitlines()
    assert settings == [b"http_password = caf\xe9", b"tries=3"]
    command, _, bundle = last.decode().partition("=")
    assert command == "ca_certificate"
    assert bodies(bundle) == bodies(corp) | bodies(trust / "bundle.pem")
    assert file.stat().st_mode & 0o777 == 0o600
    assert trust_variables(trust, {**environ, **found}) == found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no certificate", r"SSL_CERT_FILE: \S+/corp.pem: this is .*not PEM"),
        (
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
            r"SSL_CERT_FILE: \S+/corp.pem must contain a certificate",
        ),
        (b"-----BEGIN CERTIFICATE-----\nAAAA", r"SSL_CERT_FILE: \S+/corp.pem: this PEM is cut off"),
    ],
)
def test_what_cannot_be_kept_is_an_error(content: bytes, reason: str, trust: Path, corp: Path) -> None:
    """Silently losing it would break the service elsewhere."""
    corp.write_bytes(content)
    with pytest.raises(KeptTrustError, match=reason):
        trust_variables(trust, {"SSL_CERT_FILE": str(corp), "HOME": str(corp.parent)})


def test_a_pipe_is_not_waited_for(trust: Path, tmp_path: Path) -> None:
    with pytest.raises(KeptTrustError, match="SSL_CERT_FILE: /dev/null must be a regular file"):
        trust_variables(trust, {"SSL_CERT_FILE": "/dev/null", "HOME": str(tmp_path)})


def test_there_must_be_a_place_for_both(trust: Path, corp: Path, tmp_path: Path) -> None:
    """One that others cannot write to: who does decides what the service trusts."""
    theirs = {"SSL_CERT_FILE": str(corp)}
    with pytest.raises(KeptTrustError, match="set XDG_CACHE_HOME"):
        trust_variables(trust, theirs)
    with pytest.raises(KeptTrustError, match="cannot be written: Not a directory; set XDG_CACHE_HOME"):
        trust_variables(trust, {**theirs, "XDG_CACHE_HOME": str(corp)})
    open_folder = tmp_path / "open" / "sidekey" / "trust"
    open_folder.mkdir(parents=True)
    open_folder.chmod(0o777)
    with pytest.raises(KeptTrustError, match="writable for nobody else"):
        trust_variables(trust, {**theirs, "XDG_CACHE_HOME": str(tmp_path / "open")})
    assert list(open_folder.iterdir()) == []


def test_a_folder_of_another_user_is_not_written_to(
    trust: Path, corp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could put another file in the place of ours."""
    environ = {"SSL_CERT_FILE": str(corp), "XDG_CACHE_HOME": str(tmp_path / "c")}
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(KeptTrustError, match="must be this user's"):
        trust_variables(trust, environ)


def test_a_trust_folder_that_is_damaged_is_an_error(trust: Path, corp: Path, tmp_path: Path) -> None:
    (trust / "bundle.pem").write_text("")
    with pytest.raises(KeptTrustError, match=r"bundle\.pem this is empty"):
        trust_variables(trust, {"SSL_CERT_FILE": str(corp), "HOME": str(tmp_path)})
