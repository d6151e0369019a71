"""Files that combine the CAs that a service already trusts with Sidekey's CA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidekey.ca.maintain import ensure_authorities
from sidekey.cli.trust_variables import TrustError, trust_variables
from support.local_cas import NOW, rules_in


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    """Create Sidekey's trust folder."""
    ensure_authorities(rules_in(tmp_path / "sidekey", "https://a.test"), NOW)
    return tmp_path / "sidekey" / "trust"


@pytest.fixture
def corp(tmp_path: Path) -> Path:
    """Create a file with another CA and a comment."""
    certificate = (
        ensure_authorities(rules_in(tmp_path / "client", "https://b.test"), NOW).authorities.members[0].certificate
    )
    file = tmp_path / "corp.pem"
    file.write_bytes(b"Soci\xe9t\xe9\n" + certificate.encode())
    return file


def bodies(path: str | Path) -> set[str]:
    """Return the certificates of a file."""
    return {
        part.partition("-----END")[0] for part in Path(path).read_text("latin-1").split("BEGIN CERTIFICATE-----")[1:]
    }


def test_certificates_are_combined(trust: Path, corp: Path, tmp_path: Path) -> None:
    """Only this user can write to the combined file."""
    environ = {"SSL_CERT_FILE": str(corp), "NODE_EXTRA_CA_CERTS": str(corp), "HOME": str(tmp_path)}
    values = trust_variables(trust, environ)
    assert bodies(values["SSL_CERT_FILE"]) == bodies(corp) | bodies(trust / "bundle.pem")
    assert bodies(values["NODE_EXTRA_CA_CERTS"]) == bodies(corp) | bodies(trust / "ca.pem")
    file = Path(values["SSL_CERT_FILE"])
    assert file.parent == tmp_path / ".cache" / "sidekey" / "trust"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o022) == (0o644, 0)
    assert trust_variables(trust, environ) == values
    assert trust_variables(trust, {**environ, **values}) == values


def test_certificates_of_a_folder_are_combined(trust: Path, corp: Path, tmp_path: Path) -> None:
    """`requests` accepts a folder."""
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "README").write_text("no certificate")
    corp.rename(folder / "9d66eef0.0")
    values = trust_variables(trust, {"REQUESTS_CA_BUNDLE": str(folder), "XDG_CACHE_HOME": str(tmp_path / "c")})
    assert bodies(values["REQUESTS_CA_BUNDLE"]) == bodies(folder / "9d66eef0.0") | bodies(trust / "bundle.pem")


@pytest.mark.parametrize("name", ["", "nothing/there", "sidekey/trust/bundle.pem", "sidekey/trust/ca.pem"])
def test_sidekeys_bundle_is_used_if_the_client_trusts_no_other_ca(name: str, trust: Path, tmp_path: Path) -> None:
    """Sidekey needs no cache folder, because it writes no file."""
    environ = {"SSL_CERT_FILE": str(tmp_path / name) if name else ""}
    assert trust_variables(trust, environ)["SSL_CERT_FILE"] == str(trust / "bundle.pem")


@pytest.mark.parametrize("variable", ["WGETRC", "HOME"])
def test_wget_keeps_its_settings(variable: str, trust: Path, corp: Path, tmp_path: Path) -> None:
    """The settings are in $WGETRC or ~/.wgetrc, and may contain passwords."""
    client_file = tmp_path / ".wgetrc"
    client_file.write_bytes(b"http_password = caf\xe9\nCA-Certificate = ~/corp.pem\ntries=3")
    environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "c")}
    if variable == "WGETRC":
        client_file = client_file.rename(tmp_path / "own")
        environ["WGETRC"] = str(client_file)
    values = trust_variables(trust, environ)
    file = Path(values["WGETRC"])
    *settings, last = file.read_bytes().splitlines()
    assert settings == [b"http_password = caf\xe9", b"tries=3"]
    command, _, bundle = last.decode().partition("=")
    assert command == "ca_certificate"
    assert bodies(bundle) == bodies(corp) | bodies(trust / "bundle.pem")
    assert file.stat().st_mode & 0o777 == 0o600
    assert trust_variables(trust, {**environ, **values}) == values


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
def test_certificates_that_cannot_be_kept_are_an_error(content: bytes, reason: str, trust: Path, corp: Path) -> None:
    """Without its CAs, the service could not reach other servers."""
    corp.write_bytes(content)
    with pytest.raises(TrustError, match=reason):
        trust_variables(trust, {"SSL_CERT_FILE": str(corp), "HOME": str(corp.parent)})


def test_device_as_certificate_file_is_an_error(trust: Path, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="SSL_CERT_FILE: /dev/null must be a regular file"):
        trust_variables(trust, {"SSL_CERT_FILE": "/dev/null", "HOME": str(tmp_path)})


def test_combined_file_needs_a_folder_that_only_this_user_can_write(trust: Path, corp: Path, tmp_path: Path) -> None:
    """Anyone who can write there decides which CAs the service trusts."""
    environ = {"SSL_CERT_FILE": str(corp)}
    with pytest.raises(TrustError, match="set XDG_CACHE_HOME"):
        trust_variables(trust, environ)
    with pytest.raises(TrustError, match="cannot be written: Not a directory; set XDG_CACHE_HOME"):
        trust_variables(trust, {**environ, "XDG_CACHE_HOME": str(corp)})
    open_folder = tmp_path / "open" / "sidekey" / "trust"
    open_folder.mkdir(parents=True)
    open_folder.chmod(0o777)
    with pytest.raises(TrustError, match="nobody else may write to it"):
        trust_variables(trust, {**environ, "XDG_CACHE_HOME": str(tmp_path / "open")})
    assert list(open_folder.iterdir()) == []


def test_combined_file_is_not_written_into_a_folder_of_another_user(
    trust: Path, corp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the other user could replace the file."""
    environ = {"SSL_CERT_FILE": str(corp), "XDG_CACHE_HOME": str(tmp_path / "c")}
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(TrustError, match="must belong to this user"):
        trust_variables(trust, environ)


def test_damaged_trust_folder_is_an_error(trust: Path, corp: Path, tmp_path: Path) -> None:
    (trust / "bundle.pem").write_text("")
    with pytest.raises(TrustError, match=r"bundle\.pem this is empty"):
        trust_variables(trust, {"SSL_CERT_FILE": str(corp), "HOME": str(tmp_path)})
