"""Warnings of `sidekey check` about the files with which Sidekey and its callers identify themselves."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from support.caller_certificates import CallerCa, dns
from support.commands import GOOD, write_config
from support.sidekey_process import run_cli

FILES = "certificate: {file: server.crt}, private_key: {file: server.key}, client_ca: {file: callers.crt}"
TLS = f"listen: {{tls: {{{FILES}}}}}\n"


def warnings(folder: Path, more: str) -> list[str]:
    """Return the warnings of `check` about a config with these keys, without their place in the file."""
    result = run_cli("check", "--json", "--config", write_config(folder, GOOD + more))
    found = json.loads(result.stdout)["warnings"]
    return [text for warning in found if "insecure_value" not in (text := str(warning)) and "crm" not in text]


def test_valid_files_cause_no_warning(tmp_path: Path) -> None:
    CallerCa.create(tmp_path).server()
    assert warnings(tmp_path, TLS) == []


def test_expired_certificate_of_a_client(tmp_path: Path) -> None:
    """Clients refuse a server that presents it."""
    ca = CallerCa.create(tmp_path)
    ca.client("server", dns("localhost"), life=timedelta(hours=1))
    expired, usage = warnings(tmp_path, TLS)
    assert "listen.tls.certificate" in expired
    assert "expired at " in expired
    assert "is not for servers (extended key usage serverAuth)" in usage


def test_client_ca_that_is_no_ca(tmp_path: Path) -> None:
    ca = CallerCa.create(tmp_path)
    ca.server()
    (tmp_path / "callers.crt").write_bytes(ca.client("web", dns("web.example.org")).pem)
    (warning,) = warnings(tmp_path, TLS)
    assert "listen.tls.client_ca" in warning
    assert "no CA" in warning


def test_private_key_of_an_issuer(tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048, {"kid": "one"})
    issuer = "{issuer: 'https://issuer.example.com', audience: sidekey, jwks: {file: jwks.json}}"
    for private in (False, True):
        (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=private)]}))
        found = warnings(tmp_path, f"jwt_issuers: {{cluster: {issuer}}}\n")
        assert len(found) == private, found
    assert "jwt_issuers.cluster.jwks.file" in found[0]
    assert "has private keys" in found[0]


@pytest.mark.parametrize(
    ("address", "token", "errors", "warned"),
    [
        ("0.0.0.0:8080", "a" * 15, ["fewer than 16"], []),
        ("127.0.0.1:8080", "a" * 15, [], ["fewer than 16"]),
        ("unix:proxy.sock", "a" * 15, [], ["fewer than 16"]),
        ("0.0.0.0:8080", "a" * 16, [], []),
        *(("0.0.0.0:8080", f"{'a' * 16}{character}", [], ["percent-encoded"]) for character in "/+=@:%"),
        ("127.0.0.1:8080", "-._~" * 4, [], []),
    ],
)
def test_token_of_a_caller(address: str, token: str, errors: list[str], warned: list[str], tmp_path: Path) -> None:
    """A short one is an error where other machines reach the proxy. The output does not contain the token."""
    (tmp_path / "token").write_text(token)
    more = f"listen: {{proxy: '{address}'}}\ncallers: {{crm-team: {{token: {{file: token}}, integrations: [crm]}}}}\n"
    result = run_cli("check", "--json", "--config", write_config(tmp_path, GOOD + more))
    assert token not in result.stdout
    report = json.loads(result.stdout)
    for kind, expected in (("faults", errors), ("warnings", warned)):
        texts = [text for item in report[kind] if "has " in (text := str(item)) and "crm-team" in text]
        assert len(texts) == len(expected)
        assert all(part in text for part, text in zip(expected, texts, strict=True))
