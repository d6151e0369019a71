"""docs/logs.md: its jq commands find lines in a real log, and logrotate accepts its rule."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support import files, programs
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.serving import HEAD, serving
from support.upstream import OK, RawUpstream
from tools.log_page import page

LINES = re.findall(r"^(jq .*?sidekey\.log.*?)$", page(), re.M | re.S)
CONFIG = """\
  crm:
    endpoint_prefix: "http://up.test:{port}/v1"
    auth: {{type: headers, headers: {{X-Key: {{secret: {{env: CRM}}}}}}}}
  broken:
    endpoint_prefix: "http://up.test:{port}/v1"
    auth: {{type: headers, headers: {{X-Key: {{secret: {{env: NONE}}}}}}}}
"""
TOKEN = "Sidekey-Token: token-of-billing"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, ca: Authority) -> tuple[Path, str]:
    """Return the folder of a log with all kinds of lines, and the ID of a response of Sidekey's own."""
    folder = tmp_path_factory.mktemp("logged")
    return folder, asyncio.run(write_log(folder, ca))


async def slowly(connection: RawConnection) -> None:
    """Respond after more than a second."""
    await connection.request()
    await asyncio.sleep(1.1)
    await connection.send(OK)


async def write_log(folder: Path, ca: Authority) -> str:
    """Serve all kinds of requests, and reload a config that permits more."""
    callers = "callers: {{billing: {{token: {{env: TOKEN}}, integrations: [crm, broken]}}}}\n"
    head = HEAD.replace("integrations:\n", f"{callers}integrations:\n").replace("path: true", "audit: uses")
    environ = {"CRM": "key-of-crm-0123", "TOKEN": "token-of-billing"}
    async with (
        RawUpstream(slowly) as upstream,
        serving(
            CONFIG.format(port=upstream.port),
            folder,
            ca,
            hosts={"up.test": ["127.0.0.1"]},
            environ=environ,
            head=head,
            whole=False,
        ) as sidekey,
    ):
        assert (await sidekey.reverse("/x", TOKEN, name="crm")).status == 200
        assert (await sidekey.reverse("/../x", TOKEN, name="crm")).status == 400
        failed = await sidekey.reverse("/x", TOKEN, name="broken")
        assert failed.status == 502
        path = folder / "sidekey.yaml"
        files.replace(path, path.read_text().replace("/v1", "", 1))
        sidekey.hang_up()
        await sidekey.logged("config changed")
        files.replace(path, "version: 2\n")
        sidekey.hang_up()
        await sidekey.logged("config error")
    (request_id,) = failed.values(b"sidekey-request-id")
    return request_id.decode()


def test_every_line_of_the_log_begins_with_time_level_and_event(logged: tuple[Path, str]) -> None:
    lines = [json.loads(line) for line in (logged[0] / "sidekey.log").read_text().splitlines()]
    assert {tuple(line)[:3] for line in lines} == {("timestamp", "level", "event")}
    assert {"listening", "request", "credential used", "config changed"} <= {line["event"] for line in lines}


def test_page_has_jq_commands() -> None:
    assert len(LINES) >= 9


@pytest.mark.parametrize("line", LINES)
def test_jq_command_finds_lines_and_no_secret(line: str, logged: tuple[Path, str]) -> None:
    programs.require("jq")
    folder, request_id = logged
    result = subprocess.run(
        ["sh", "-ec", line],
        cwd=folder,
        env={**os.environ, "ID": request_id},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip()
    assert "key-of-crm" not in result.stdout
    assert "token-of-billing" not in result.stdout
    if "$ID" in line:
        assert '"integration":"broken"' in result.stdout
        assert '"code":"credential_unavailable"' in result.stdout


def test_logrotate_accepts_the_rule(tmp_path: Path) -> None:
    logrotate = programs.require("logrotate")
    (rule,) = re.findall(r"^```text\n(/var/log.*?)^```", page(), re.M | re.S)
    (tmp_path / "sidekey.log").write_text("{}\n")
    path = tmp_path / "rule"
    path.write_text(rule.replace("/var/log/sidekey", str(tmp_path)))
    path.chmod(0o600)
    command = [logrotate, "--debug", "--force", "--state", str(tmp_path / "state"), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "error" not in result.stderr
    assert "running postrotate script" in result.stderr
    assert "SIGUSR1" in result.stderr
