"""`sidekey completion` in real shells, and the completion of IDs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidekey.cli import COMMANDS
from support import programs
from support.commands import GOOD, write_config
from support.sidekey_process import run_cli, run_process


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell: str) -> None:
    result = run_cli("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"_SIDEKEY_COMPLETE={shell}_complete" in result.stdout
    assert run_cli("completion", "tcsh").returncode == 2


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sidekey").write_text(f'#!/bin/sh\nexec {sys.executable} -m sidekey "$@"\n')
    (tmp_path / "sidekey").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SIDEKEY_CONFIG": write_config(tmp_path), "HOME": str(tmp_path)}


def output(command: list[str], environment: dict[str, str]) -> list[str]:
    """Return the output of a shell."""
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_bash_completes_commands(environment: dict[str, str]) -> None:
    script = (
        'eval "$(sidekey completion bash)"; COMP_WORDS=(sidekey expl); COMP_CWORD=1; '
        '_sidekey_completion sidekey; echo "${COMPREPLY[@]}"'
    )
    assert output(["bash", "-c", script], environment) == ["explain"]


def test_fish_completes_commands_and_ids(environment: dict[str, str]) -> None:
    """The descriptions are complete summaries, including commas."""
    script = 'sidekey completion fish | source; complete -C "sidekey expl"; complete -C "sidekey test c"'
    explain = f"explain\t{COMMANDS['explain'].summary}"
    assert output([programs.require("fish"), "--no-config", "-c", script], environment) == [explain, "crm"]


def test_zsh_completes_commands_and_ids(environment: dict[str, str]) -> None:
    """The script replaces functions of zsh by functions that print their arguments."""
    script = """
        compdef() {}; _describe() { print -rl -- ${(P)3} }; compadd() { print -rl -- ${(P)5} }
        eval "$(sidekey completion zsh)"
        words=(sidekey expl) CURRENT=2; _sidekey_completion
        words=(sidekey test c) CURRENT=3; _sidekey_completion
    """
    explain = f"explain:{COMMANDS['explain'].summary}"
    assert output([programs.require("zsh"), "-f", "-c", script], environment) == [explain, "crm"]


def completed(folder: Path, *words: str) -> list[str]:
    """Return bash's completions for the last of these words."""
    variables = {"_SIDEKEY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("sidekey", *words))}
    result = run_process(environment={**variables, "COMP_CWORD": str(len(words))}, folder=folder)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_ids_are_completed_from_the_config(tmp_path: Path) -> None:
    """With an invalid config, the commands complete and print nothing."""
    path = write_config(tmp_path)
    for command in ("test", "explain", "env", "exec"):
        assert completed(tmp_path, command, "--config", path, "c") == ["crm"]
    assert completed(tmp_path, "exec", "--config", path, "crm", "c") == []
    (tmp_path / "wrong.yaml").write_text("version: 2\n")
    assert completed(tmp_path, "test", "--config", "wrong.yaml", "c") == []


def test_ids_of_presets_are_completed(tmp_path: Path) -> None:
    preset = "{integration: crm, url: 'https://api.example.com/v1/x', content_type: text/plain}"
    path = write_config(tmp_path, f"{GOOD}presets:\n  welcome: {preset}\n")
    assert completed(tmp_path, "preset", "preview", "--config", path, "w") == ["welcome"]
