"""What keeps `sidekey run` from starting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.child import run_cli
from support.commands import GOOD, INVALID, INVALID_PLACES, write_config
from support.ports import listening_socket


def test_run_does_not_start_with_an_invalid_config(tmp_path: Path) -> None:
    """All errors are named before anything listens, exit 1."""
    result = run_cli("run", "--config", write_config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) >= len(INVALID_PLACES)
    assert "listening" not in result.stderr


def test_run_strict_does_not_start_without_a_secret(tmp_path: Path) -> None:
    """--strict makes an unreadable secret an error."""
    result = run_cli("run", "--strict", "--config", write_config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stderr
    assert "listening" not in result.stderr


@pytest.mark.parametrize("key", ["proxy", "admin", "metrics"])
def test_an_address_in_use_names_its_key(key: str, tmp_path: Path) -> None:
    """Exit 1 with one line that says which address and the way out."""
    with listening_socket() as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listeners = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"} | {key: address}
        path = write_config(tmp_path, f"{GOOD}listen: {json.dumps(listeners)}\n")
        result = run_cli("run", "--config", path)
    assert result.returncode == 1
    assert f"listen.{key}: {address} is in use; stop what listens there" in result.stderr
    assert "Traceback" not in result.stderr
