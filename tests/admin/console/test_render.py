"""admin/console/render.py: everything in a page is escaped, and times are told for people."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from sidekey.admin.console.render import ago, clock, coded, day, folded, renderer, since

PROBLEM = {"operator": None, "form_token": "", "store_down": "", "path": "", "title": "<b>", "detail": '"x"&'}


def test_a_page_escapes_whatever_it_shows() -> None:
    body = renderer().page("problem.html", PROBLEM).decode()
    assert "&lt;b&gt;" in body
    assert "&#34;x&#34;&amp;" in body
    assert "<b>" not in body


def test_what_a_page_is_not_given_is_a_defect() -> None:
    """Rather than an empty place."""
    with pytest.raises(UndefinedError):
        renderer().page("problem.html", {})


def test_code_in_our_texts_is_marked_and_the_rest_escaped() -> None:
    assert str(coded("a `b<c` & d")) == "a <code>b&lt;c</code> &amp; d"


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")]
)
def test_how_long_ago_is_told_in_the_largest_unit(seconds: int, told: str) -> None:
    assert since(time.time() - seconds) == told


def test_days_and_times() -> None:
    assert (day("2026-11-03T10:00:00Z"), day(None)) == ("3 November 2026", "")
    assert (ago(None), ago("2020-01-01T00:00:00Z").endswith(" d ago")) == ("never", True)
    assert clock(1_800_000_000) == "15 January, 08:00:00 UTC"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_a_body_on_several_lines_is_the_same_body(value: object) -> None:
    """Nothing of it but spaces between its parts is another: numbers keep their spelling."""
    written = json.dumps(value, separators=(",", ":"))
    assert json.loads(folded(written)) == value
    if isinstance(value, dict | list):
        assert folded(written) == json.dumps(value, indent=2)
    assert folded('{"a":1.50,"b":[1e2]}') == '{\n  "a": 1.50,\n  "b": [\n    1e2\n  ]\n}'


@pytest.mark.parametrize("body", ["", "x=1", "<a/>", "[" * 33, "{" + "a" * 40_000, '{"', "[1, 2]", "[}{]"])
def test_any_other_body_is_shown_as_it_is_or_whole(body: str) -> None:
    """Also what only begins like one; and nothing costs more than it is long."""
    assert folded(body) in {body, "[\n}{\n]"}
