"""admin/console/calling.py: what is copied is what a shell, Python or Node reads as the very arguments."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.calling import ways_to_call
from sidekey.runtime.snapshot import Address, Snapshot

EMPTY = Snapshot({})
WITH_CALLERS = replace(EMPTY, callers=MappingProxyType({}))
PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(lambda text: f"/{text}")


def told(snapshot: Snapshot, path: str, at: Address | None = None) -> dict[str, str]:
    at = Address(port=8080) if at is None else at
    return {way.name: way.text for way in ways_to_call(snapshot, at, "crm", path)}


@given(PATHS)
def test_a_shell_splits_the_command_into_the_exact_arguments(path: str) -> None:
    """Whatever an editor wrote into a test's path."""
    command = shlex.split(told(WITH_CALLERS, path)["curl"])
    assert command == ["curl", "-H", "Sidekey-Token: $SIDEKEY_TOKEN", f"http://127.0.0.1:8080/i/crm{path}"]
    assert shlex.split(told(EMPTY, path)["curl"]) == ["curl", f"http://127.0.0.1:8080/i/crm{path}"]


@given(PATHS)
def test_python_and_node_read_the_url_as_one_text(path: str) -> None:
    ways = told(WITH_CALLERS, path)
    call = ast.parse(ways["Python"]).body[-1]
    texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    assert texts[0] == f"http://127.0.0.1:8080/i/crm{path}"
    literal = re.match(r'const response = await fetch\(("(?:[^"\\]|\\.)*")', ways["Node"])
    assert literal is not None
    assert json.loads(literal[1]) == f"http://127.0.0.1:8080/i/crm{path}"


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1:8080"), ("::", "[::1]:8080"), ("10.0.0.1", "10.0.0.1:8080")]
)
def test_the_address_is_one_that_can_be_reached(host: str, shown: str) -> None:
    ways = told(EMPTY, "/x", Address(host, 8080))
    assert f"http://{shown}/i/crm/x" in ways["curl"]
    assert ways["HTTP_PROXY"] == f'export HTTP_PROXY="http://crm@{shown}"'


def test_a_unix_socket_is_called_by_curl_alone() -> None:
    (way,) = ways_to_call(WITH_CALLERS, Address(path="/run/side key.sock"), "crm", "/x")
    assert shlex.split(way.text)[1:3] == ["--unix-socket", "/run/side key.sock"]
