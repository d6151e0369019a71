"""ui/pages/integration.js: what is wrong with an integration, since when, and what to do."""

from __future__ import annotations

from support.api import basic
from support.ask import get, within
from support.ui import Console, Shared, axe


def test_a_failing_integration_says_what_to_do(console: Console, shared: Shared) -> None:
    """In its first lines, without scrolling on a phone."""
    console.api("editor").post("/integrations", {"id": "fails", "title": "Criteo", **basic(console.upstream.port)})
    console.upstream.status = 401
    for _ in range(3):
        get(shared.child.proxy_port, "/i/fails/x", {"Sidekey-Token": "the-token-of-a-file"})
    within(lambda: console.api("viewer").get("/integrations/fails/failures")["items"] != [])
    page = console.open("editor", "/integrations?status=failing", width=390)
    page.get_by_text("Failing since today").wait_for()
    page.get_by_role("img", name="Requests of 24 hours: 3 requests, 3 failed").wait_for()
    page.get_by_role("link", name="Criteo").click()
    page.get_by_text("The last requests failed: 401.").wait_for()
    fix = page.get_by_role("link", name="Replace the secret")
    assert fix.get_attribute("href") == "/ui/integrations/fails/edit"
    assert page.get_by_text("Most likely the secret was changed at the provider.").is_visible()
    assert fix.bounding_box()["y"] < 500
    page.get_by_text("3 requests · 3 failed").wait_for()
    assert page.get_by_role("row").filter(has_text="401").count() >= 1
    assert axe(page) == []
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**?period=7d")
    page.get_by_text("3 requests · 3 failed").wait_for()
