"""`sidekey completion`, by a real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.child import run_cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_a_shell_reads(shell: str) -> None:
    """It asks this program."""
    result = run_cli("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"_SIDEKEY_COMPLETE={shell}_complete" in result.stdout
    assert run_cli("completion", "tcsh").returncode == 2


def test_a_real_bash_completes_commands(tmp_path: Path) -> None:
    """With the script as a user's `.bashrc` has it."""
    (tmp_path / "sidekey").write_text(f'#!/bin/sh\nexec {sys.executable} -m sidekey "$@"\n')
    (tmp_path / "sidekey").chmod(0o755)
    script = (
        'eval "$(sidekey completion bash)"; COMP_WORDS=(sidekey expl); COMP_CWORD=1; '
        '_sidekey_completion sidekey; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("explain\n", "")
