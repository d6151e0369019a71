"""admin/console/render.py: everything in a page is escaped, and times are told for people."""

from __future__ import annotations

import time

import pytest
from jinja2 import UndefinedError

from sidekey.admin.console.render import ago, clock, coded, day, renderer, since

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
