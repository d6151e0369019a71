from pathlib import Path

import pytest

from sidekey.config.file_stamps import stamp
from sidekey.config.load import Loaded, Loader, load
from support.certificates import NOW, SERVER_AUTH, issue, private_chain

CHAIN = private_chain()
LEAF = CHAIN.leaf
PRESENT = NOW.timestamp()
PREFIX = "endpoint_prefix: https://mtls.bank.example/hooks"
FILES = "certificate: {file: tls.crt}, private_key: {file: tls.key}"
PRIVATE = "allow_private_ca: true"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a valid certificate and key."""
    (tmp_path / "tls.crt").write_bytes(CHAIN.pem)
    (tmp_path / "tls.key").write_bytes(LEAF.key_pem)
    return tmp_path


def loaded(folder: Path, keys: str, environ: dict[str, str] | None = None, now: float = PRESENT) -> Loaded:
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nintegrations:\n  bank: {{{PREFIX}, {keys}}}\n")
    result = load(path, environ or {}, now)
    assert result.errors == []
    return result


def mtls(keys: str) -> str:
    return f"auth: {{type: mtls, {keys}}}"


def with_keys(keys: str) -> str:
    return f"auth: {{type: headers, headers: {{X-Tenant: acme}}}}, client_certificate: {{{keys}}}"


def findings_of(result: Loaded) -> list[tuple[str, str]]:
    return [
        (error.path.removeprefix("integrations.bank."), error.message) for error in result.of("unreadable", "refused")
    ]


@pytest.mark.parametrize(("section", "block"), [(mtls, "auth"), (with_keys, "client_certificate")])
def test_valid_pair_becomes_an_identity(folder: Path, section: type[str], block: str) -> None:
    """For kind mtls, and beside another kind."""
    result = loaded(folder, section(f"{FILES}, {PRIVATE}"))
    assert result.of("refused") == result.of("unreadable") == result.warnings == []
    assert result.snapshot is not None
    integration = result.snapshot.integrations["bank"]
    certificate = integration.certificate
    assert certificate is not None
    assert certificate.identity is not None
    assert certificate.identity.chain == CHAIN.pem
    assert certificate.files == (folder / "tls.crt", folder / "tls.key")
    assert (certificate.urls, certificate.refresh_every) == ((), None)
    assert integration.usable


@pytest.mark.parametrize(("section", "block"), [(mtls, "auth"), (with_keys, "client_certificate")])
def test_errors_are_located_at_their_keys(folder: Path, section: type[str], block: str) -> None:
    """`run` continues without that integration."""
    (folder / "tls.crt").unlink()
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    result = loaded(folder, section(f"{FILES}, {PRIVATE}"))
    absent = "tls.crt does not exist; a relative path starts at the config file's folder"
    assert findings_of(result) == [
        (f"{block}.certificate", absent),
        (f"{block}.private_key", "this private key is encrypted: write its passphrase as key_passphrase"),
    ]
    assert result.snapshot is not None
    assert not result.snapshot.integrations["bank"].usable


def test_integration_without_a_certificate_has_no_loader(folder: Path) -> None:
    result = loaded(folder, "auth: {type: headers, headers: {X-Tenant: acme}}")
    assert result.snapshot is not None
    assert result.snapshot.integrations["bank"].certificate is None


def test_certificate_may_be_in_a_file_a_variable_or_inline(folder: Path) -> None:
    pem = {"PEM": (LEAF.pem + LEAF.key_as(passphrase="hunter2")).decode(), "PASS": "hunter2"}
    result = loaded(folder, mtls(f"pem: {{env: PEM}}, key_passphrase: {{env: PASS}}, {PRIVATE}"), pem)
    assert result.of("refused") == []
    lines = [LEAF.pem.decode().replace("\n", "\\n"), LEAF.key_pem.decode().replace("\n", "\\n")]
    pasted = f'certificate: {{inline: "{lines[0]}"}}, private_key: {{insecure_value: "{lines[1]}"}}, {PRIVATE}'
    for section in (mtls, with_keys):
        result = loaded(folder, section(pasted))
        assert result.of("unreadable") == []
        assert [error.message for error in result.warnings] == [
            "a secret is written in the config file: use this for trials only"
        ]


def test_unreadable_variable_is_reported(folder: Path) -> None:
    assert findings_of(loaded(folder, mtls("pem: {env: NONE}"))) == [
        ("auth.pem", "environment variable NONE is not set")
    ]


def test_unreadable_passphrase_is_the_only_error_of_a_key(folder: Path) -> None:
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    (folder / "tls.pem").write_bytes(CHAIN.pem + LEAF.key_as(passphrase="hunter2"))
    for keys in (FILES, "pem: {file: tls.pem}"):
        result = loaded(folder, mtls(f"{keys}, key_passphrase: {{env: NONE}}, {PRIVATE}"))
        assert findings_of(result) == [("auth.key_passphrase", "environment variable NONE is not set")]


def test_file_of_a_passphrase_is_watched(folder: Path) -> None:
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    (folder / "tls.pass").write_text("hunter2\n")
    result = loaded(folder, mtls(f"{FILES}, key_passphrase: {{file: tls.pass}}, {PRIVATE}"))
    assert result.snapshot is not None
    certificate = result.snapshot.integrations["bank"].certificate
    assert certificate is not None
    assert certificate.identity is not None
    assert certificate.files[-1] == folder / "tls.pass"


@pytest.mark.parametrize(
    ("days", "reason"),
    [(100, "this certificate expired on 2026-08-29 00:00 UTC"), (-9, "this certificate is valid only from")],
)
def test_expired_or_future_certificate_makes_the_integration_unusable(folder: Path, days: int, reason: str) -> None:
    result = loaded(folder, mtls(f"{FILES}, {PRIVATE}"), now=PRESENT + days * 86400)
    assert [text.startswith(reason) for _, text in findings_of(result)] == [True]
    assert result.snapshot is not None
    assert not result.snapshot.integrations["bank"].usable


def test_usable_certificate_may_have_warnings(folder: Path) -> None:
    odd = issue(usages=[SERVER_AUTH])
    (folder / "tls.crt").write_bytes(odd.pem)
    (folder / "tls.key").write_bytes(odd.key_pem)
    result = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert result.of("refused") == []
    assert [error.path for error in result.warnings] == ["integrations.bank.auth.certificate"]


BY_URL = 'certificate: {url: "https://vault.example/crt"}, private_key: {file: tls.key}, refresh: 5m'


def test_certificate_with_a_url_has_no_error_before_it_is_fetched(folder: Path) -> None:
    result = loaded(folder, with_keys(BY_URL))
    assert result.of("refused") == result.of("unreadable") == result.warnings == []
    assert result.snapshot is not None
    integration = result.snapshot.integrations["bank"]
    certificate = integration.certificate
    assert certificate is not None
    place = ("client_certificate", "certificate")
    assert (certificate.urls, certificate.refresh_every) == (((place, "https://vault.example/crt"),), 300.0)
    assert str(certificate.unreadable) == "client_certificate.certificate: has not been fetched yet"
    assert integration.usable
    certificate.add_fetched({place: CHAIN.pem})
    certificate.load(PRESENT)
    assert str(certificate.unreadable).startswith("client_certificate.certificate: ")
    assert "write allow_private_ca: true" in str(certificate.unreadable)
    assert certificate.warnings == ()
    assert not integration.usable


def test_valid_fetched_certificate_has_no_error(folder: Path) -> None:
    result = loaded(folder, with_keys(f"{BY_URL}, {PRIVATE}"))
    assert result.snapshot is not None
    certificate = result.snapshot.integrations["bank"].certificate
    assert certificate is not None
    certificate.add_fetched({("client_certificate", "certificate"): CHAIN.pem + issue("stranger").pem})
    certificate.load(PRESENT)
    assert certificate.unreadable is None
    text = "the certificate of CN=stranger is not part of the chain and is not sent"
    assert certificate.warnings == ((("client_certificate", "certificate"), text),)


def test_rotated_pair_is_reloaded(folder: Path) -> None:
    """After only one of the files has changed, the previous pair stays in use."""
    result = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert result.snapshot is not None
    certificate = result.snapshot.integrations["bank"].certificate
    assert certificate is not None
    old, new = certificate.identity, issue("new.example")
    (folder / "tls.crt").write_bytes(new.pem)
    certificate.load(PRESENT)
    assert certificate.identity is old
    assert (
        str(certificate.unreadable)
        == "auth.private_key: this private key does not belong to the certificate of CN=new.example"
    )
    (folder / "tls.key").write_bytes(new.key_pem)
    certificate.load(PRESENT)
    assert certificate.unreadable is None
    assert certificate.identity is not None
    assert certificate.identity.subject == "CN=new.example"


def test_rebuild_with_a_resolved_policy_keeps_the_loader(folder: Path) -> None:
    path = folder / "sidekey.yaml"
    path.write_text(
        f"version: 1\nintegrations:\n  bank: {{endpoint_prefix: {{file: base}}, {mtls(f'{FILES}, {PRIVATE}')}}}\n"
    )
    snapshot = load(path, {}, PRESENT).snapshot
    assert snapshot is not None
    before = snapshot.integrations["bank"]
    (folder / "base").write_text("https://mtls.bank.example/hooks")
    assert before.rebuild is not None
    after = before.rebuild()
    assert after.base is not None
    assert after.certificate is before.certificate is not None


def test_file_of_more_than_256_kib_is_an_error(folder: Path) -> None:
    (folder / "tls.crt").write_bytes(bytes((256 << 10) + 1))
    assert findings_of(loaded(folder, mtls(FILES))) == [("auth.certificate", "tls.crt must be at most 256 KiB")]


def test_certificate_stamps_are_separate_and_only_from_the_load_that_read_them(folder: Path) -> None:
    """A change must not cause another load of the config."""
    files = {path: stamp(path) for path in (folder / "tls.crt", folder / "tls.key")}
    loader = Loader(folder / "sidekey.yaml", {})
    first = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert first.certificate_stamps == files
    assert files.keys().isdisjoint(first.stamps)
    assert [loader.load(PRESENT).certificate_stamps for _ in range(2)] == [files, {}]
