"""pages/{integrations,add,providers,integration}.js: find, change and understand integrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from playwright.sync_api import expect

from support.api import TOKENS, basic
from support.ui import HOSTILE, Console, assert_accessible


def create_integration(console: Console, name: str, **more: Any) -> None:
    """Store an integration of the kind basic."""
    console.api("editor").post("/integrations", {"id": name, **basic(console.upstream.port), **more})


def test_search_finds_an_integration_by_common_words(console: Console) -> None:
    """The URL has the search, so the result is the same after Back and a reload."""
    auth = {"type": "oauth2", "provider": "criteo", "client_id": "c", "client_secret": {"value": "canary"}}
    create_integration(console, "found-criteo", title="Newsletter", tags=["ads"], endpoint_prefix=[], auth=auth)
    create_integration(console, "filtered", tags=["Authentication"])
    page = console.open("viewer", "/integrations")
    rows = page.get_by_role("rowheader")
    for words in ("Criteo Marketing", "newsletter", "oauth ads", "api.criteo.com"):
        page.get_by_role("searchbox", name="Search").fill("nowhere")
        page.get_by_text("Nothing matches.").wait_for()
        page.get_by_role("searchbox", name="Search").fill(words)
        rows.first.wait_for()
        assert rows.all_inner_texts() == ["NE\nNewsletter\n\nfound-criteo"], words
    row = page.get_by_role("row", name="Newsletter").inner_text()
    assert "api.criteo.com" in row
    assert "OAuth 2.0" in row
    page.reload()
    assert page.get_by_role("searchbox", name="Search").input_value() == "api.criteo.com"
    page.get_by_role("link", name="Newsletter").click()
    page.get_by_role("heading", name="Newsletter", level=1).wait_for()
    assert page.url.endswith("/ui/integrations/found-criteo")
    page.go_back()
    rows.first.wait_for()
    assert rows.count() == 1

    # Filters apply on selection.
    page.get_by_role("searchbox", name="Search").fill("")
    page.get_by_role("link", name="of-a-file").wait_for()
    page.get_by_label("Tag").select_option("Authentication")
    page.wait_for_url("**/integrations?tag=Authentication")
    page.get_by_label("Kind").select_option("Basic")
    page.get_by_label("Status").select_option("OK")
    page.wait_for_url("**?tag=Authentication&kind=basic&status=ok")
    page.get_by_role("link", name="filtered").wait_for()
    page.get_by_label("Kind").select_option("OAuth 2.0")
    page.get_by_role("link", name="Clear filters").click()
    page.wait_for_url("**/integrations")
    page.get_by_role("link", name="of-a-file").click()
    page.get_by_text("Set in a config file. Change it there.").wait_for()
    page.goto(f"{console.base}/ui/integrations/gone")
    page.get_by_text("No integration has this ID.").wait_for()
    listed = console.api("viewer").get("/integrations")
    item = {**listed["items"][0], "id": "crm", "title": "CRM", "source": "file"}
    console.fixture(page, {"GET /api/v1/integrations": {**listed, "items": [item]}})
    page.get_by_role("main").get_by_role("link", name="Integrations").last.click()
    page.get_by_role("heading", name="Integrations", level=1).wait_for()
    page.get_by_text("crm · Set in a config file").wait_for()


def test_several_integrations_are_tagged_exported_and_deleted(console: Console, tmp_path: Path) -> None:
    """The page shows a result for each integration. An integration that a preset uses is not deleted."""
    for name in ("bulk-a", "bulk-b"):
        create_integration(console, name, tags=["bulk"])
    hook = {
        "id": "bulk-hook",
        "integration": "bulk-b",
        "url": f"{console.upstream.url}/v1/x",
        "content_type": "text/plain",
    }
    console.api("editor").post("/presets", hook)
    page = console.open("editor", "/integrations?tag=bulk")
    page.get_by_label("All on this page").check()
    page.get_by_text("2 selected").wait_for()
    page.get_by_role("button", name="Add tag").click()
    page.get_by_role("dialog").get_by_label("Tag").fill("new")
    page.get_by_role("dialog").get_by_role("button", name="Add tag").click()
    page.get_by_text("bulk-b: has the tag new now.", exact=True).wait_for()
    assert console.api("editor").get("/integrations/bulk-a")["tags"] == ["bulk", "new"]

    page.get_by_label("All on this page").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    exported = tmp_path / "export.yaml"
    download.value.save_as(exported)
    assert list(yaml.safe_load(exported.read_text())["integrations"]) == ["bulk-a", "bulk-b"]
    assert "a-canary-of-basic" not in exported.read_text()

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("bulk-a: is deleted.", exact=True).wait_for()
    page.get_by_role("listitem").filter(has_text="bulk-b: Not done: preset bulk-hook uses it").wait_for()
    page.get_by_role("link", name="bulk-a").wait_for(state="detached")
    assert page.get_by_role("rowheader").count() == 1


def test_empty_list_says_what_to_do_first(console: Console) -> None:
    page = console.browser("viewer")
    console.fixture(page, {"GET /api/v1/integrations": {"items": [], "tags": [], "next": None}})
    page.goto(f"{console.base}/ui/integrations")
    page.get_by_text("Nothing here yet. Ask an editor to add one.").wait_for()
    console.log_in(page, TOKENS["editor"])
    page.reload()
    page.get_by_text("Add your first integration").wait_for()


def test_viewer_sees_no_button_without_permission(console: Console) -> None:
    create_integration(console, "viewed")
    page = console.open("viewer", "/integrations")
    page.get_by_role("link", name="viewed").wait_for()
    assert page.get_by_role("checkbox").count() == 0
    assert page.get_by_role("link", name="Add integration").count() == 0
    page.get_by_role("link", name="viewed").click()
    page.get_by_role("button", name="Test integration").wait_for()
    for name in ("Edit", "Replace"):
        assert page.get_by_role("link", name=name).or_(page.get_by_role("button", name=name)).count() == 0, name
    assert page.get_by_text("More: duplicate, export, delete").count() == 0
    page.goto(f"{console.base}/ui/add/integrations")
    page.get_by_role("heading", name="You may not see this page").wait_for()


WORDS: Final = {
    "Azure": ("Microsoft Azure (Entra ID)", "oauth2?provider=microsoft-entra"),
    "azure graph": ("Microsoft Azure (Entra ID)", "oauth2?provider=microsoft-entra"),
    "Criteo Marketing": ("Criteo", "oauth2?provider=criteo"),
    "Authentication": ("Client certificate (mTLS)", "mtls"),
    "bearer": ("Custom headers", "headers"),
    "http": ("Basic", "basic"),
}
"""The link that a search finds, and its target, by the words of the search."""


def test_adding_starts_with_a_search_by_common_words(console: Console) -> None:
    """The page to add an integration does not hide an integration with the ID `add`."""
    create_integration(console, "add")
    page = console.open("editor", "/integrations/add")
    page.get_by_role("heading", name="add", exact=True).wait_for()
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("heading", name="Edit add").wait_for()
    page.goto(f"{console.base}/ui/integrations")
    page.get_by_role("link", name="Add integration").wait_for()
    page.keyboard.press("n")
    page.get_by_role("heading", name="Add integration").wait_for()
    assert page.get_by_role("link", name="Integrations").first.get_attribute("aria-current") == "true"
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    assert_accessible(page)
    for words, (link, target) in WORDS.items():
        search.fill("nowhere")
        page.get_by_text("No provider is called that. Most services use OAuth 2.0 or an API key.").wait_for()
        search.fill(words)
        result = page.get_by_role("link", name=link, exact=True)
        result.wait_for()
        assert result.get_attribute("href") == f"/ui/add/integrations/{target}"
    search.fill("nowhere")
    page.get_by_role("link", name="an API key").click()
    page.wait_for_url("**/add/integrations/headers")

    page.goto(f"{console.base}/ui/providers")
    page.get_by_role("searchbox", name="Search").fill("sfmc")
    page.get_by_text("Also called SFMC, ExactTarget").wait_for()
    page.get_by_role("link", name="Add Braze").wait_for(state="detached")
    assert page.get_by_role("heading", level=2).count() == 1
    page.get_by_text("What you need").click()
    assert page.get_by_role("link", name="Add Salesforce Marketing Cloud Engagement").is_visible()
    assert page.get_by_role("link", name="Documentation of").get_attribute("rel") == "noreferrer"
    page.get_by_role("searchbox", name="Search").fill("responsys")
    page.get_by_text("Oracle Responsys is a kind of integration.").wait_for()
    assert page.get_by_role("link", name="Add it").get_attribute("href") == "/ui/add/integrations/responsys"


def test_viewer_tests_an_integration_and_explains_a_url(console: Console) -> None:
    create_integration(console, "tested")
    page = console.open("viewer", "/integrations/tested")
    page.get_by_text("Not used yet.").wait_for()
    page.get_by_role("button", name="Test integration").click()
    page.get_by_text("It works: the response was 200").first.wait_for()
    page.get_by_text("Tested just now.").wait_for()
    page.get_by_text("Explain a URL").click()
    page.get_by_label("URL or path").fill("https://elsewhere.example/x")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("Denied", exact=True).wait_for()
    page.get_by_label("URL or path").fill("/orders")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("Authorization (headers)").wait_for()
    console.upstream.status = 401
    page = console.open("editor", "/integrations/tested")  # A token may send one test a second.
    page.get_by_role("button", name="Test integration").click()
    page.get_by_text("It does not work: the response was 401").first.wait_for()
    page.get_by_text("Most likely the secret was changed at the provider.").wait_for()


def test_used_integration_cannot_be_deleted(console: Console) -> None:
    """An admin sees its callers. The message names the presets that use it."""
    create_integration(console, "used")
    hook = {
        "id": "used-hook",
        "integration": "used",
        "url": f"{console.upstream.url}/v1/x",
        "content_type": "text/plain",
    }
    console.api("editor").post("/presets", hook)
    page = console.open("admin", "/integrations/used")
    page.get_by_text("of-a-file (caller)").wait_for()
    assert page.get_by_role("link", name="used-hook").get_attribute("href") == "/ui/presets/used-hook"
    page.get_by_text("More: duplicate, export, delete").click()
    duplicate = page.get_by_role("link", name="Duplicate")
    assert duplicate.get_attribute("href") == "/ui/add/integrations/basic?from=used"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_text("Presets use it: used-hook.").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("alert").get_by_text("preset used-hook uses it").wait_for()


def test_pages_are_accessible_with_hostile_texts(console: Console) -> None:
    for number, text in enumerate(HOSTILE):
        create_integration(console, f"hostile-{number}", title=text[:200], description=text[:2000], tags=[text[:100]])
    page = console.browser("editor")
    for path in ("/integrations", "/integrations/hostile-2", "/add/integrations?q=azure"):
        page.goto(f"{console.base}/ui{path}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_load_state("networkidle")
        assert_accessible(page)


def test_long_texts_of_a_file_leave_room_for_other_texts(console: Console) -> None:
    """The API limits texts of the store, but not those of files."""
    item = console.api("viewer").get("/integrations?include=usage")["items"][0]
    long = {
        "title": HOSTILE[2],
        "tags": [HOSTILE[2]],
        "hosts": [HOSTILE[2]],
        "problem": HOSTILE[2],
        "status": "unusable",
    }
    page = console.browser("viewer", width=390)
    console.fixture(page, {"GET /api/v1/integrations": {"items": [item | long], "next": None, "tags": [HOSTILE[2]]}})
    page.goto(f"{console.base}/ui/integrations")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader"))
    row.wait_for()
    assert row.bounding_box()["height"] < 400
    assert_accessible(page)
    assert row.bounding_box()["height"] < 400
