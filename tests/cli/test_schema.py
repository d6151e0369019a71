"""`sidekey schema`, as a process."""

from __future__ import annotations

import json

from sidekey.settings.schema import schema
from support.child import run_cli


def test_schema_prints_the_schema_of_the_config() -> None:
    """JSON, and nothing else."""
    result = run_cli("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout) == schema()
