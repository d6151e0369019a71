"""Integrations of a config that is loaded again: which stay the same object, and which are built again."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from sidekey.config.load import Loader
from sidekey.credentials.base import FixedCredential
from sidekey.snapshot.snapshot import Integration
from support.certificates import NOW, private_chain
from support.loading import CA, SECRET, TENANT, loaded_snapshot, prefix, write

PRESENT = NOW.timestamp()


def sent(integration: Integration) -> str:
    """Return the secret in the integration's credential."""
    credential = integration.secrets.credential
    assert isinstance(credential, FixedCredential)
    return credential.grant.headers[0][1]


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {})


def test_unchanged_integration_is_the_same_object(loader: Loader, tmp_path: Path) -> None:
    """Even if others change, or if it moves within its file or to another."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}", f"c {prefix('c')}, {TENANT}")
    first = loaded_snapshot(loader.load()).integrations
    write(tmp_path, f"b {prefix('other')}, {TENANT}", f"d {prefix('d')}, {TENANT}")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", file="other.yaml")
    second = loaded_snapshot(loader.load()).integrations
    assert list(second) == ["a", "b", "d"]
    assert second["a"] is first["a"]
    assert second["b"] is not first["b"]


def test_the_order_of_headers_is_a_change(loader: Loader, tmp_path: Path) -> None:
    """Headers are sent in the order of the file."""
    write(tmp_path, f"a {prefix('a')}, auth: {{type: headers, headers: {{X-A: a, X-B: b}}}}")
    first = loaded_snapshot(loader.load()).integrations["a"]
    write(tmp_path, f"a {prefix('a')}, auth: {{type: headers, headers: {{X-B: b, X-A: a}}}}")
    assert loaded_snapshot(loader.load()).integrations["a"] is not first


def test_value_of_another_type_is_a_change(loader: Loader, tmp_path: Path) -> None:
    """In Python 1 equals true, in the config it does not."""
    domains = "allowed_domains: ['https://a.example.com']"
    write(tmp_path, f"a {prefix('a')}, {TENANT}, {domains}, allow_other_domains: true")
    loaded_snapshot(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}, {domains}, allow_other_domains: 1")
    assert "must be true or false" in [error.message for error in loader.load().errors]


def test_findings_of_an_unchanged_integration_have_current_places(loader: Loader, tmp_path: Path) -> None:
    """It may have moved within its file or to another."""
    line = f"a endpoint_prefix: http://a.example.com, {SECRET}"
    write(tmp_path, line)
    first = loader.load()
    write(tmp_path, f"b {prefix('b')}, {TENANT}")
    write(tmp_path, line, file="other.yaml", top="# moved\n")
    second = loader.load()
    assert loaded_snapshot(second).integrations["a"] is loaded_snapshot(first).integrations["a"]
    for findings in (second.warnings, second.of("unreadable")):
        assert [(error.file, error.line, error.path.partition(".")[0]) for error in findings] == [
            (str(tmp_path / "other.yaml"), 4, "integrations")
        ]


def test_rotated_secret_rebuilds_only_its_integration(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}", f"b {prefix('b')}, {TENANT}")
    first = loaded_snapshot(loader.load()).integrations
    (tmp_path / "key").write_text("newer")
    second = loaded_snapshot(loader.load()).integrations
    assert (sent(first["a"]), sent(second["a"])) == ("old", "newer")
    assert second["b"] is first["b"]


def test_unusable_secret_keeps_the_previous_one_and_the_reasons(loader: Loader, tmp_path: Path) -> None:
    """Until it is usable again."""
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    first = loaded_snapshot(loader.load()).integrations["a"]
    (tmp_path / "key").write_text("")
    for _ in range(2):
        loaded = loader.load()
        assert loaded_snapshot(loaded).integrations["a"] is first
        assert [(error.line, error.path, error.message) for error in loaded.retained["a"].reasons] == [
            (3, "integrations.a.auth.headers.X-Key.secret", "the file must not be empty")
        ]
        assert loaded.of("unreadable") == []
    (tmp_path / "key").write_text("newer")
    loaded = loader.load()
    assert sent(loaded_snapshot(loaded).integrations["a"]) == "newer"
    assert loaded.retained == {}


@pytest.mark.parametrize(
    ("top", "unchanged"),
    [
        ("via: false\n", {"a", "b"}),
        ("limits: {in_flight: 500}\n", {"a", "b"}),
        ("network: {allow_private: [10.0.0.0/8]}\n", {"a", "b"}),
        ("network: {trusted_ca: system}\n", {"b"}),
    ],
)
def test_global_setting_rebuilds_only_integrations_that_use_it(
    loader: Loader, tmp_path: Path, top: str, unchanged: set[str]
) -> None:
    lines = (f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}, trusted_ca: mozilla")
    write(tmp_path, *lines)
    first = loaded_snapshot(loader.load()).integrations
    write(tmp_path, *lines, top=top)
    second = loaded_snapshot(loader.load()).integrations
    assert {name for name in second if second[name] is first[name]} == unchanged


def test_no_old_credential_goes_to_a_new_destination(loader: Loader, tmp_path: Path) -> None:
    """After a change of the integration, an unreadable secret does not keep the previous one."""
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    loaded_snapshot(loader.load())
    (tmp_path / "key").unlink()
    write(tmp_path, f"a {prefix('other')}, {SECRET}")
    loaded = loader.load()
    assert loaded_snapshot(loaded).integrations["a"].secrets.credential is None
    assert [error.path for error in loaded.of("unreadable")] == ["integrations.a.auth.headers.X-Key.secret"]
    assert loaded.retained == {}


def test_referenced_prefix_and_secret_are_read_together(loader: Loader, tmp_path: Path) -> None:
    """A new destination never gets a secret from an earlier read."""
    (tmp_path / "key").write_text("old")
    (tmp_path / "base").write_text("https://a.example.com")
    write(tmp_path, f"a endpoint_prefix: {{file: base}}, {SECRET}")
    first = loaded_snapshot(loader.load()).integrations["a"]
    (tmp_path / "base").write_text("https://other.example.com")
    (tmp_path / "key").unlink()
    assert loaded_snapshot(loader.load()).integrations["a"] is first
    (tmp_path / "key").write_text("newer")
    last = loaded_snapshot(loader.load()).integrations["a"]
    assert (sent(last), str(last.base)) == ("newer", "https://other.example.com")


def test_secret_that_appears_rebuilds_the_integration(loader: Loader, tmp_path: Path) -> None:
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    assert [error.path for error in loader.load().of("unreadable")] == ["integrations.a.auth.headers.X-Key.secret"]
    (tmp_path / "key").write_text("new")
    loaded = loader.load()
    assert sent(loaded_snapshot(loaded).integrations["a"]) == "new"
    assert loaded.of("unreadable") == []


@pytest.mark.parametrize(
    ("top", "key"), [("", f", {CA}"), (f"network: {{{CA}}}\n", "")], ids=["its own", "the network's"]
)
def test_changed_ca_file_changes_the_trust(loader: Loader, tmp_path: Path, top: str, key: str) -> None:
    """An unusable one keeps the previous content, and is reported."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}{key}", f"b {prefix('b')}, {TENANT}, trusted_ca: system", top=top)
    first = loaded_snapshot(loader.load()).integrations
    (tmp_path / "ca.pem").write_text("no certificate")
    loaded = loader.load()
    assert loaded_snapshot(loaded).integrations["a"] is first["a"]
    reasons = loaded.of("retained") if top else loaded.retained["a"].reasons
    assert [error.message for error in reasons] == ["ca.pem must contain a certificate in PEM"]
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    second = loaded_snapshot(loader.load()).integrations
    assert second["a"].egress.trust != first["a"].egress.trust
    assert second["b"] is first["b"]


PAIR = "allow_private_ca: true, certificate: {file: tls.crt}, private_key: {file: tls.key}"


def certified(folder: Path, auth: str = SECRET) -> None:
    chain = private_chain()
    (folder / "tls.crt").write_bytes(chain.pem)
    (folder / "tls.key").write_bytes(chain.leaf.key_pem)
    (folder / "key").write_text("old")
    write(folder, f"a {prefix('a')}, {auth}, client_certificate: {{{PAIR}}}")


def test_changed_client_certificate_does_not_rebuild_the_integration(loader: Loader, tmp_path: Path) -> None:
    certified(tmp_path)
    loaded = loader.load(PRESENT)
    first = loaded_snapshot(loaded).integrations["a"]
    assert loaded.stamps.keys() == {tmp_path, tmp_path / "sidekey.yaml", tmp_path / "key"}
    (tmp_path / "tls.crt").write_text("")
    loaded = loader.load(PRESENT)
    assert loaded_snapshot(loaded).integrations["a"] is first
    assert loaded.of("unreadable") == []


def test_rotated_secret_keeps_the_loaded_client_certificate(loader: Loader, tmp_path: Path) -> None:
    """Even if its file is invalid now, or it was not fetched again."""
    certified(tmp_path)
    first = loaded_snapshot(loader.load(PRESENT)).integrations["a"]
    (tmp_path / "tls.crt").write_text("")
    (tmp_path / "key").write_text("newer")
    loaded = loader.load(PRESENT)
    second = loaded_snapshot(loaded).integrations["a"]
    assert second is not first
    assert second.certificate is first.certificate
    assert second.usable
    assert loaded.of("unreadable") == []


def test_client_certificate_is_not_reused_for_another_destination(loader: Loader, tmp_path: Path) -> None:
    """A referenced prefix may change without the config."""
    certified(tmp_path)
    (tmp_path / "base").write_text("https://a.example.com")
    write(tmp_path, f"a endpoint_prefix: {{file: base}}, {SECRET}, client_certificate: {{{PAIR}}}")
    first = loaded_snapshot(loader.load(PRESENT)).integrations["a"]
    (tmp_path / "base").write_text("https://other.example.com")
    second = loaded_snapshot(loader.load(PRESENT)).integrations["a"]
    assert second.certificate is not first.certificate
    assert second.usable


def test_findings_of_a_client_certificate_are_reported_at_each_load(loader: Loader, tmp_path: Path) -> None:
    """Its loader may have read it again since the last load."""
    certified(tmp_path)
    (tmp_path / "tls.crt").write_text("")
    for _ in range(2):
        loaded = loader.load(PRESENT)
        assert [error.path for error in loaded.of("refused")] == ["integrations.a.client_certificate.certificate"]
    certified(tmp_path)
    certificate = loaded_snapshot(loaded).integrations["a"].certificate
    assert certificate is not None
    certificate.load(PRESENT)
    write(tmp_path, f"a {prefix('a')}, {SECRET}, client_certificate: {{{PAIR}}}")
    loaded = loader.load(PRESENT)
    assert [error.path for error in loaded.of("unreadable", "refused")] == []
