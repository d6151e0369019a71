"""ui/pages/integration.js: what is wrong with an integration, since when, and what to do."""

from __future__ import annotations

from support.api import basic
from support.ask import get, within
from support.ui import Console, Shared, assert_for_everybody


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
    assert_for_everybody(page)
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**?period=7d")
    page.get_by_text("3 requests · 3 failed").wait_for()


def test_a_test_says_why_it_fails_and_leads_to_the_form(console: Console) -> None:
    """An integration that nobody has used is not OK, and the page lists all of its hosts."""
    auth = {
        "type": "oauth2",
        "token_endpoint": f"{console.upstream.url}/token",
        "client_id": "c",
        "client_secret": {"value": "canary"},
    }
    others = {"allow_other_domains": True, "allowed_domains": ["https://a.example", "https://b.example"]}
    api = console.api("editor")
    api.post("/integrations", {"id": "untested", "title": "Graph", "auth": auth, "test": {"path": "/me"}, **others})
    console.upstream.status = 401
    console.upstream.body = b'{"error": "invalid_client"}'
    page = console.open("editor", "/integrations/untested")
    page.get_by_text("Not used yet").wait_for()
    page.get_by_text("b.example, 127.0.0.1").wait_for()
    page.get_by_role("button", name="Test integration").click()
    page.locator("strong", has_text="returned 401 invalid_client").wait_for()
    page.get_by_text("The client ID, the user or the secret is refused").wait_for()
    page.get_by_role("link", name="Edit the integration").click()
    page.get_by_label("Name").fill("Graph of marketing")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    assert page.get_by_text("Saved.").bounding_box()["height"] > 20
