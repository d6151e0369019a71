"""The section `ca`: the folders of the CA, its scope, and a CA of the operator's own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidekey.ca.certificates import create_authority
from sidekey.config.load import Loader, load
from sidekey.config.load_result import Loaded
from support.certificates import issue
from support.loading import loaded_snapshot, write
from support.local_cas import authority_of, scope_of

A = "a endpoint_prefix: 'https://a.test/v1', auth: {type: headers, headers: {X-Key: x}}"
OWN = "ca: {certificate: {file: ca.pem}, private_key: {file: ca.key}}"


def loaded(folder: Path, top: str = "", environ: dict[str, str] | None = None) -> Loaded:
    write(folder, A, top=f"{top}\n" if top else "")
    return load(folder / "sidekey.yaml", environ or {})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/sidekey:/var/lib/more", "HOME": "/srv/u"}, "/var/lib/sidekey"),
        ({"XDG_STATE_HOME": "/srv/u/state", "HOME": "/srv/u"}, "/srv/u/state/sidekey"),
        ({"XDG_STATE_HOME": "state", "HOME": "/srv/u"}, "/srv/u/.local/state/sidekey"),
        ({"HOME": "/srv/u"}, "/srv/u/.local/state/sidekey"),
        ({}, None),
        ({"HOME": ""}, None),
    ],
)
def test_default_folder_of_the_ca(environ: dict[str, str], expected: str | None, tmp_path: Path) -> None:
    rules = loaded_snapshot(loaded(tmp_path, environ=environ)).ca
    assert (None if rules.folder is None else rules.folder.parent) == (None if expected is None else Path(expected))
    assert rules.trust_folder == (None if rules.folder is None else rules.folder / "trust")
    assert not rules.configured


def test_relative_folders_start_at_the_config_folder(tmp_path: Path) -> None:
    rules = loaded_snapshot(loaded(tmp_path, "ca: {folder: state}")).ca
    assert (rules.folder, rules.trust_folder) == (tmp_path / "state", tmp_path / "state" / "trust")
    assert rules.configured
    rules = loaded_snapshot(loaded(tmp_path, "ca: {trust_folder: /shared}", {"HOME": "/srv/u"})).ca
    assert rules.trust_folder == Path("/shared")


def test_match_by_host_makes_the_ca_configured(tmp_path: Path) -> None:
    """A missing CA must be reported, because clients name no integration."""
    assert loaded_snapshot(loaded(tmp_path, "forward: {match_by_host: true}")).ca.configured
    assert not loaded_snapshot(loaded(tmp_path, "forward: {match_by_host: false}")).ca.configured


def test_scope_has_the_hosts_of_policies_and_the_listed_ones(tmp_path: Path) -> None:
    rules = loaded_snapshot(loaded(tmp_path, "ca: {hosts: [store.example.com]}")).ca
    assert rules.scope.hosts() == ["a.test", "store.example.com"]
    assert rules.hosts == ("store.example.com",)


@pytest.mark.parametrize(
    ("top", "path", "message"),
    [
        ("ca: {hosts: [com]}", "ca.hosts[0]", "must have at least two labels"),
        ("ca: {hosts: ['*.example.com']}", "ca.hosts[0]", "must be a host name"),
        ("ca: {certificate: {file: ca.pem}}", "ca.certificate", "needs ca.private_key"),
        ("ca: {private_key: {file: ca.pem}}", "ca.private_key", "needs ca.certificate"),
        ("ca: {certificate: {file: ca.pem}, private_key: key}", "ca.private_key", "may not be written inline"),
        ("ca: {folder: ''}", "ca.folder", "must be a path"),
        ("ca: {keys: 1}", "ca.keys", "unknown key"),
    ],
)
def test_errors_have_locations(top: str, path: str, message: str, tmp_path: Path) -> None:
    (error,) = [item for item in loaded(tmp_path, top).errors if item.path == path]
    assert message in error.message


def test_operator_ca_is_read_again_when_its_files_change(tmp_path: Path) -> None:
    loader = Loader(tmp_path / "sidekey.yaml", {"HOME": "/srv/u"})
    own = authority_of("https://a.test", now=time.time())
    (tmp_path / "ca.pem").write_text(own.certificate)
    (tmp_path / "ca.key").write_text(own.key)
    write(tmp_path, A, top=f"{OWN}\n")
    first = loader.load()
    assert first.of("unreadable") == []
    rules = loaded_snapshot(first).ca
    assert rules.operator_ca is not None
    assert (rules.uses_operator_ca, rules.operator_ca.fingerprint) == (True, own.fingerprint)
    assert {tmp_path / "ca.pem", tmp_path / "ca.key"} <= set(first.stamps)
    assert loaded_snapshot(loader.load()).ca == rules
    (tmp_path / "ca.key").write_text("nonsense")
    broken = loader.load()
    assert [error.path for error in broken.of("retained")] == ["ca.private_key"]
    assert loaded_snapshot(broken).ca.operator_ca == rules.operator_ca
    renewed = authority_of("https://a.test", now=time.time())
    (tmp_path / "ca.pem").write_text(renewed.certificate)
    (tmp_path / "ca.key").write_text(renewed.key)
    result = loaded_snapshot(loader.load()).ca.operator_ca
    assert result is not None
    assert result.fingerprint == renewed.fingerprint


def test_unusable_operator_ca_is_unreadable_and_does_not_stop_a_start(tmp_path: Path) -> None:
    other = create_authority(scope_of("https://other.test"), 0, time.time())
    (tmp_path / "ca.pem").write_text(other.certificate)
    (tmp_path / "ca.key").write_text(other.key)
    result = loaded(tmp_path, OWN)
    (error,) = result.of("unreadable")
    assert (error.path, error.line) == ("ca.certificate", 2)
    assert "the name constraints of this CA must permit a.test" in error.message
    assert loaded_snapshot(result).ca.operator_ca is not None
    (tmp_path / "ca.pem").write_bytes(issue("no CA").pem)
    rules = loaded_snapshot(loaded(tmp_path, OWN)).ca
    assert (rules.uses_operator_ca, rules.operator_ca) == (True, None)
    (tmp_path / "ca.pem").unlink()
    assert "ca.pem does not exist" in loaded(tmp_path, OWN).of("unreadable")[0].message


def test_extra_roots_complete_the_chain_of_an_operator_ca(tmp_path: Path) -> None:
    """Previous ones too, while the file is unreadable."""
    top = issue("Corporate root", authority=True, start=datetime.now(UTC) - timedelta(days=1))
    below = issue("Intermediate", top, authority=True, start=datetime.now(UTC) - timedelta(days=1))
    (tmp_path / "ca.pem").write_bytes(below.pem)
    (tmp_path / "ca.key").write_bytes(below.key_pem)
    (tmp_path / "roots.pem").write_bytes(top.pem)
    loader = Loader(tmp_path / "sidekey.yaml", {"HOME": "/srv/u"})
    write(tmp_path, A, top=f"{OWN.removesuffix('}')}, extra_roots: [{{file: roots.pem}}]}}\n")
    for _ in range(2):
        result = loader.load()
        ca = loaded_snapshot(result).ca.operator_ca
        assert ca is not None
        assert ca.trusted == top.pem.decode()
        assert not [text for text in map(str, result.warnings) if "does not end in a root" in text]
        (tmp_path / "roots.pem").write_text("nonsense")


def test_unreadable_extra_roots_keep_the_previous_content(tmp_path: Path) -> None:
    pem = issue("Corporate root", authority=True).pem.decode()
    (tmp_path / "roots.pem").write_text(f"# corporate\n{pem}")
    loader = Loader(tmp_path / "sidekey.yaml", {"HOME": "/srv/u"})
    top = "ca: {extra_roots: [{file: roots.pem}]}"
    write(tmp_path, A, top=f"{top}\n")
    assert loaded_snapshot(loader.load()).ca.extra_roots == pem
    (tmp_path / "roots.pem").write_text("nonsense")
    result = loader.load()
    assert [error.path for error in result.of("retained")] == ["ca.extra_roots[0]"]
    assert result.of("retained")[0].message == "roots.pem must contain a certificate in PEM"
    assert loaded_snapshot(result).ca.extra_roots == pem


def test_local_ca_as_trusted_ca_is_refused(tmp_path: Path) -> None:
    """Somebody who reads its key could pose as an upstream."""
    (tmp_path / "bundle.pem").write_text(
        authority_of("https://a.test").trusted + issue("x", authority=True).pem.decode()
    )
    result = loaded(tmp_path, "network: {trusted_ca: {file: bundle.pem}}")
    (error,) = result.of("unreadable")
    assert (error.path, error.message) == (
        "network.trusted_ca",
        "bundle.pem must not contain a local CA of Sidekey, which never verifies upstreams: remove it",
    )
