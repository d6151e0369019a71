"""The token and the environment of `sidekey exec`. tests/clients runs real commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidekey.cli.exec import TokenError, read_token
from support.caller_certificates import CallerCa
from support.commands import CALLERS, GOOD, write_config
from support.sidekey_process import run_code, run_process


def test_token_file_takes_precedence_over_the_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of the file\n")
    assert read_token(str(tmp_path / "token"), {"SIDEKEY_TOKEN": "t"}) == "of the file"
    assert read_token(None, {"SIDEKEY_TOKEN": "t"}) == "t"
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("file", "value", "reason"),
    [
        ("/etc/nowhere", "", "/etc/nowhere does not exist"),
        ("nowhere.txt", "", "nowhere.txt does not exist; a relative path starts at the current folder"),
        (None, "", "SIDEKEY_TOKEN must not be empty"),
        (None, "s3cret\nx", "SIDEKEY_TOKEN must not contain a control character"),
        (None, "s3cret\udcff", "SIDEKEY_TOKEN must be UTF-8"),
    ],
)
def test_invalid_token_is_an_error_that_does_not_repeat_it(file: str | None, value: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason) as error:
        read_token(file, {"SIDEKEY_TOKEN": value})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [("nowhere-to-be-found", 127, "not found"), ("/etc/passwd", 126, "cannot be run: Permission denied")],
)
def test_command_that_cannot_start_has_the_exit_status_of_a_shell(command: str, status: int, reason: str) -> None:
    script = (
        "import sys; from sidekey.cli.exec import *\n"
        "try: replace_process((sys.argv[1],), {}, capture_start())\n"
        "except CommandNotStarted as error: print(error.status, error)"
    )
    result = run_code(script, command)
    assert result.stdout.startswith(f"{status} {command}: {reason}")


@pytest.mark.parametrize("initial", [{}, {"LC_CTYPE": "C.UTF-8"}, {"LANG": "C"}], ids=str)
def test_command_inherits_the_environment(initial: dict[str, str]) -> None:
    """The command does not get the LC_CTYPE that Python sets if there is no locale."""
    script = "from sidekey.cli.exec import *; replace_process(('/usr/bin/env',), {'HTTP_PROXY': 'p'}, capture_start())"
    result = subprocess.run([sys.executable, "-c", script], env=initial, capture_output=True, text=True, check=True)
    assert dict(line.split("=", 1) for line in result.stdout.splitlines()) == {**initial, "HTTP_PROXY": "p"}


def test_exec_needs_a_token_if_the_config_has_callers(tmp_path: Path) -> None:
    result = run_process("exec", "--config", write_config(tmp_path, CALLERS), "crm", "--", "echo", "ran")
    assert (result.returncode, result.stdout) == (1, "")
    assert "SIDEKEY_TOKEN" in result.stderr
    result = run_process(
        "exec", "--config", write_config(tmp_path, CALLERS), "crm", "--token-file", "/nowhere", "--", "echo", "ran"
    )
    assert (result.returncode, result.stdout) == (1, "")


CERTIFICATES = (
    GOOD
    + """\
listen: {tls: {certificate: {file: server.crt}, private_key: {file: server.key}, client_ca: {file: callers.crt}}}
ca: {folder: state}
callers:
  web: {certificate: {san: "dns:web.example.org"}, integrations: [crm]}
  job: {token: {insecure_value: token-of-the-job}, integrations: [sms]}
"""
)


def test_exec_leaves_the_password_empty_for_a_caller_with_a_certificate(tmp_path: Path) -> None:
    """Whatever is sent beside a certificate must be valid, so not even `x`. `sms` has no such caller."""
    CallerCa.create(tmp_path).server()
    path = write_config(tmp_path, CERTIFICATES)
    result = run_process("exec", "--config", path, "crm", "--", "printenv", "HTTPS_PROXY")
    assert (result.returncode, result.stdout) == (0, "https://crm:@127.0.0.1:8080\n"), result.stderr
    token = {"SIDEKEY_TOKEN": "t0"}
    result = run_process("exec", "--config", path, "crm", "--", "printenv", "HTTPS_PROXY", environment=token)
    assert result.stdout == "https://crm:t0@127.0.0.1:8080\n"
    result = run_process("exec", "--config", path, "sms", "--", "printenv", "HTTPS_PROXY")
    assert (result.returncode, result.stdout) == (1, "")
    assert "callers need a token" in result.stderr
