"""`sidekey check` lists secrets that cannot be read together with the errors of the same part of the config."""

from __future__ import annotations

import re
from pathlib import Path

from support.child import run_cli

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


def test_check_lists_unreadable_secrets_beside_the_errors_of_the_same_part(tmp_path: Path) -> None:
    """What stands under an unknown key is not read, nor a value that is only called `file` or `env`."""
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
