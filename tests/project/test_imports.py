"""What a running Sidekey keeps in memory: libraries of kinds that are not configured are not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.child import Child

HEAVY = {"cryptography", "joserfc"}
"""For client certificates and for signed assertions; they would cost half as much memory as everything else."""

OF_A_STORE = {"sqlite3", "asyncpg", "jinja2", "markupsafe"}

CONFIG = """
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/api
    auth: {type: basic, username: svc, password: {env: CRM_PASSWORD}}
  sms:
    endpoint_prefix: https://sms.example.com/api
    auth: {type: headers, headers: {X-Token: {secret: {env: SMS_TOKEN}}}}
"""


def test_the_command_line_imports_no_library_of_another_kind() -> None:
    """`import sidekey.cli` stays light."""
    code = "import sys, sidekey.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(result.stdout.split())
    assert "sidekey" in imported
    assert imported & HEAVY == set()


def test_a_run_with_basic_and_headers_imports_no_library_of_another_kind(tmp_path: Path) -> None:
    """A process that serves `basic` and `headers` never loads cryptography, and without `store` nothing of a store."""
    # With this variable Python writes a line for each module it imports, the name in the last column.
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "CRM_PASSWORD": "one", "SMS_TOKEN": "two"}
    with Child(CONFIG, tmp_path, environment=environment, fresh=True) as child:
        assert child.stop() == 0
    modules = {line.rpartition("|")[2].strip() for line in child.lines if "|" in line}
    imported = {name.partition(".")[0] for name in modules}
    assert "httptools" in imported
    assert imported & (HEAVY | OF_A_STORE) == set()
    managing = ("sidekey.store", "sidekey.settings.stored", "sidekey.admin.api", "sidekey.admin.console")
    assert "sidekey.admin.listeners" in modules
    assert {name for name in modules if name.startswith(managing)} == set()
    assert modules & {"sidekey.managed", "sidekey.admin.extension"} == set()
