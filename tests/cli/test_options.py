"""Completion of IDs."""

from __future__ import annotations

from pathlib import Path

from support.child import run_process
from support.commands import GOOD, write_config


def completed(folder: Path, *words: str) -> list[str]:
    """Return bash's completions for the last of these words."""
    variables = {"_SIDEKEY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("sidekey", *words))}
    result = run_process(environment={**variables, "COMP_CWORD": str(len(words))}, folder=folder)
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_ids_are_completed_from_the_config(tmp_path: Path) -> None:
    """For every command with an ID. An invalid config has no completions, and prints nothing."""
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
