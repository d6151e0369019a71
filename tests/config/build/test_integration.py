"""One integration of a config that is loaded again: when it stays, when it is built again."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from sidekey.config.load import Loader
from sidekey.credentials.base import FixedCredential
from sidekey.snapshot.snapshot import Integration
from support.certificates import NOW, private_chain
from support.loading import CA, SECRET, TENANT, good, prefix, write

PRESENT = NOW.timestamp()


def sent(integration: Integration) -> str:
    """The secret that goes out."""
    credential = integration.secrets.credential
    assert isinstance(credential, FixedCredential)
    return credential.grant.headers[0][1]


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path, {})


def test_an_integration_that_is_the_same_is_the_same_object(loader: Loader, tmp_path: Path) -> None:
    """Whatever happens around it: others come, change and go, and it moves within its file and to another."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}", f"c {prefix('c')}, {TENANT}")
    first = good(loader.load()).integrations
    write(tmp_path, f"b {prefix('other')}, {TENANT}", f"d {prefix('d')}, {TENANT}")
    write(tmp_path, f"a {prefix('a')}, {TENANT}", file="other.yaml")
    second = good(loader.load()).integrations
    assert list(second) == ["a", "b", "d"]
    assert second["a"] is first["a"]
    assert second["b"] is not first["b"]


def test_the_order_of_headers_is_a_change(loader: Loader, tmp_path: Path) -> None:
    """They are sent in the order of the file."""
    write(tmp_path, f"a {prefix('a')}, auth: {{type: headers, headers: {{X-A: a, X-B: b}}}}")
    first = good(loader.load()).integrations["a"]
    write(tmp_path, f"a {prefix('a')}, auth: {{type: headers, headers: {{X-B: b, X-A: a}}}}")
    assert good(loader.load()).integrations["a"] is not first


def test_a_value_of_another_type_is_a_change(loader: Loader, tmp_path: Path) -> None:
    """Python takes 1 for true, the config does not."""
    domains = "allowed_domains: ['https://a.example.com']"
    write(tmp_path, f"a {prefix('a')}, {TENANT}, {domains}, allow_other_domains: true")
    good(loader.load())
    write(tmp_path, f"a {prefix('a')}, {TENANT}, {domains}, allow_other_domains: 1")
    assert "must be true or false" in [error.message for error in loader.load().errors]


def test_findings_of_what_stays_have_their_places_of_now(loader: Loader, tmp_path: Path) -> None:
    """The lines above may have moved it, or it stands in another file."""
    line = f"a endpoint_prefix: http://a.example.com, {SECRET}"
    write(tmp_path, line)
    first = loader.load()
    write(tmp_path, f"b {prefix('b')}, {TENANT}")
    write(tmp_path, line, file="other.yaml", top="# moved\n")
    second = loader.load()
    assert good(second).integrations["a"] is good(first).integrations["a"]
    for found in (second.warnings, second.of("unreadable")):
        assert [(error.file, error.line, error.path.partition(".")[0]) for error in found] == [
            (str(tmp_path / "other.yaml"), 4, "integrations")
        ]


def test_a_rotated_secret_makes_a_new_object(loader: Loader, tmp_path: Path) -> None:
    """And leaves the others alone."""
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}", f"b {prefix('b')}, {TENANT}")
    first = good(loader.load()).integrations
    (tmp_path / "key").write_text("newer")
    second = good(loader.load()).integrations
    assert (sent(first["a"]), sent(second["a"])) == ("old", "newer")
    assert second["b"] is first["b"]


def test_a_secret_that_became_unusable_stays_what_it_was(loader: Loader, tmp_path: Path) -> None:
    """`kept` says why, for as long as it is so. A good one ends that."""
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    first = good(loader.load()).integrations["a"]
    (tmp_path / "key").write_text("")
    for _ in range(2):
        loaded = loader.load()
        assert good(loaded).integrations["a"] is first
        assert [(error.line, error.path, error.message) for error in loaded.retained["a"].reasons] == [
            (3, "integrations.a.auth.headers.X-Key.secret", "the file must not be empty")
        ]
        assert loaded.of("unreadable") == []
    (tmp_path / "key").write_text("newer")
    loaded = loader.load()
    assert sent(good(loaded).integrations["a"]) == "newer"
    assert loaded.retained == {}


@pytest.mark.parametrize(
    ("top", "kept"),
    [
        ("via: false\n", {"a", "b"}),
        ("limits: {in_flight: 500}\n", {"a", "b"}),
        ("network: {allow_private: [10.0.0.0/8]}\n", {"a", "b"}),
        ("network: {trusted_ca: system}\n", {"b"}),
    ],
)
def test_a_global_setting_rebuilds_what_uses_it_alone(loader: Loader, tmp_path: Path, top: str, kept: set[str]) -> None:
    lines = (f"a {prefix('a')}, {TENANT}", f"b {prefix('b')}, {TENANT}, trusted_ca: mozilla")
    write(tmp_path, *lines)
    first = good(loader.load()).integrations
    write(tmp_path, *lines, top=top)
    second = good(loader.load()).integrations
    assert {name for name in second if second[name] is first[name]} == kept


def test_no_old_credential_goes_to_a_new_destination(loader: Loader, tmp_path: Path) -> None:
    """Where the config says something else, an unreadable secret is as at start."""
    (tmp_path / "key").write_text("old")
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    good(loader.load())
    (tmp_path / "key").unlink()
    write(tmp_path, f"a {prefix('other')}, {SECRET}")
    loaded = loader.load()
    assert good(loaded).integrations["a"].secrets.credential is None
    assert [error.path for error in loaded.of("unreadable")] == ["integrations.a.auth.headers.X-Key.secret"]
    assert loaded.retained == {}


def test_a_prefix_that_is_a_reference_is_read_with_the_secret(loader: Loader, tmp_path: Path) -> None:
    """A new destination comes with what is read now, or not at all."""
    (tmp_path / "key").write_text("old")
    (tmp_path / "base").write_text("https://a.example.com")
    write(tmp_path, f"a endpoint_prefix: {{file: base}}, {SECRET}")
    first = good(loader.load()).integrations["a"]
    (tmp_path / "base").write_text("https://other.example.com")
    (tmp_path / "key").unlink()
    assert good(loader.load()).integrations["a"] is first
    (tmp_path / "key").write_text("newer")
    last = good(loader.load()).integrations["a"]
    assert (sent(last), str(last.base)) == ("newer", "https://other.example.com")


def test_a_secret_that_appears_makes_a_new_object(loader: Loader, tmp_path: Path) -> None:
    """It was not there at the last load."""
    write(tmp_path, f"a {prefix('a')}, {SECRET}")
    assert [error.path for error in loader.load().of("unreadable")] == ["integrations.a.auth.headers.X-Key.secret"]
    (tmp_path / "key").write_text("new")
    loaded = loader.load()
    assert sent(good(loaded).integrations["a"]) == "new"
    assert loaded.of("unreadable") == []


@pytest.mark.parametrize(
    ("top", "key"), [("", f", {CA}"), (f"network: {{{CA}}}\n", "")], ids=["its own", "the network's"]
)
def test_another_ca_is_another_trust(loader: Loader, tmp_path: Path, top: str, key: str) -> None:
    """One that is unusable takes the place of none, and is told."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    write(tmp_path, f"a {prefix('a')}, {TENANT}{key}", f"b {prefix('b')}, {TENANT}, trusted_ca: system", top=top)
    first = good(loader.load()).integrations
    (tmp_path / "ca.pem").write_text("no certificate")
    loaded = loader.load()
    assert good(loaded).integrations["a"] is first["a"]
    told = loaded.of("unreadable") if top else loaded.retained["a"].reasons
    assert [error.message for error in told] == ["ca.pem must contain a certificate in PEM"]
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    second = good(loader.load()).integrations
    assert second["a"].trust != first["a"].trust
    assert second["b"] is first["b"]


PAIR = "allow_private_ca: true, certificate: {file: tls.crt}, private_key: {file: tls.key}"


def certified(folder: Path, auth: str = SECRET) -> None:
    chain = private_chain()
    (folder / "tls.crt").write_bytes(chain.pem)
    (folder / "tls.key").write_bytes(chain.leaf.key_pem)
    (folder / "key").write_text("old")
    write(folder, f"a {prefix('a')}, {auth}, client_certificate: {{{PAIR}}}")


def test_files_of_a_client_certificate_are_not_the_loaders(loader: Loader, tmp_path: Path) -> None:
    """It is rotated in place, in an integration that stays."""
    certified(tmp_path)
    loaded = loader.load(PRESENT)
    first = good(loaded).integrations["a"]
    assert loaded.stamps.keys() == {tmp_path, tmp_path / "sidekey.yaml", tmp_path / "key"}
    (tmp_path / "tls.crt").write_text("")
    loaded = loader.load(PRESENT)
    assert good(loaded).integrations["a"] is first
    assert loaded.of("unreadable") == []


def test_a_rotated_secret_leaves_the_client_certificate(loader: Loader, tmp_path: Path) -> None:
    """Its certificate goes over: an invalid file, or one that was not fetched again, takes the place of nothing."""
    certified(tmp_path)
    first = good(loader.load(PRESENT)).integrations["a"]
    (tmp_path / "tls.crt").write_text("")
    (tmp_path / "key").write_text("newer")
    loaded = loader.load(PRESENT)
    second = good(loaded).integrations["a"]
    assert second is not first
    assert second.certificate is first.certificate
    assert second.usable
    assert loaded.of("unreadable") == []


def test_a_client_certificate_does_not_go_over_to_another_destination(loader: Loader, tmp_path: Path) -> None:
    """A prefix that stands elsewhere may change without the config."""
    certified(tmp_path)
    (tmp_path / "base").write_text("https://a.example.com")
    write(tmp_path, f"a endpoint_prefix: {{file: base}}, {SECRET}, client_certificate: {{{PAIR}}}")
    first = good(loader.load(PRESENT)).integrations["a"]
    (tmp_path / "base").write_text("https://other.example.com")
    second = good(loader.load(PRESENT)).integrations["a"]
    assert second.certificate is not first.certificate
    assert second.usable


def test_what_is_wrong_with_a_client_certificate_is_reported_at_each_load(loader: Loader, tmp_path: Path) -> None:
    """As it is now: the loader may have read it again."""
    certified(tmp_path)
    (tmp_path / "tls.crt").write_text("")
    for _ in range(2):
        loaded = loader.load(PRESENT)
        assert [error.path for error in loaded.of("refused")] == ["integrations.a.client_certificate.certificate"]
    certified(tmp_path)
    certificate = good(loaded).integrations["a"].certificate
    assert certificate is not None
    certificate.load(PRESENT)
    write(tmp_path, f"a {prefix('a')}, {SECRET}, client_certificate: {{{PAIR}}}")
    loaded = loader.load(PRESENT)
    assert [error.path for error in loaded.of("unreadable", "refused")] == []
