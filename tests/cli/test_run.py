"""Errors of `sidekey run` before it starts."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import GOOD, INVALID, INVALID_PLACES, write_config
from support.ports import listening_socket
from support.sidekey_process import SidekeyProcess, run_process


def test_run_does_not_start_with_an_invalid_config(tmp_path: Path) -> None:
    result = run_process("run", "--config", write_config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert len(lines) >= len(INVALID_PLACES)
    assert {(line["level"], line["event"]) for line in lines} == {("error", "config error")}


def test_run_strict_does_not_start_without_a_secret(tmp_path: Path) -> None:
    result = run_process("run", "--strict", "--config", write_config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stderr
    assert "listening" not in result.stderr


@pytest.mark.parametrize("key", ["proxy", "admin", "metrics"])
def test_address_in_use_names_its_key(key: str, tmp_path: Path) -> None:
    with listening_socket() as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        listeners = {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"} | {key: address}
        path = write_config(tmp_path, f"{GOOD}listen: {json.dumps(listeners)}\n")
        result = run_process("run", "--config", path)
    assert result.returncode == 1
    assert f"listen.{key}: {address} is in use; stop what listens there" in result.stderr
    assert "Traceback" not in result.stderr


def test_error_before_the_log_is_open_is_a_json_line(tmp_path: Path) -> None:
    """A log collector can parse every line of standard error, even with a log file."""
    with listening_socket() as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        log = f"log: {{file: '{tmp_path / 'sidekey.log'}', format: json}}\n"
        path = write_config(tmp_path, f"{GOOD}{log}listen: {{proxy: '127.0.0.1:0', admin: '{address}'}}\n")
        result = run_process("run", "--config", path)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    last = lines[-1]
    assert (result.returncode, last["level"], last["event"]) == (1, "error", "Sidekey cannot start")
    assert last["reason"].startswith(f"listen.admin: {address} is in use")


@pytest.mark.parametrize("errors", [True, False], ids=["errors in the config", "an address in use"])
def test_error_before_the_log_is_open_is_text_with_the_log_format_text(errors: bool, tmp_path: Path) -> None:
    """`log.format` applies even if another key has an error."""
    with listening_socket() as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        more = f"log: {{format: text}}\nlisten: {{proxy: '{address}'}}\n" + ("surprise: true\n" if errors else "")
        path = write_config(tmp_path, f"{GOOD}{more}")
        result = run_process("run", "--config", path)
    assert result.returncode == 1
    expected = f"{path}:" if errors else f"listen.proxy: {address} is in use"
    assert result.stderr.splitlines()[-1].startswith(expected)


def test_error_before_the_log_is_open_is_text_on_a_terminal(tmp_path: Path) -> None:
    """The default format on a terminal is text."""
    path = write_config(tmp_path, f"{GOOD}surprise: true\n")
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb", buffering=0) as reader:
        command = [sys.executable, "-m", "sidekey", "run", "--config", path]
        with os.fdopen(terminal, "wb") as stderr:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=stderr, check=False).returncode
            output = reader.read(65536).decode()
    assert status == 1
    assert output.startswith(f"{path}:")


EARLY_SIGNALS = """
import os, signal, sys
from sidekey.cli import main

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "sidekey.app":
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)

sys.meta_path.insert(0, Sender())
main(sys.argv[1:], prog_name="sidekey")
"""


def test_signals_before_sidekey_listens_are_ignored(tmp_path: Path) -> None:
    """By default these signals would end the process."""
    with SidekeyProcess("integrations: {}\n", tmp_path, code=EARLY_SIGNALS) as child:
        assert child.stop() == 0
