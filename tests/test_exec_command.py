"""The token of `sidekey exec`; that it becomes the command is shown with real ones in tests/clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidekey.exec_command import TokenError, read_token


def test_the_file_counts_before_the_variable(tmp_path: Path) -> None:
    """Without its last line break, which is an editor's."""
    (tmp_path / "token").write_text("of the file\n")
    assert read_token(str(tmp_path / "token"), {"SIDEKEY_TOKEN": "t"}) == "of the file"
    assert read_token(None, {"SIDEKEY_TOKEN": "t"}) == "t"
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("file", "value", "reason"),
    [
        ("/etc/nowhere", "", "/etc/nowhere does not exist"),
        (None, "", "SIDEKEY_TOKEN must not be empty"),
        (None, "s3cret\nx", "SIDEKEY_TOKEN must not contain a control character"),
        (None, "s3cret\udcff", "SIDEKEY_TOKEN must be UTF-8"),
    ],
)
def test_a_token_that_is_none_is_an_error_that_does_not_repeat_it(file: str | None, value: str, reason: str) -> None:
    with pytest.raises(TokenError, match=reason) as caught:
        read_token(file, {"SIDEKEY_TOKEN": value})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [("nowhere-to-be-found", 127, "not found"), ("/etc/passwd", 126, "cannot be run: Permission denied")],
)
def test_a_command_that_cannot_be_started_has_a_shells_status(command: str, status: int, reason: str) -> None:
    script = (
        "import sys; from sidekey.exec_command import *\n"
        "try: become((sys.argv[1],), {'PATH': '/bin'}, core_limit())\n"
        "except NotStarted as error: print(error.status, error)"
    )
    done = subprocess.run([sys.executable, "-c", script, command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{status} {command}: {reason}")
