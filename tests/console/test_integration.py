"""pages/integration.js: the problem of an integration, since when, and the remedy."""

from __future__ import annotations

from playwright.sync_api import expect

from support.api import basic
from support.http_get import get, wait_until
from support.ui import Console, ConsoleSetup, assert_accessible


def test_page_of_a_failing_integration_says_what_to_do(console: Console, shared: ConsoleSetup) -> None:
    """The remedy is visible without scrolling on a phone."""
    console.api("editor").post("/integrations", {"id": "fails", "title": "Criteo", **basic(console.upstream.port)})
    console.upstream.status = 401
    for _ in range(3):
        get(shared.child.proxy_port, "/i/fails/x", {"Sidekey-Token": "the-token-of-a-file"})
    wait_until(lambda: console.api("viewer").get("/integrations/fails/failures")["items"] != [])
    page = console.open("editor", "/integrations?status=failing", width=390)
    row = page.get_by_role("row").filter(has_text="Criteo")
    row.get_by_text("Failing since today").wait_for()
    row.get_by_text("At least its last 3 requests have failed").wait_for()
    row.get_by_role("img", name="Requests of 24 hours: 3 requests, 3 failed").wait_for()
    page.get_by_role("link", name="Criteo").click()
    page.get_by_text("The last failure: 401.").wait_for()
    fix = page.get_by_role("link", name="Replace the secret")
    assert fix.get_attribute("href") == "/ui/integrations/fails/edit"
    assert page.get_by_text("The provider refused this credential").is_visible()
    assert fix.bounding_box()["y"] < 500
    page.get_by_text("3 requests · 3 failed").wait_for()
    assert page.get_by_role("row").filter(has_text="401").count() >= 1
    assert_accessible(page)
    page.get_by_role("link", name="7 days").click()
    page.wait_for_url("**?period=7d")
    page.get_by_text("3 requests · 3 failed").wait_for()


def test_failed_test_has_a_reason_and_a_link_to_the_form(console: Console) -> None:
    """The page also shows that the integration is unused. The hosts do not include that of the token endpoint."""
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
    assert page.get_by_role("definition").filter(has_text="example").inner_text() == "https://a.example, b.example"
    page.get_by_role("button", name="Test integration").click()
    page.locator(".banner", has_text="It does not work: token endpoint returned 401 invalid_client").wait_for()
    page.get_by_text("The client ID, the user or the secret is refused").wait_for()
    failure = "Sidekey could not get the credential: token endpoint returned 401 invalid_client"
    page.get_by_role("row").filter(has_text=failure).wait_for()
    page.get_by_role("link", name="Edit the integration").click()
    page.get_by_label("Name").fill("Graph of marketing")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    notice = page.get_by_text("Saved.").bounding_box()
    assert notice["height"] > 20
    menu = page.get_by_role("navigation", name="Pages")
    assert notice["y"] > menu.bounding_box()["y"] + menu.bounding_box()["height"]
    menu.get_by_role("link", name="Providers").click()
    page.get_by_role("heading", name="Providers").wait_for()
    assert page.get_by_text("Saved.").count() == 0


def test_missing_test_has_a_link_to_its_field(console: Console) -> None:
    document = {key: value for key, value in basic(console.upstream.port).items() if key != "test"}
    console.api("editor").post("/integrations", {"id": "without-test", **document})
    page = console.open("editor", "/integrations/without-test")
    page.get_by_role("link", name="Add a test").click()
    expect(page.get_by_label("Path")).to_be_focused()
