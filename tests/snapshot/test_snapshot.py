"""The snapshot: it shows no secret, and knows which integrations are usable."""

from dataclasses import replace
from pathlib import Path

import pytest

from sidekey.config.load import load
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import Keys
from sidekey.policy.headers import CODED_BODY_FIELDS, METHOD_OVERRIDES, TARGET_FIELDS
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.snapshot import Address, Snapshot
from support.plane import base_url, integration
from support.signing import NAMES, HmacSigner, signing_integration

CONFIG = """\
version: 1
callers: {billing: {token: {insecure_value: hunter2}}}
integrations:
  crm:
    endpoint_prefix: https://api.example.com
    auth: {type: basic, username: svc, password: {insecure_value: hunter2}}
  sms:
    endpoint_prefix: https://api.example.com
    auth: {type: headers, headers: {X-Key: {prefix: "Key ", secret: {env: SMS}}, X-Public: hunter2}}
"""
ENCODED = "c3ZjOmh1bnRlcjI="
"""svc:hunter2, as Basic sends it."""


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    path = tmp_path / "sidekey.yaml"
    path.write_text(CONFIG)
    loaded = load(path, {"SMS": "hunter2"})
    assert loaded.snapshot is not None
    return loaded.snapshot


@pytest.mark.parametrize("show", [repr, str, "{}".format], ids=["repr", "str", "format"])
def test_snapshot_shows_no_secret(snapshot: Snapshot, show: type[str]) -> None:
    """Neither as written nor as sent."""
    assert "REDACTED" in show(snapshot)
    assert "hunter2" not in show(snapshot)
    assert ENCODED not in show(snapshot)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("127.0.0.1", 8080), "127.0.0.1:8080"),
        (Address("::1", 8080), "[::1]:8080"),
        (Address(path="/run/sidekey.sock"), "unix:/run/sidekey.sock"),
    ],
)
def test_address_is_shown_as_in_the_config(address: Address, text: str) -> None:
    """Operators can paste it from messages."""
    assert str(address) == text


IDENTITY = ClientIdentity(b"chain", b"key", "1" * 64, 0.0, 100.0, "CN=client", "CN=ca")
PLACE = ("client_certificate", "pem")


@pytest.mark.parametrize(
    ("result", "urls", "usable"),
    [
        (CertificateResult(IDENTITY), (), True),
        (CertificateResult(None, ((PLACE, "this is empty"),)), (), False),
        (
            CertificateResult(None, ((PLACE, "has not been fetched yet"),)),
            ((PLACE, "https://vault.example/pem"),),
            True,
        ),
    ],
    ids=["good", "invalid", "not fetched yet"],
)
def test_invalid_certificate_makes_an_integration_unusable(
    snapshot: Snapshot, result: CertificateResult, urls: tuple[tuple[Keys, str], ...], usable: bool
) -> None:
    """One that must be fetched first is not known to be invalid."""
    certificate = CertificateLoader(lambda *_: result, urls=urls)
    certificate.load(0.0)
    assert snapshot.integrations["crm"].usable
    assert replace(snapshot.integrations["crm"], certificate=certificate).usable is usable


def test_integration_without_its_secret_is_not_usable(tmp_path: Path) -> None:
    path = tmp_path / "sidekey.yaml"
    path.write_text(CONFIG)
    snapshot = load(path, {}).snapshot
    assert snapshot is not None
    assert not snapshot.integrations["sms"].usable


def test_injected_and_target_headers_are_stripped() -> None:
    """Also headers of the signer that it does not keep, and method overrides if methods are restricted."""
    always = {b"authorization", *TARGET_FIELDS}
    assert integration("h", base_url(1)).removed_headers == always
    signed = signing_integration(HmacSigner(), redact_response=True)
    assert signed.removed_headers == {*always, *NAMES, *CODED_BODY_FIELDS} - {b"x-id"}
    assert signed.caller_fields == {b"x-id"}
    assert integration("h", base_url(1), methods=("GET",)).removed_headers == {*always, *METHOD_OVERRIDES}
    with_pass_headers = replace(integration("h", base_url(1)), pass_headers=frozenset({b"forwarded"}))
    assert with_pass_headers.removed_headers == always - {b"forwarded"}
