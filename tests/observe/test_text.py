"""observe/text.py: what a line of JSON says, for people, whatever others have written into it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.observe.text import Text

PLAIN = Text(colours=False)
STAMP = {"timestamp": "2026-01-31T23:59:59.012345Z"}
REQUEST = {
    **STAMP,
    "level": "warning",
    "event": "request",
    "request_id": "5f-1",
    "integration": "crm",
    "door": "reverse",
    "method": "POST",
    "host": "api.example.com",
    "status": 502,
    "code": "upstream_timeout",
    "duration": 0.0123,
    "preset": None,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def rendered(said: dict[str, Any], text: Text = PLAIN) -> str:
    return text.render(json.dumps(said).encode() + b"\n").decode()


def test_an_event_is_time_level_event_and_keys_with_their_values() -> None:
    """Values of more than one word are quoted, and null is not worth a word."""
    said = {**STAMP, "level": "info", "event": "config reloaded", "by": "a b", "count": 2, "none": None, "list": ["x"]}
    assert rendered(said) == ('2026-01-31 23:59:59.012Z info    config reloaded by="a b" count=2 list=["x"]\n')


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, "502 POST crm api.example.com upstream_timeout 12.3ms request_id=5f-1 door=reverse"),
        ({"status": 200, "code": None}, "200 POST crm api.example.com 12.3ms request_id=5f-1 door=reverse"),
        (
            {"status": 0, "code": "caller_gone", "host": None},
            "- POST crm caller_gone 12.3ms request_id=5f-1 door=reverse",
        ),
    ],
)
def test_what_became_of_a_request_comes_first(change: dict[str, Any], shown: str) -> None:
    """So that it is read in one glance."""
    assert rendered(REQUEST | change) == f"2026-01-31 23:59:59.012Z warning request {shown}\n"


@pytest.mark.parametrize(("status", "colour"), [(200, 32), (404, 33), (502, 31)])
def test_colours_tell_levels_and_statuses(status: int, colour: int) -> None:
    """They are all that differs from the text without them."""
    said = REQUEST | {"status": status, "code": None}
    coloured = rendered(said, Text(colours=True))
    assert f"\x1b[{colour}m{status}\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == rendered(said)


@given(
    said=st.dictionaries(
        st.text() | st.sampled_from(["method", "host", "code", "caller", "request_id"]), JSON, max_size=8
    )
)
def test_nothing_in_a_line_commands_a_terminal_or_begins_another_line(said: dict[str, Any]) -> None:
    """Neither in a key nor in a value; lone surrogates do not keep a line from being written."""
    shown = rendered({**STAMP, "level": "info", "event": "request", **said, "status": 200})
    assert shown.endswith("\n")
    assert shown[:-1].splitlines() == [shown[:-1]]
    assert not {unicodedata.category(each) for each in shown[:-1]} & {"Cc", "Cs", "Zl", "Zp"}


@given(value=st.text())
def test_a_value_is_not_taken_for_another_key(value: str) -> None:
    """What holds a space or an equals sign is quoted, as JSON is."""
    shown = rendered({**STAMP, "level": "info", "event": "e", "key": value}).removesuffix("\n").partition("key=")[2]
    if shown.startswith('"'):
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', shown)
    else:
        assert shown == value
        assert not set(shown) & set(' "=')
