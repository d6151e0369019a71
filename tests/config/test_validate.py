"""Validation of integrations, and unreadable references of invalid ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidekey.config.errors import Finding
from sidekey.config.stored.document import merge_patch, with_new_ids
from sidekey.config.validate import validate, validate_saved
from sidekey.config.yaml_reader import parse
from sidekey.credentials.context import Context
from support.sidekey_process import run_cli
from support.stored import BASIC, PROFILE, copied

CONFIG = """\
version: 1
callers:
  app: {token: {file: no-token}, integrations: "*", colour: red}
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/v1
    colour: {secret: {file: no-colour}}
    auth: {type: basic, username: {env: NO_USER}, password: {file: no-password}}
    add: {query: {file: report.pdf}, headers: {X-Key: {secret: {file: no-key}}}}
  billing:
    endpoint_prefix: https://billing.example.com/v1
    auth: {type: basic, username: u, password: {file: 5}}
  token:
    endpoint_prefix: https://token.example.com/v1
    colour: red
    auth: {type: jwt, algorithm: HS256, secret: {file: no-secret}, claims: {env: NO_CLAIM}}
  assertion:
    colour: red
    auth:
      type: oauth2
      token_endpoint: https://auth.example.com/token
      client_id: id
      client_authentication: {type: private_key_jwt, algorithm: ES256, private_key: {file: no-key}, claims: {env: prod}}
"""


def test_unreadable_secrets_are_listed_beside_errors_of_the_same_section(tmp_path: Path) -> None:
    """Values under an unknown key are not read, nor are values with the name `file` or `env`."""
    config = tmp_path / "sidekey.yaml"
    config.write_text(CONFIG)
    result = run_cli("check", "--config", str(config))
    assert result.returncode == 1
    assert re.findall(r":\d+:\d+: ([^ ]+): (.+?)(?:[;:,] .*)?$", result.stdout, re.M) == [
        ("callers.app.token", "the file does not exist"),
        ("callers.app.colour", "unknown key"),
        ("integrations.crm.colour", "unknown key"),
        ("integrations.crm.auth.username", "environment variable NO_USER is not set"),
        ("integrations.crm.auth.password", "the file does not exist"),
        ("integrations.crm.add.headers.X-Key.secret", "the file does not exist"),
        ("integrations.billing.auth.password", "file must be a text"),
        ("integrations.token.colour", "unknown key"),
        ("integrations.token.auth.secret", "the file does not exist"),
        ("integrations.assertion.colour", "unknown key"),
        ("integrations.assertion.auth.client_authentication.private_key", "the file does not exist"),
    ]


def test_a_file_and_a_stored_document_have_the_same_errors() -> None:
    """Except the hint for plain text in place of a secret."""
    document = {
        "endpoint_prefix": "x",
        "methods": ["get"],
        "test": 1,
        "auth": {"type": "headers", "headers": {"X Y": "a"}},
    }
    text = "endpoint_prefix: x\nmethods: [get]\ntest: 1\nauth: {type: headers, headers: {X Y: a}}\n"
    of_file = validate(parse("c.yaml", text.encode())[0], Context("file"))
    assert of_file.errors == validate(with_new_ids(document), Context("body")).errors
    assert len(of_file.errors) == 4
    assert of_file.settings is None


@pytest.mark.parametrize(("stored", "way_out"), [(False, "use {file: PATH}"), (True, "send {value: SECRET}")])
def test_hint_fits_the_source_of_the_document(stored: bool, way_out: str) -> None:
    """A stored document cannot name files."""
    document = copied(BASIC)
    document["auth"] = {"type": "basic", "username": {"value" if stored else "env": "USER"}, "password": "hunter2"}
    raw, context = (with_new_ids(document), Context("body")) if stored else (document, Context("file"))
    (error,) = validate(raw, context).errors
    assert error.loc == ("auth", "password")
    assert way_out in error.message


def test_error_of_an_addition_is_located_at_the_provider() -> None:
    document = with_new_ids({**PROFILE, "allow_other_domains": True, "allowed_domains": []})
    assert validate(document, Context("body")).errors == (
        Finding(
            ("allow_other_domains",),
            "needs allowed_domains: list the domains, or remove this key",
            source_loc=("allow_other_domains",),
        ),
    )
    missing = validate(with_new_ids({"auth": {"type": "oauth2", "provider": "commercetools"}}), Context("body"))
    assert [error.document_loc for error in missing.errors] == [
        ("auth", "region"),
        ("auth", "client_id"),
        ("auth", "client_secret"),
    ]


def test_saved_document_is_validated_with_its_saved_additions() -> None:
    """Even if the profile no longer exists."""
    saved = merge_patch(PROFILE, {"auth": {"client_secret": {"value": None, "set": True, "id": "s_1"}}})
    validated = validate(saved, Context("row"))
    assert validated.expansion.additions is not None
    additions = validated.expansion.additions._replace(provider="gone")
    again = validate_saved(saved, additions)
    assert again.errors == ()
    assert again.settings == validated.settings
    assert again.expansion.table == validated.expansion.table
