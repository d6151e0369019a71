"""Configs for tests of commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SECRET = "not-to-be-seen-4711"

GOOD = f"""\
version: 1
integrations:
  crm:
    description: CRM send API
    tags: [crm, eu]
    endpoint_prefix: https://crm.example.com/api
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
  sms:
    endpoint_prefix: https://sms.example.com
    auth: {{type: headers, headers: {{X-Key: {{secret: {{file: sms-key}}}}}}}}
"""

TOKENS = f"""\
version: 1
integrations:
  shop:
    auth:
      type: oauth2
      provider: commercetools
      region: europe-west1.gcp
      client_id: id
      client_secret: {{file: shop-secret}}
      token_placement: query
  campaigns:
    description: Triggered messages
    auth:
      type: responsys
      login_endpoint: https://login2.responsys.net
      username: api
      password: {{insecure_value: {SECRET}}}
"""

INVALID = f"""\
version: 1
listen: {{proxy: nowhere, admin: "127.0.0.1:0"}}
surprise: true
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/api?x=1
    auth: {{type: basic, username: svc, password: {SECRET}}}
  Sms:
    endpoint_prefix: https://sms.example.com
    auth: {{type: nothing}}
"""


INVALID_PLACES = [
    "2:17: listen.proxy: ",
    "3:1: surprise: ",
    "6:22: integrations.crm.endpoint_prefix: ",
    "7:",
    "8:3: integrations.Sms: ",
    "10:",
]

CALLERS = GOOD + f"callers: {{billing: {{token: {{insecure_value: {SECRET}}}, integrations: [crm]}}}}\n"


def write_config(folder: Path, text: str = GOOD, *, sms_key: str | None = SECRET) -> str:
    """Write a config file with this text, and the file of its secret if it has one."""
    path = folder / "sidekey.yaml"
    path.write_text(text)
    if sms_key is not None:
        (folder / "sms-key").write_text(sms_key)
    return str(path)


def imported_by(*arguments: str, environment: Mapping[str, str] | None = None) -> set[str]:
    """Return the top-level packages that a command imports, from the last column of Python's output."""
    command = [sys.executable, "-X", "importtime", "-m", "sidekey", *arguments]
    variables = {**os.environ, **(environment or {})}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
