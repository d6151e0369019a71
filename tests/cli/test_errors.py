"""`sidekey errors`: the codes of Sidekey's own responses."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sidekey.cli.errors import command
from sidekey.errors import RESPONSE_KINDS, causes_of


def test_list_has_a_row_for_every_code() -> None:
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert rows.keys() == RESPONSE_KINDS.keys()
    for code, kind in RESPONSE_KINDS.items():
        assert all(text in rows[code] for text in (*map(str, kind.statuses), *kind.actors, kind.title))


@pytest.mark.parametrize("code", RESPONSE_KINDS)
def test_code_shows_every_part(code: str) -> None:
    kind, causes = RESPONSE_KINDS[code], causes_of(code)
    text = CliRunner().invoke(command, [code]).stdout
    parts = [code, kind.title, kind.retry, kind.remedy, *(part for cause in causes for part in cause)]
    assert [part for part in (*parts, *filter(None, causes.values())) if part not in text] == []
    shown = json.loads(CliRunner().invoke(command, [code, "--json"]).stdout)
    assert (shown["code"], shown["statuses"], len(shown["causes"])) == (code, list(kind.statuses), len(causes))


@pytest.mark.parametrize(
    ("code", "hint"), [("targt_denied", "did you mean target_denied?"), ("x", "`sidekey errors` lists all codes")]
)
def test_unknown_code_gets_a_hint(code: str, hint: str) -> None:
    result = CliRunner().invoke(command, [code])
    assert (result.exit_code, result.stderr) == (1, f"no such code: {hint}\n")
