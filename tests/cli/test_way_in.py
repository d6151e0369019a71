"""How a service reaches Sidekey, as `env` and `exec` find it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.child import run_cli, run_process
from support.commands import GOOD, SECRET, write_config


@pytest.mark.parametrize("command", [["env", "--by-host"], ["exec", "--by-host", "--", "echo", "ran"]], ids=" ".join)
def test_by_host_needs_a_config_that_matches_by_host(command: list[str], tmp_path: Path) -> None:
    """Each request would be 407 otherwise."""
    where = {"SIDEKEY_CONFIG": write_config(tmp_path)}
    refused = run_cli(*command, environment=where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "forward.match_by_host: must be true" in refused.stderr
    where = {"SIDEKEY_CONFIG": write_config(tmp_path, GOOD + "forward: {match_by_host: true}\n")}
    assert run_process(*command, environment=where).returncode == 0


@pytest.mark.parametrize("proxy", ["https://h:1", f"http://crm:{SECRET}@h:1"])
def test_a_proxy_url_on_the_command_line_holds_no_token(proxy: str, tmp_path: Path) -> None:
    """Others see it there."""
    result = run_cli("exec", "crm", "--proxy", proxy, "--trust", str(tmp_path), "--", "true")
    assert result.returncode == 2
    assert SECRET not in result.stdout + result.stderr
    assert run_cli("env", "CRM", "--proxy", "http://h:1", "--trust", str(tmp_path)).returncode == 2


def test_the_trust_folder_of_another_users_sidekey_is_used(tmp_path: Path) -> None:
    """Who may not enter the folder of the CA needs no more than what is for callers."""
    text = GOOD + "ca: {folder: state, trust_folder: trust}\n"
    path = write_config(tmp_path, text)
    assert run_cli("ca", "show", "--config", path).returncode == 0
    (tmp_path / "state" / "ca" / "authorities.json").write_text("not to be read")
    assert f"SSL_CERT_FILE={tmp_path}/trust/bundle.pem" in run_cli("env", "crm", "--config", path).stdout.replace(
        "'", ""
    )
    (tmp_path / "trust" / "ca.pem").unlink()
    result = run_cli("env", "crm", "--config", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "authorities.json" in result.stderr
