"""router.js and useCall in Chromium: queries in the URL, Back, unsaved changes, and late responses."""

from __future__ import annotations

from typing import Any, Final

from playwright.sync_api import expect

from console.test_frame import ANN, open_page
from support.ui import Console

MOUNT: Final = """async () => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "");
  const names = ["vendor/preact.js", "fields.js", "parts.js", "router.js", "api.js"];
  const modules = await Promise.all(names.map((name) => import(base + name)));
  const [{ html, useState }, { Search, Text }, { Page, Problem }, router, { useCall }] = modules;
  const { useLeaveQuestion, setQuery, view } = router;
  view.value = { Page: ({ query }) => {
    const [text, setText] = useState("");
    useLeaveQuestion(() => text !== "");
    const q = query.get("q") ?? "";
    const { body, loading, problem, reload } = useCall("/presets", { q }, { every: 200 });
    return html`<${Page} title="Form" actions=${html`<button onClick=${reload}>Reload</button>`}>
      <${Problem} problem=${problem} />
      <${Search} label="Search" value=${q} onInput=${(next) => setQuery({ q: next, after: null })} />
      <${Text} label="Name" value=${text} onInput=${setText} />
      <p>Found: ${body?.items ?? "nothing"}${loading ? ", loading" : ""}</p>
      <a href="/ui/nowhere">Elsewhere</a>
    <//>`;
  } };
}"""


def open_form(console: Console, bodies: dict[str, Any] | None = None) -> Any:
    """Open a page with a search that calls the server, and a field for unsaved changes."""
    page = open_page(console, "/login?after=5", {"GET /api/v1/session": ANN, **(bodies or {})})
    page.get_by_label("Token", exact=True).wait_for()
    page.evaluate(MOUNT)
    page.get_by_role("heading", name="Form").wait_for()
    return page


def test_search_is_in_the_url_and_back_undoes_it(console: Console) -> None:
    page = open_form(console, {"GET /api/v1/presets": {"items": "one"}})
    page.get_by_role("searchbox").fill("Azure")
    page.wait_for_url("**/ui/login?q=Azure")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.go_back()
    page.wait_for_url("**/ui/login?after=5")
    expect(page.get_by_role("searchbox")).to_have_value("")


def test_leaving_with_unsaved_changes_asks_first(console: Console) -> None:
    page = open_form(console, {"GET /api/v1/presets": {"items": "one"}})
    page.get_by_role("searchbox").fill("Azure")
    page.wait_for_url("**?q=Azure")
    page.get_by_role("link", name="Elsewhere").click()
    page.get_by_role("heading", name="This page does not exist").wait_for()
    page.evaluate(MOUNT)
    page.get_by_label("Name").fill("typed")
    # After a link or Back, the page, its text and its URL stay.
    for leave in (page.get_by_role("link", name="Sidekey").click, lambda: page.evaluate("history.back()")):
        leave()
        page.get_by_role("dialog", name="Leave this page?").get_by_role("button", name="Stay").click()
        expect(page.get_by_label("Name")).to_have_value("typed")
        page.wait_for_url("**/ui/nowhere")
    page.evaluate("history.back()")
    page.get_by_role("button", name="Leave").click()
    page.wait_for_url("**/ui/login?q=Azure")
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()


def test_response_to_an_earlier_search_is_dropped(console: Console) -> None:
    page = open_form(console, {"GET /api/v1/presets": {"items": "first"}})
    page.get_by_text("Found: first").wait_for()
    held: list[Any] = []

    def hold(route: Any) -> None:
        if "q=slow" in route.request.url:
            held.append(route)
        else:
            route.fulfill(json={"items": "of fast"})

    page.route("**/api/v1/presets?*", hold)
    with page.expect_request("**/api/v1/presets?q=slow"):
        page.get_by_role("searchbox").fill("slow")
    page.get_by_text("Found: first, loading").wait_for()
    page.get_by_role("searchbox").fill("fast")
    page.get_by_text("Found: of fast").wait_for()
    with page.expect_request("**/api/v1/presets?q=fast"):
        for route in held:
            route.abort()
    assert page.get_by_text("Found: of fast").is_visible()


def test_page_keeps_its_content_while_sidekey_is_unavailable(console: Console) -> None:
    page = open_form(console, {"GET /api/v1/presets": {"items": "one"}})
    page.get_by_text("Found: one").wait_for()
    page.route("**/api/v1/presets*", lambda route: route.abort())
    page.get_by_text("No connection to Sidekey").wait_for()
    assert page.get_by_text("Found: one").is_visible()
    page.unroute("**/api/v1/presets*")
    console.fixture(page, {"GET /api/v1/presets": {"items": "two"}})
    page.get_by_text("Found: two").wait_for()
    expect(page.get_by_role("alert")).to_have_count(0)
