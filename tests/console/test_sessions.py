"""Sessions in a browser: log-in with a token, and log-out."""

from __future__ import annotations

from support.api import TOKENS
from support.ui import Console

WHO = "sender-of-file (sender)"


def test_session_lasts_until_the_log_out(console: Console) -> None:
    """The browser sends the headers that a session needs. Scripts of a page cannot read the cookie."""
    page = console.open(None, "/login")
    page.get_by_label("Token", exact=True).fill(TOKENS["sender"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_text(WHO).wait_for()
    page.reload()
    page.get_by_text(WHO).wait_for()
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("sidekey-ui", True, "Strict")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()
    assert page.context.cookies() == []
    page.reload()
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()
    assert page.get_by_text(WHO).count() == 0
