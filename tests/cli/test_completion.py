"""`sidekey completion` in real shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidekey.cli import COMMANDS
from support import programs
from support.child import run_cli
from support.commands import write_config


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell: str) -> None:
    result = run_cli("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"_SIDEKEY_COMPLETE={shell}_complete" in result.stdout
    assert run_cli("completion", "tcsh").returncode == 2


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a shell that finds `sidekey` and a config."""
    (tmp_path / "sidekey").write_text(f'#!/bin/sh\nexec {sys.executable} -m sidekey "$@"\n')
    (tmp_path / "sidekey").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SIDEKEY_CONFIG": write_config(tmp_path), "HOME": str(tmp_path)}


def output(command: list[str], environment: dict[str, str]) -> list[str]:
    """Return the output of a shell."""
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    return run.stdout.splitlines()


def test_a_real_bash_completes_commands(environment: dict[str, str]) -> None:
    """The script is loaded as in a user's `.bashrc`."""
    script = (
        'eval "$(sidekey completion bash)"; COMP_WORDS=(sidekey expl); COMP_CWORD=1; '
        '_sidekey_completion sidekey; echo "${COMPREPLY[@]}"'
    )
    assert output(["bash", "-c", script], environment) == ["explain"]


def test_a_real_fish_completes_commands_and_ids(environment: dict[str, str]) -> None:
    """With complete summaries, including commas."""
    script = 'sidekey completion fish | source; complete -C "sidekey expl"; complete -C "sidekey test c"'
    explain = f"explain\t{COMMANDS['explain'].summary}"
    assert output([programs.require("fish"), "--no-config", "-c", script], environment) == [explain, "crm"]


def test_a_real_zsh_completes_commands_and_ids(environment: dict[str, str]) -> None:
    """zsh's own functions are replaced by functions that print their arguments."""
    script = """
        compdef() {}; _describe() { print -rl -- ${(P)3} }; compadd() { print -rl -- ${(P)5} }
        eval "$(sidekey completion zsh)"
        words=(sidekey expl) CURRENT=2; _sidekey_completion
        words=(sidekey test c) CURRENT=3; _sidekey_completion
    """
    explain = f"explain:{COMMANDS['explain'].summary}"
    assert output([programs.require("zsh"), "-f", "-c", script], environment) == [explain, "crm"]
