"""Sessions in a browser: log-in with a token, renewal in place, and log-out."""

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


def test_ended_session_is_renewed_on_the_open_page(console: Console) -> None:
    page = console.open("viewer", "/login")
    page.get_by_text("viewer-of-file (viewer)").wait_for()
    page.context.clear_cookies()
    with page.expect_response("**/api/v1/whoami") as refused:
        page.evaluate(
            """async () => {
                const main = document.querySelector("script[type=module]").src;
                const { get } = await import(main.replace("main.js", "api.js"));
                window.repeated = get("/whoami");
            }"""
        )
    assert refused.value.status == 401
    dialog = page.get_by_role("dialog", name="Log in again")
    dialog.get_by_label("Token", exact=True).fill(TOKENS["viewer"])
    dialog.get_by_role("button", name="Log in").click()
    dialog.wait_for(state="hidden")
    assert page.evaluate("window.repeated.then((result) => result.body.name)") == "viewer-of-file"
