"""`sidekey check`, as a process: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

from support.child import run_cli
from support.commands import INVALID, INVALID_PLACES, SECRET, TOKENS, write_config


def test_check_of_a_good_config_says_how_many_integrations(tmp_path: Path) -> None:
    """Exit 0; warnings do not change that."""
    result = run_cli("check", "--config", write_config(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    *warnings, last = result.stdout.splitlines()
    assert last == "ok: 2 integrations"
    assert [line.partition(": ")[0] for line in warnings] == ["warning"]


def test_check_names_every_error_at_once_with_its_place(tmp_path: Path) -> None:
    """Each line begins with file:line:column and the path of the key."""
    path = write_config(tmp_path, INVALID)
    result = run_cli("check", "--config", path)
    assert result.returncode == 1
    places = [line.removeprefix(f"{path}:") for line in result.stdout.splitlines() if not line.startswith("warning")]
    assert len(places) >= len(INVALID_PLACES)
    for expected in INVALID_PLACES:
        assert any(place.startswith(expected) for place in places), (expected, places)


def test_check_names_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """What `run` would go on without is an error here."""
    result = run_cli("check", "--config", write_config(tmp_path, sms_key=None))
    assert result.returncode == 1
    assert "integrations.sms.auth.headers.X-Key.secret: the file does not exist" in result.stdout
    assert "ok:" not in result.stdout


def test_check_speaks_json(tmp_path: Path) -> None:
    """Errors as objects, for editors and pipelines."""
    path = write_config(tmp_path, INVALID)
    result = run_cli("check", "--json", "--config", path)
    found = json.loads(result.stdout)
    assert (result.returncode, found["ok"], found["integrations"]) == (1, False, 0)
    assert {"file", "line", "column", "path", "message"} == set(found["faults"][0])
    assert {error["file"] for error in found["faults"]} == {path}
    good = json.loads(run_cli("check", "--json", "--config", write_config(tmp_path)).stdout)
    assert (good["ok"], good["integrations"], good["faults"]) == (True, 2, [])


def test_check_warns_of_a_token_in_the_query(tmp_path: Path) -> None:
    """It loads, and its owner should know."""
    (tmp_path / "shop-secret").write_text(SECRET)
    path = write_config(tmp_path, TOKENS)
    result = run_cli("check", "--config", path)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"warning: {path}:10:24: integrations.shop.auth.token_placement: "
        "a token in the query appears in the logs of servers (RFC 6750 2.3)",
        f"warning: {path}:17:34: integrations.campaigns.auth.password.insecure_value: "
        "a secret is written in the config file: use this for trials only",
        "ok: 2 integrations",
    ]


def test_check_names_the_secret_of_a_client_that_cannot_be_read(tmp_path: Path) -> None:
    """No token could be asked for."""
    result = run_cli("check", "--config", write_config(tmp_path, TOKENS))
    assert result.returncode == 1
    assert ":9:22: integrations.shop.auth.client_secret: the file does not exist" in result.stdout
