"""Access page: an admin grants presets to senders and callers, and creates tokens."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from support.api import TOKENS
from support.http_get import get, wait_until
from support.ui import HOSTILE, Console, assert_accessible

PRESET = {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "body": {"json": {}}}


def confirm(page: Page, token: str = TOKENS["admin"]) -> None:
    dialog = page.get_by_role("dialog", name="Confirm")
    dialog.get_by_role("textbox").fill(token)
    dialog.get_by_role("button", name="Confirm", exact=True).click()


def take_token(page: Page) -> str:
    """Return the new token from its dialog, and close the dialog."""
    dialog = page.get_by_role("dialog", name="The token of")
    token = dialog.locator("pre").inner_text()
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    # A page over HTTP from another machine has no clipboard.
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    dialog.get_by_role("button", name="Copy the token").click()
    expect(dialog.get_by_role("button", name="Copy the selected text")).to_be_visible()
    assert page.evaluate("getSelection().toString()") == token
    dialog.get_by_role("button", name="I have copied it").click()
    expect(dialog).to_be_hidden()
    return token


def test_sender_gets_presets_and_a_new_token_and_is_revoked(console: Console) -> None:
    admin = console.api("admin")
    admin.post("/presets", {"id": "greeting", "title": "Greeting by SMS", **PRESET})
    page = console.open("admin", "/access")
    row = page.get_by_role("row", name="viewer-of-file")
    expect(row.get_by_text("Set in the config file. Change it there.")).to_be_visible()
    expect(row.get_by_role("button")).to_have_count(0)
    assert_accessible(page)
    page.get_by_role("link", name="Add person").click()
    page.get_by_role("button", name="Add person").click()
    page.get_by_text("Enter a name.").wait_for()
    page.get_by_text("Must list at least one preset.").wait_for()
    page.get_by_label("Name").fill("admin-of-file")
    expect(page.get_by_text("Enter a name.")).to_be_hidden()
    page.get_by_role("button", name="Add person").click()
    page.get_by_text("Must list at least one preset.").wait_for()
    page.get_by_text("choose another").wait_for()
    page.get_by_label("Name").fill("Márk Groß")
    page.get_by_text("Saved as mark-gross.").wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_label("outside-of-a-file")).to_be_disabled()
    expect(page.get_by_text("has no body to fill in").first).to_be_visible()
    assert_accessible(page)
    page.get_by_role("searchbox", name="Find presets").fill("greeting")
    page.get_by_label("Greeting by SMS").check()
    page.get_by_role("searchbox", name="Find presets").fill("zzz")
    page.get_by_text("Nothing matches.").wait_for()
    expect(page.get_by_label("Greeting by SMS")).to_have_count(0)
    expect(page.get_by_text("1 chosen")).to_be_visible()
    page.get_by_role("button", name="Add person").click()
    dialog = page.get_by_role("dialog", name="Confirm")
    expect(dialog).to_contain_text("mark-gross gets a token with the role Sender, and may send greeting · 60 a minute")
    confirm(page, "not the token of this person")
    dialog.get_by_text("Nothing was changed.").wait_for()
    expect(dialog.get_by_role("textbox")).to_be_focused()
    confirm(page)
    mark = admin.by(take_token(page))
    who = mark.get("/whoami")
    assert (who["name"], who["role"], who["presets"], who["per_minute"]) == ("mark-gross", "sender", ["greeting"], 60)

    page.get_by_role("link", name="Edit mark-gross").click()
    page.get_by_label("hook-of-a-file").check()
    page.get_by_label("Sends a minute").fill("0")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Sends a minute")).to_be_focused()
    expect(page.get_by_role("dialog")).to_have_count(0)
    error = page.get_by_text("Must be", exact=False)
    expect(error).to_be_visible()
    page.get_by_label("Sends a minute").fill("5")
    expect(error).to_be_hidden()
    page.get_by_role("button", name="Save").click()
    confirm(page)
    page.get_by_text("Sends greeting, hook-of-a-file · 5 a minute, 1,000 a day").wait_for()
    assert mark.get("/whoami")["presets"] == ["greeting", "hook-of-a-file"]

    page.get_by_role("button", name="New token for mark-gross").click()
    with page.expect_response(lambda response: response.url.endswith("/tokens")):
        confirm(page)
    new = admin.by(take_token(page))
    assert mark.request("GET", "/whoami").status == 401
    assert new.get("/whoami")["identity"] == who["identity"]
    page.get_by_role("button", name="Revoke mark-gross").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("button", name="Revoke mark-gross")).to_be_hidden()
    expect(page.get_by_text("The token of mark-gross is revoked.")).to_be_in_viewport()
    assert new.request("GET", "/whoami").status == 401
    entries = admin.get("/audit?object=token&name=mark-gross")["items"]
    assert [(entry["action"], entry["outcome"]) for entry in entries] == [
        ("revoke", "ok"),
        ("rotate", "ok"),
        ("update", "ok"),
        ("create", "ok"),
        ("create", "forbidden"),
    ]

    page.goto(f"{console.base}/ui/access/people/editor-of-file")
    page.get_by_text("Only senders have presets and limits.").wait_for()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)


def test_own_new_token_can_be_copied(console: Console) -> None:
    """The session has ended then. The page asks for the new token only once the person has it."""
    body = {"name": "renewed", "role": "admin", "own_token": TOKENS["admin"]}
    token = console.api("admin").post("/tokens", body)["token"]
    page = console.browser(None)
    console.log_in(page, token)
    page.goto(f"{console.base}/ui/access")
    page.get_by_role("button", name="New token for renewed").click()
    confirm(page, token)
    new = take_token(page)
    page.get_by_role("dialog", name="Log in again").get_by_role("textbox").fill(new)
    page.get_by_role("dialog", name="Log in again").get_by_role("button", name="Log in").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("row", name="renewed (you)").wait_for()


def test_selected_preset_is_shown_beyond_the_first_page(console: Console) -> None:
    admin = console.api("admin")
    admin.post("/presets", {"id": "distant", **PRESET})
    admin.post("/tokens", {"name": "far", "role": "sender", "presets": ["distant"], "own_token": TOKENS["admin"]})
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/presets": {"items": [], "next": "m:store"}})
    page.goto(f"{console.base}/ui/access/people/far")
    expect(page.get_by_label("distant")).to_be_checked()


def test_caller_gets_presets_and_a_new_token(console: Console, shared: Any) -> None:
    def status(token: str) -> int:
        return get(shared.child.proxy_port, "/i/of-a-file/x", {"Sidekey-Token": token}).status

    page = console.open("admin", "/access?tab=callers")
    page.get_by_text("of-a-file").first.wait_for()
    assert_accessible(page)
    page.get_by_role("link", name="Add caller").click()
    page.get_by_label("Name").fill("journeys")
    page.get_by_label("hook-of-a-file").check()
    assert_accessible(page)
    page.get_by_label("All integrations").check()
    page.get_by_role("button", name="Add caller").click()
    token = take_token(page)
    row = page.get_by_role("row", name="journeys")
    expect(row).to_contain_text("All integrations")
    expect(row).to_contain_text("hook-of-a-file")
    wait_until(lambda: status(token) != 401)
    row.get_by_role("button", name="New token for journeys").click()
    with page.expect_response(lambda response: response.url.endswith("/callers")):
        confirm(page)
    new = take_token(page)
    wait_until(lambda: (status(token), status(new) == 401) == (401, False))
    row.get_by_role("link", name="Edit journeys").click()
    page.get_by_label("Only the chosen integrations").check()
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("No integrations")
    row.get_by_role("button", name="Delete journeys").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_be_hidden()
    wait_until(lambda: status(new) == 401)


def test_person_cannot_impersonate_an_operator_by_label(console: Console) -> None:
    session = {
        "role": "sender",
        "begun_at": "2026-11-30T09:02:00Z",
        "ends_at": "2026-11-30T21:02:00Z",
        "current": False,
    }
    identity = "oidc:https://idp.example.com#a91b8f1c"
    items = [
        {"id": "1", "who": "ops", "identity": "config:ops", "label": "", **session, "role": "admin"},
        {"id": "2", "who": identity, "identity": identity, "label": "ops", **session},
    ]
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/sessions": {"items": items, "next": None}})
    page.goto(f"{console.base}/ui/access?tab=sessions")
    expect(page.get_by_role("rowheader", name="ops (company account, …8f1c)")).to_be_visible()
    page.get_by_text("Identity").last.click()
    expect(page.get_by_text(identity)).to_be_visible()


def test_hostile_texts_are_shown_as_text(console: Console) -> None:
    token = {
        "source": "store", "version": 1, "status": "ok", "problem": None, "role": "sender", "per_minute": 60,
        "per_day": 1000, "expires_at": None, "created_at": None, "created_by": None, "last_used_at": None,
    }  # fmt: skip
    items = [{**token, "name": text, "presets": [text] * 9} for text in HOSTILE]
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/tokens": {"items": items, "next": None}})
    page.goto(f"{console.base}/ui/access")
    page.get_by_text(HOSTILE[0]).first.wait_for()
    assert_accessible(page)
