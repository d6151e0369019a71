"""The running Sidekey that tests start, watch and stop."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from support.child import Child, run_cli

CONFIG = """
integrations:
  crm:
    endpoint_prefix: https://crm.example.com/api
    auth: {type: basic, username: svc, password: {env: CRM_PASSWORD}}
"""


def test_a_child_listens_until_it_is_stopped(tmp_path: Path) -> None:
    """Both listeners take connections once the block is entered; SIGTERM ends the process with 0."""
    with Child(CONFIG, tmp_path, environment={"CRM_PASSWORD": "one"}) as child:
        for port in (child.proxy_port, child.admin_port):
            socket.create_connection(("127.0.0.1", port), timeout=15).close()
        assert child.stop() == 0
    for port in (child.proxy_port, child.admin_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=15)


def test_what_a_child_writes_can_be_waited_for(tmp_path: Path) -> None:
    """Lines are collected while it runs; the one about an unreadable secret names its place."""
    with Child(CONFIG, tmp_path) as child:
        line = child.wait_for_line(lambda line: "cannot be read" in line)
    assert "integrations.crm.auth.password" in json.loads(line)["place"]


def test_a_child_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The words of Sidekey stand in the failure."""
    child = Child("no_such_key: 1\n", tmp_path)
    with pytest.raises(RuntimeError, match="no_such_key"), child:
        pass
    assert child.process.returncode == 1


def test_a_command_runs_to_its_end(tmp_path: Path) -> None:
    """`run_cli` gives the exit status and the output."""
    config = tmp_path / "sidekey.yaml"
    config.write_text("version: 1\nno_such_key: 1\n")
    result = run_cli("check", "--config", str(config))
    assert result.returncode == 1
    assert "no_such_key" in result.stdout + result.stderr
