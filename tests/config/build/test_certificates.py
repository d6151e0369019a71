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
    """With a good pair in it."""
    (tmp_path / "tls.crt").write_bytes(CHAIN.pem)
    (tmp_path / "tls.key").write_bytes(LEAF.key_pem)
    return tmp_path


def loaded(folder: Path, keys: str, environ: dict[str, str] | None = None, now: float = PRESENT) -> Loaded:
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nintegrations:\n  bank: {{{PREFIX}, {keys}}}\n")
    found = load(path, environ or {}, now)
    assert found.errors == []
    return found


def mtls(keys: str) -> str:
    return f"auth: {{type: mtls, {keys}}}"


def beside(keys: str) -> str:
    return f"auth: {{type: headers, headers: {{X-Tenant: acme}}}}, client_certificate: {{{keys}}}"


def told(found: Loaded) -> list[tuple[str, str]]:
    return [
        (error.path.removeprefix("integrations.bank."), error.message) for error in found.of("unreadable", "refused")
    ]


@pytest.mark.parametrize(("where", "block"), [(mtls, "auth"), (beside, "client_certificate")])
def test_a_good_pair_gives_an_identity(folder: Path, where: type[str], block: str) -> None:
    """As the kind, and beside another."""
    found = loaded(folder, where(f"{FILES}, {PRIVATE}"))
    assert found.of("refused") == found.of("unreadable") == found.warnings == []
    assert found.snapshot is not None
    integration = found.snapshot.integrations["bank"]
    certificate = integration.certificate
    assert certificate is not None
    assert certificate.identity is not None
    assert certificate.identity.chain == CHAIN.pem
    assert certificate.files == (folder / "tls.crt", folder / "tls.key")
    assert (certificate.urls, certificate.refresh_every) == ((), None)
    assert integration.usable


@pytest.mark.parametrize(("where", "block"), [(mtls, "auth"), (beside, "client_certificate")])
def test_errors_have_the_place_of_their_key(folder: Path, where: type[str], block: str) -> None:
    """`run` goes on without that integration."""
    (folder / "tls.crt").unlink()
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    found = loaded(folder, where(f"{FILES}, {PRIVATE}"))
    absent = "tls.crt does not exist; a relative path starts at the config file's folder"
    assert told(found) == [
        (f"{block}.certificate", absent),
        (f"{block}.private_key", "this private key is encrypted: write its passphrase as key_passphrase"),
    ]
    assert found.snapshot is not None
    assert not found.snapshot.integrations["bank"].usable


def test_an_integration_without_a_certificate_has_no_ring(folder: Path) -> None:
    """And needs no library for it."""
    found = loaded(folder, "auth: {type: headers, headers: {X-Tenant: acme}}")
    assert found.snapshot is not None
    assert found.snapshot.integrations["bank"].certificate is None


def test_every_source_is_read(folder: Path) -> None:
    """A variable may hold it, and for trials the config itself."""
    pem = {"PEM": (LEAF.pem + LEAF.key_as(passphrase="hunter2")).decode(), "PASS": "hunter2"}
    found = loaded(folder, mtls(f"pem: {{env: PEM}}, key_passphrase: {{env: PASS}}, {PRIVATE}"), pem)
    assert found.of("refused") == []
    lines = [LEAF.pem.decode().replace("\n", "\\n"), LEAF.key_pem.decode().replace("\n", "\\n")]
    pasted = f'certificate: {{inline: "{lines[0]}"}}, private_key: {{insecure_value: "{lines[1]}"}}, {PRIVATE}'
    for where in (mtls, beside):
        found = loaded(folder, where(pasted))
        assert found.of("unreadable") == []
        assert [error.message for error in found.warnings] == [
            "a secret is written in the config file: use this for trials only"
        ]


def test_what_cannot_be_read_of_a_variable_is_reported(folder: Path) -> None:
    """As of any other reference."""
    assert told(loaded(folder, mtls("pem: {env: NONE}"))) == [("auth.pem", "environment variable NONE is not set")]


def test_without_its_passphrase_nothing_is_said_of_a_key(folder: Path) -> None:
    """The passphrase is the error."""
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    (folder / "tls.pem").write_bytes(CHAIN.pem + LEAF.key_as(passphrase="hunter2"))
    for keys in (FILES, "pem: {file: tls.pem}"):
        found = loaded(folder, mtls(f"{keys}, key_passphrase: {{env: NONE}}, {PRIVATE}"))
        assert told(found) == [("auth.key_passphrase", "environment variable NONE is not set")]


def test_a_passphrase_that_stands_in_a_file_is_watched(folder: Path) -> None:
    """It changes with the key."""
    (folder / "tls.key").write_bytes(LEAF.key_as(passphrase="hunter2"))
    (folder / "tls.pass").write_text("hunter2\n")
    found = loaded(folder, mtls(f"{FILES}, key_passphrase: {{file: tls.pass}}, {PRIVATE}"))
    assert found.snapshot is not None
    certificate = found.snapshot.integrations["bank"].certificate
    assert certificate is not None
    assert certificate.identity is not None
    assert certificate.files[-1] == folder / "tls.pass"


@pytest.mark.parametrize(
    ("days", "reason"),
    [(100, "this certificate expired on 2026-08-29 00:00 UTC"), (-9, "this certificate is valid only from")],
)
def test_out_of_its_time_a_certificate_is_not_used(folder: Path, days: int, reason: str) -> None:
    """The integration is not usable."""
    found = loaded(folder, mtls(f"{FILES}, {PRIVATE}"), now=PRESENT + days * 86400)
    assert [text.startswith(reason) for _, text in told(found)] == [True]
    assert found.snapshot is not None
    assert not found.snapshot.integrations["bank"].usable


def test_remarks_are_warnings(folder: Path) -> None:
    """The integration is usable."""
    odd = issue(usages=[SERVER_AUTH])
    (folder / "tls.crt").write_bytes(odd.pem)
    (folder / "tls.key").write_bytes(odd.key_pem)
    found = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert found.of("refused") == []
    assert [error.path for error in found.warnings] == ["integrations.bank.auth.certificate"]


BY_URL = 'certificate: {url: "https://vault.example/crt"}, private_key: {file: tls.key}, refresh: 5m'


def test_what_comes_by_url_is_judged_once_it_was_fetched(folder: Path) -> None:
    """Until then nothing is known against it."""
    found = loaded(folder, beside(BY_URL))
    assert found.of("refused") == found.of("unreadable") == found.warnings == []
    assert found.snapshot is not None
    integration = found.snapshot.integrations["bank"]
    certificate = integration.certificate
    assert certificate is not None
    place = ("client_certificate", "certificate")
    assert (certificate.urls, certificate.refresh_every) == (((place, "https://vault.example/crt"),), 300.0)
    assert str(certificate.unreadable) == "client_certificate.certificate: has not been fetched yet"
    assert integration.usable
    certificate.receive({place: CHAIN.pem})
    certificate.load(PRESENT)
    assert str(certificate.unreadable).startswith("client_certificate.certificate: ")
    assert "write allow_private_ca: true" in str(certificate.unreadable)
    assert certificate.warnings == ()
    assert not integration.usable


def test_what_is_good_once_it_was_fetched_has_no_error(folder: Path) -> None:
    found = loaded(folder, beside(f"{BY_URL}, {PRIVATE}"))
    assert found.snapshot is not None
    certificate = found.snapshot.integrations["bank"].certificate
    assert certificate is not None
    certificate.receive({("client_certificate", "certificate"): CHAIN.pem + issue("stranger").pem})
    certificate.load(PRESENT)
    assert certificate.unreadable is None
    text = "the certificate of CN=stranger is not part of the chain and is not sent"
    assert certificate.warnings == ((("client_certificate", "certificate"), text),)


def test_a_rotated_pair_is_reloaded(folder: Path) -> None:
    """Half of it is not: the old one goes on."""
    found = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert found.snapshot is not None
    certificate = found.snapshot.integrations["bank"].certificate
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


def test_a_policy_that_is_decided_later_keeps_the_ring(folder: Path) -> None:
    """Whoever watches the certificate watches that one."""
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


def test_a_file_that_is_too_large_is_a_mistake(folder: Path) -> None:
    """More than 256 KiB is no certificate."""
    (folder / "tls.crt").write_bytes(bytes((256 << 10) + 1))
    assert told(loaded(folder, mtls(FILES))) == [("auth.certificate", "tls.crt must be at most 256 KiB")]


def test_the_stamps_of_what_was_read_are_reported_once(folder: Path) -> None:
    """They are not those of the config, whose change asks for another load; what is kept is not read again."""
    files = {path: stamp(path) for path in (folder / "tls.crt", folder / "tls.key")}
    loader = Loader(folder / "sidekey.yaml", {})
    first = loaded(folder, mtls(f"{FILES}, {PRIVATE}"))
    assert first.certificates == files
    assert files.keys().isdisjoint(first.stamps)
    assert [loader.load(PRESENT).certificates for _ in range(2)] == [files, {}]
