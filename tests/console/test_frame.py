"""The frame of the pages: log-in, navigation, focus, theme, and the end of a session."""

from __future__ import annotations

from typing import Any, Final

from playwright.sync_api import expect

from support.ui import Console, assert_accessible, problem

WHO: Final = {
    "name": "ann",
    "identity": "config:ann",
    "label": "",
    "role": "editor",
    "source": "config",
    "expires_at": None,
    "presets": None,
    "per_minute": 60,
    "per_day": 1000,
    "session_ends_at": None,
}
NOBODY: Final = {"who": None, "oidc": False, "oidc_problem": None, "store": "ready"}
ANN: Final = {**NOBODY, "who": WHO}

SEARCH_AND_ADD: Final = """async () => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "");
  const names = ["vendor/preact.js", "fields.js", "parts.js", "router.js"];
  const [{ html }, { Search }, { Page }, { view }] = await Promise.all(names.map((name) => import(base + name)));
  view.value = { Page: () => html`<${Page} title="Integrations">
    <${Search} label="Search" value="" onInput=${() => undefined} />
    <a href="/ui/added" data-key="n">Add integration</a>
  <//>` };
}"""
"""Show a page with a search and something to add."""


def open_page(console: Console, path: str, bodies: dict[str, Any]) -> Any:
    """Open a page with mocked responses."""
    page = console.browser(None)
    console.fixture(page, bodies)
    page.goto(f"{console.base}/ui{path}")
    return page


def test_log_in_leads_to_the_requested_page(console: Console) -> None:
    bodies: dict[str, Any] = {"GET /api/v1/session": NOBODY, "POST /api/v1/session": problem(401, "unauthenticated")}
    page = open_page(console, "/", bodies)
    page.get_by_label("Token", exact=True).fill("a token that nobody has")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("This token is not known or has expired.").wait_for()
    assert "next=%2F" in page.url
    bodies |= {"POST /api/v1/session": (201, WHO)}
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("ann (editor)").wait_for()
    assert "/login" not in page.url


def test_unknown_page_has_title_and_focus(console: Console) -> None:
    page = console.open("editor", "/login")
    page.get_by_label("Token", exact=True).wait_for()
    page.evaluate("document.querySelector('.skip').href = '/ui/nowhere'")
    page.get_by_role("link", name="Skip to the page").press("Enter")
    page.get_by_role("heading", name="This page does not exist").wait_for()
    expect(page).to_have_title("This page does not exist · Sidekey")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()
    page.reload()
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()


def test_theme_is_switched_and_kept(console: Console) -> None:
    page = console.open("editor", "/login")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_keyboard_shortcuts_search_add_and_list_shortcuts(console: Console) -> None:
    page = open_page(console, "/nowhere", {"GET /api/v1/session": ANN})
    page.get_by_role("heading", name="This page does not exist").wait_for()
    # The keys do nothing on a page without a search and a link to add something.
    for key in ("/", "n"):
        page.keyboard.press(key)
    page.evaluate(SEARCH_AND_ADD)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("n/?")
    expect(page.get_by_role("searchbox")).to_have_value("n/?")
    page.get_by_role("heading", name="Integrations").click()
    page.keyboard.press("n")
    page.get_by_role("heading", name="This page does not exist").wait_for()
    assert page.url.endswith("/ui/added")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Shortcuts")
    expect(dialog).to_contain_text("Search")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Shortcuts").click()
    dialog.get_by_label("Use these keys").uncheck()
    dialog.get_by_role("button", name="Close").click()
    page.reload()
    page.get_by_role("heading", name="This page does not exist").wait_for()
    page.keyboard.press("?")
    expect(dialog).to_have_count(0)


def test_bar_is_low_on_a_phone(console: Console) -> None:
    page = console.open("admin", "/integrations", width=390)
    tops = [page.get_by_role("button", name=name).bounding_box()["y"] for name in ("Theme: system", "Log out")]
    assert tops[0] == tops[1]
    assert page.get_by_role("banner").bounding_box()["height"] < 170


def test_frame_is_accessible(console: Console) -> None:
    page = open_page(console, "/login", {"GET /api/v1/session": {**ANN, "store": "absent"}})
    page.get_by_label("Token", exact=True).wait_for()
    assert_accessible(page)
    page.get_by_role("button", name="Shortcuts").click()
    page.get_by_role("dialog", name="Shortcuts").wait_for()
    assert_accessible(page)


def test_page_says_that_the_store_is_unavailable_until_it_is_back(console: Console) -> None:
    admin = {**WHO, "role": "admin", "identity": "oidc:https://idp.example.com#8f1c", "label": "\u05d0" * 100}
    bodies: dict[str, Any] = {"GET /api/v1/session": {**NOBODY, "who": admin, "store": "unavailable"}}
    page = open_page(console, "/nowhere", bodies)
    page.get_by_text("The database cannot be reached. You can read.").wait_for()
    assert_accessible(page)
    bodies["GET /api/v1/session"] = ANN
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("The database cannot be reached.")).to_have_count(0)


def test_sidekey_that_only_serves_asks_for_no_log_in(console: Console) -> None:
    page = open_page(console, "/login", {"GET /api/v1/session": problem(403, "store_denied")})
    page.get_by_text("This Sidekey only serves. Log in at the Sidekey that edits.").wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_without_javascript_a_sentence_names_the_alternatives(console: Console) -> None:
    page = console.open(None, "/send/welcome", script=False)
    assert page.locator("body").inner_text().strip() == (
        "The console needs JavaScript. You can do everything with the API (/api/v1) and the command sidekey instead."
    )
