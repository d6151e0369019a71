"""A running Sidekey with a log file: logrotate renames it, a reload moves it, and no line is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from http.client import HTTPConnection
from pathlib import Path

from support import programs
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess, run_cli, run_process

CONFIG = """\
log: {{access: all, file: {file}}}
integrations:
  it: {{endpoint_prefix: "http://127.0.0.2:9/a", auth: {{type: headers, headers: {{X-Public: "1"}}}}}}
"""


def send(child: SidekeyProcess, count: int) -> None:
    """Send requests that fail at once, because nothing listens there."""
    connection = HTTPConnection("127.0.0.1", child.proxy_port, timeout=DEADLINE)
    for _ in range(count):
        connection.request("GET", "/i/it/x")
        assert connection.getresponse().read()
    connection.close()


def count_requests(*files: Path) -> int:
    """Return the number of request lines. Each must be complete."""
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sum(line["event"] == "request" for line in lines)


def until_exists(path: Path) -> None:
    """Wait for a file."""
    for _ in range(int(DEADLINE / 0.01)):
        if path.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(path)


def test_logrotate_loses_no_line(tmp_path: Path) -> None:
    """logrotate sends SIGUSR1, as in docs/logs.md."""
    logrotate = programs.require("logrotate")
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o700)
    log, rotated = folder / "sidekey.log", folder / "sidekey.log.1"
    with SidekeyProcess(CONFIG.format(file="logs/sidekey.log"), tmp_path) as child:
        send(child, 50)
        until_logged(log, '"event":"request"')
        rule = tmp_path / "rule"
        rule.write_text(
            f"{log} {{\n  rotate 7\n  nocreate\n  postrotate\n    kill -USR1 {child.process.pid}\n  endscript\n}}\n"
        )
        rule.chmod(0o600)
        subprocess.run([logrotate, "--force", "--state", str(tmp_path / "state"), str(rule)], check=True)
        until_exists(log)
        send(child, 50)
        assert child.stop() == 0
    assert count_requests(rotated) >= 1
    assert count_requests(log) >= 50
    assert count_requests(rotated, log) == 100
    assert log.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["event"] for line in child.lines] == ["log lines go to a file"]


def test_reload_moves_the_log_or_reports_an_error(tmp_path: Path) -> None:
    """With an unusable file, Sidekey keeps the previous one."""
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with SidekeyProcess(CONFIG.format(file=first), tmp_path) as child:
        send(child, 1)
        child.rewrite(child.config.read_text().replace(str(first), str(tmp_path / "none" / "log")))
        until_logged(first, f"log.file: the folder {tmp_path / 'none'} does not exist")
        send(child, 1)
        child.rewrite(child.config.read_text().replace(str(tmp_path / "none" / "log"), str(second)))
        until_logged(second, "config reloaded")
        assert json.loads(first.read_text().splitlines()[-1])["file"] == str(second)
        send(child, 1)
        child.process.send_signal(signal.SIGUSR1)
        assert child.stop() == 0
    assert (count_requests(first), count_requests(second)) == (2, 1)


def until_logged(path: Path, text: str) -> None:
    """Wait for a line that contains a text."""
    for _ in range(int(DEADLINE / 0.01)):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    raise TimeoutError(text)


def test_unusable_log_file_is_an_error_of_the_start(tmp_path: Path) -> None:
    config = tmp_path / "sidekey.yaml"
    config.write_text("version: 1\n" + CONFIG.format(file="none/sidekey.log"))
    for run, command in ((run_cli, "check"), (run_process, "run")):
        result = run(command, "--config", str(config))
        assert result.returncode == 1
        assert f"log.file: the folder {tmp_path / 'none'} does not exist: create it" in result.stdout + result.stderr


def test_sigusr1_without_a_file_changes_nothing(tmp_path: Path) -> None:
    """By default SIGUSR1 would end the process."""
    with SidekeyProcess(CONFIG.format(file="null"), tmp_path) as child:
        os.kill(child.process.pid, signal.SIGUSR1)
        send(child, 3)
        assert child.stop() == 0
    assert sum('"event":"request"' in line for line in child.lines) == 3
