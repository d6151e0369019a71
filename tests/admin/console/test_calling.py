"""admin/console/calling.py: what is copied is what a shell, Python or Node reads as the very arguments."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.admin.console.calling import ways_to_call, ways_to_send
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


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
EXAMPLES = st.dictionaries(
    TEXTS, st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | TEXTS | st.lists(TEXTS, max_size=2)
)
TYPES = st.sampled_from(["application/json", "text/plain; charset=utf-8", 'multipart/form-data; boundary="a\'b $x"'])


def sending(
    snapshot: Snapshot, content_type: str, example: dict[str, Any] | str, at: Address | None = None
) -> dict[str, str]:
    at = Address(port=8080) if at is None else at
    return {way.name: way.text for way in ways_to_send(snapshot, at, "hook", content_type, example)}


@given(TYPES, EXAMPLES | TEXTS.map(lambda text: f"@{text}") | TEXTS)
def test_a_shell_splits_what_sends_by_a_preset_into_the_exact_arguments(
    content_type: str, example: dict[str, Any] | str
) -> None:
    """Whatever is in a default, in what may be chosen, or in a payload; also what curl would take for a file."""
    command = shlex.split(sending(WITH_CALLERS, content_type, example)["curl"])
    token = ["curl", "-H", "Sidekey-Token: $SIDEKEY_TOKEN"]
    assert command[:6] == [*token, "-H", f"Content-Type: {content_type}", "--data-raw"]
    assert command[7:] == ["http://127.0.0.1:8080/p/hook"]
    if isinstance(example, str):
        assert command[6] == example
    else:
        assert json.loads(command[6]) == example
        assert command[6].isascii()


@given(TYPES, EXAMPLES | TEXTS)
def test_python_and_node_send_the_very_example(content_type: str, example: dict[str, Any] | str) -> None:
    ways = sending(WITH_CALLERS, content_type, example)
    call = ast.parse(ways["Python"]).body[-1]
    assert isinstance(call, ast.Assign)
    assert isinstance(call.value, ast.Call)
    given_ = {each.arg: each.value for each in call.value.keywords}
    assert ast.literal_eval(given_["data" if isinstance(example, str) else "json"]) == example
    assert ("Content-Type" in ast.unparse(given_["headers"])) is isinstance(example, str)
    body = re.search(r"body: (?:JSON\.stringify\()?(.*?)\)?}\)$", ways["Node"], re.S)
    assert body is not None
    assert json.loads(body[1]) == example
    assert (ways["Python"] + ways["Node"]).isascii()


def test_a_preset_is_sent_by_a_unix_socket_and_without_a_token_where_nobody_is_asked() -> None:
    at = Address(path="/run/side key.sock")
    assert shlex.split(sending(EMPTY, "a/b", "x", at)["curl"]) == [
        *("curl", "--unix-socket", "/run/side key.sock", "-H", "Content-Type: a/b", "--data-raw", "x"),
        "http://localhost/p/hook",
    ]
    assert "SIDEKEY_TOKEN" not in "".join(sending(EMPTY, "a/b", "x").values())
    assert "import os" not in sending(EMPTY, "a/b", "x")["Python"]
