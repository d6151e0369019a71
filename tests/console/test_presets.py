"""Presets: editors write them in a form, and see them as senders do."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from support.api import TOKENS, basic
from support.http_get import get, wait_until
from support.ui import HOSTILE, Console, ConsoleSetup, assert_accessible

PARAMETERS = {
    "phone": {"type": "text", "title": "Phone", "format": "phone", "example": "+44 7700 900123"},
    "points": {"type": "number", "default": 0},
    "language": {"type": "text", "enum": ["English", "Slovak"], "default": "English"},
    "loud": {"type": "boolean", "default": False},
}


@pytest.fixture
def crm(console: Console) -> str:
    """Store an integration that may send to the upstream, and return its ID."""
    editor = console.api("editor")
    if editor.request("GET", "/integrations/crm").status == 404:
        editor.post("/integrations", {"id": "crm", **basic(console.upstream.port)})
    return "crm"


def save_preset(console: Console, name: str, **more: Any) -> None:
    """Save a preset of the integration `crm`."""
    url = f"{console.upstream.url}/v1/sms"
    document = {"id": name, "title": "Welcome text message", "integration": "crm", "url": url, **more}
    console.api("editor").post("/presets", document)


def test_preset_is_written_tested_and_saved(console: Console, crm: str) -> None:
    page = console.open("editor", "/presets")
    page.get_by_role("link", name="Add preset").first.click()
    page.get_by_label("Title").fill("Points after purchase")
    expect(page.get_by_role("textbox", name="ID", exact=True)).to_have_value("points-after-purchase")
    page.get_by_label("Integration").select_option(crm)
    expect(page.get_by_label("URL")).to_have_value(f"{console.upstream.url}/v1")
    page.get_by_label("URL").fill(f"{console.upstream.url}/v1/users/{{{{user}}}}")
    page.get_by_role("textbox", name="JSON body").fill('{"points": "{{points}}", "exact": 12345678901234567.0}')
    page.get_by_role("button", name="Add user, points").click()
    rows = page.get_by_role("group", name="Add parameter").get_by_role("listitem")
    rows.nth(0).get_by_label("Label").fill("Member")
    rows.nth(1).get_by_label("Type").select_option("number")
    preview = page.get_by_role("complementary", name="Preview")
    preview.get_by_label("Member").fill("zoe")
    preview.get_by_label("points").fill("1.50")
    expect(preview.get_by_text("Authorization: [credential]")).to_be_visible()
    preview.get_by_role("button", name="Send a test").click()
    preview.get_by_text("200 in").wait_for()
    (received,) = console.upstream.received
    assert (received.path, received.json["points"]) == ("/v1/users/zoe", 1.5)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Points after purchase").wait_for()
    saved = console.api("editor").get("/presets/points-after-purchase")
    assert saved["parameters"] == {"user": {"type": "text", "title": "Member"}, "points": {"type": "number"}}
    console.api("editor").remove("/presets/points-after-purchase", match='"1"')


def test_errors_are_beside_their_fields(console: Console, crm: str) -> None:
    page = console.open("editor", "/add/presets")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("textbox", name="ID", exact=True)).to_be_focused()
    page.get_by_text("Choose an integration.").wait_for()
    assert_accessible(page)
    page.get_by_label("Title").fill("Wrong")
    page.get_by_label("Integration").select_option("of-a-file")
    expect(page.get_by_label("URL")).to_have_value("http://127.0.0.1:1/v1")
    page.get_by_label("Integration").select_option(crm)
    expect(page.get_by_label("URL")).to_have_value(f"{console.upstream.url}/v1")
    page.get_by_label("URL").fill("https://elsewhere.example/")
    page.get_by_label("Integration").select_option("of-a-file")
    page.get_by_label("Integration").select_option(crm)
    expect(page.get_by_label("URL")).to_have_value("https://elsewhere.example/")
    page.get_by_text("must be allowed by integration crm").first.wait_for()
    page.get_by_role("textbox", name="JSON body").fill("{")
    page.get_by_text("This is not JSON.").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Correct the marked fields first.").wait_for()
    assert console.api("editor").request("GET", "/presets/wrong").status == 404


def test_saving_an_unedited_preset_changes_nothing(console: Console, crm: str) -> None:
    body = {"json": {"to": "{{phone}}", "points": "{{points}}", "big": 123456789012345678, "small": 1e-7}}
    save_preset(console, "unchanged", help="Greets", tags=["sms", "new"], parameters=PARAMETERS, body=body)
    before = console.api("editor").get("/presets/unchanged")
    page = console.open("editor", "/presets/unchanged/edit")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Overview").wait_for()
    assert console.api("editor").get("/presets/unchanged") == before


def test_second_editor_of_a_change_sees_the_difference_and_chooses(console: Console, crm: str) -> None:
    save_preset(console, "contested", parameters=PARAMETERS, body={"json": {"to": "{{phone}}"}})
    page = console.open("editor", "/presets/contested/edit")
    page.get_by_role("textbox", name="Help", exact=True).first.fill("Mine")
    console.api("admin").patch("/presets/contested", {"help": "Theirs"}, match='"1"')
    page.get_by_role("button", name="Save").click()
    page.get_by_text("admin-of-file saved this").wait_for()
    expect(page.get_by_text('+   "help": "Mine"')).to_be_visible()
    expect(page.get_by_text('-   "help": "Theirs"')).to_be_visible()
    assert console.api("editor").get("/presets/contested")["help"] == "Theirs"
    page.get_by_role("button", name="Use mine").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="Overview").wait_for()
    assert console.api("editor").get("/presets/contested")["help"] == "Mine"


def test_preset_of_a_failing_integration_is_marked(console: Console, shared: ConsoleSetup) -> None:
    """List, filter and page use the same word."""
    api = console.api("editor")
    api.post("/integrations", {"id": "broken-crm", **basic(console.upstream.port)})
    save_preset(
        console,
        "broken",
        title="Broken",
        integration="broken-crm",
        parameters=PARAMETERS,
        body={"json": {"to": "{{phone}}"}},
    )
    console.upstream.status = 401
    for _ in range(3):
        get(shared.child.proxy_port, "/i/broken-crm/x", {"Sidekey-Token": "the-token-of-a-file"})
    wait_until(lambda: api.get("/presets/broken")["status"] == "failing")
    page = console.open("viewer", "/presets")
    page.get_by_label("Status").select_option("Failing")
    expect(page.get_by_role("row", name="Broken")).to_contain_text("Failing")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("link", name="Broken", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Its integration is failing")


def test_preset_shows_its_sends_and_who_cannot_send_it(console: Console, crm: str) -> None:
    admin = console.api("admin")
    save_preset(console, "sent", parameters=PARAMETERS, body={"json": {"to": "{{phone}}"}})
    page = console.open("admin", "/presets/sent")
    senders = page.get_by_role("region", name="Who may send it")
    expect(senders).to_contain_text("Editors and admins; no senders yet.")
    expect(page.get_by_text('"to": "{{phone}}"')).to_be_visible()
    grants = {"role": "sender", "presets": ["hook-of-a-file"], "own_token": TOKENS["admin"]}
    jane = admin.by(admin.post("/tokens", {"name": "jane", **grants})["token"])
    page.reload()
    senders.get_by_label("Allow a sender").select_option("jane")
    assert_accessible(page)
    senders.get_by_role("button", name="Allow").click()
    page.get_by_role("dialog").get_by_role("textbox").fill(TOKENS["admin"])
    page.get_by_role("dialog").get_by_role("button", name="Confirm", exact=True).click()
    expect(senders.locator("bdi")).to_have_text("jane")
    expect(senders.get_by_role("option", name="jane")).to_have_count(0)
    assert jane.get("/whoami")["presets"] == ["hook-of-a-file", "sent"]
    key = {"Idempotency-Key": "one-of-the-tests-of-presets"}
    assert admin.request("POST", "/presets/sent/sends", {"parameters": {"phone": "1"}}, headers=key).status == 200
    expect(page.get_by_role("row", name="Phone")).to_contain_text("It is required")
    page.get_by_role("link", name="Sends").click()
    expect(page.get_by_role("listitem").filter(has_text="admin-of-file: Accepted by 127.0.0.1 (200)")).to_be_visible()
    page.get_by_label("Person").select_option("admin-of-file")
    assert "who=admin-of-file" in page.url
    document = {key: value for key, value in admin.get("/presets/sent").items() if key not in ("body", "parameters")}
    admin.put("/presets/sent", document, match='"1"')
    page.goto(f"{console.base}/ui/presets/sent")
    page.get_by_text("Cannot be sent by: jane.").wait_for()
    page.get_by_text("Senders cannot use this: it has no body to fill in.").wait_for()
    sender = console.open("viewer", "/presets/sent")
    sender.get_by_text("Senders cannot use this").wait_for()
    expect(sender.get_by_text("jane")).to_have_count(0)
    expect(sender.get_by_role("link", name="Edit")).to_have_count(0)


def test_preset_is_duplicated_and_deleted(console: Console, crm: str) -> None:
    save_preset(console, "original", parameters=PARAMETERS, body={"json": {"to": "{{phone}}"}})
    page = console.open("editor", "/presets/original")
    page.get_by_role("link", name="Duplicate").click()
    start = page.get_by_label("Start from")
    expect(start).to_have_value("original")
    start.select_option("An empty form")
    expect(page.get_by_label("Title")).to_have_value("")
    start.select_option("original")
    expect(page.get_by_label("Title")).to_have_value("Copy of Welcome text message")
    page.get_by_role("textbox", name="JSON body").fill('{"to": "{{phone}}", "tongue": "{{tongue}}"}')
    expect(start).to_be_disabled()
    page.get_by_text("The request names {{tongue}} without a parameter.").wait_for()
    page.get_by_role("textbox", name="JSON body").fill('{"to": "{{phone}}"}')
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Copy of Welcome text message").wait_for()
    original, copy = (
        console.api("editor").get(f"/presets/{name}") for name in ("original", "copy-of-welcome-text-message")
    )
    keys = ("integration", "url", "parameters", "body")
    assert [copy[key] for key in keys] == [original[key] for key in keys]
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Presets").wait_for()
    assert console.api("editor").request("GET", "/presets/copy-of-welcome-text-message").status == 404


def test_pages_of_presets_are_accessible(console: Console, crm: str) -> None:
    parameters = {f"p{number}": {"type": "text", "title": text, "help": text} for number, text in enumerate(HOSTILE)}
    texts = {"title": HOSTILE[0], "help": HOSTILE[1], "description": HOSTILE[3], "tags": [HOSTILE[4]]}
    save_preset(console, "shown", **texts, parameters=parameters, body={"json": {"text": HOSTILE[2]}})
    page = console.browser("editor")
    for path in ("?q=shown", "/shown", "/shown?tab=sends", "/shown/edit"):
        page.goto(f"{console.base}/ui/presets{path}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_load_state("networkidle")
        assert_accessible(page)
