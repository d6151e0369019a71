"""Activity page: an admin reads the audit as sentences."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

import sidekey
from sidekey.api.routes import ROUTES
from support.api import basic
from support.programs import require
from support.ui import HOSTILE, Console, assert_accessible

PACKAGE = Path(sidekey.__file__).parent
ENTRY = {
    "number": 1, "at": "2026-11-30T09:02:00Z", "who": "ben", "label": "", "action": "delete", "fields": [],
    "outcome": "in_use", "object": "integration", "name": "criteo", "title": None, "from": "10.0.0.7",
}  # fmt: skip


def actions() -> set[str]:
    """Return every action that the code audits."""
    values = {route.action for route in ROUTES if route.action}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                values |= set(_texts(node))
    return values


def _texts(call: ast.Call) -> list[str]:
    """Return the constant actions of a call: `action="..."`, and the argument of `AuditBudget`."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    values = [each.value for each in call.keywords if each.arg == "action"]
    values += call.args[:1] if name == "AuditBudget" else []
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def test_every_action_has_a_sentence() -> None:
    url = (PACKAGE / "console" / "static" / "sentences.js").as_uri()
    script = f"import {{ KNOWN }} from {json.dumps(url)}; console.log(JSON.stringify(KNOWN))"
    known = subprocess.run([require("node"), "--input-type=module", "--eval", script], capture_output=True, check=True)
    assert actions() >= {"create", "login", "rotate-key", "refused change"}
    assert actions() <= set(json.loads(known.stdout))


def test_sentences_are_searched_and_filtered_by_the_url(console: Console) -> None:
    admin, editor = console.api("admin"), console.api("editor")
    editor.post(
        "/presets",
        {"id": "searched", "title": "Searched for", "integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x"},
    )
    editor.request("DELETE", "/presets/nothing", match='"1"')
    admin.post("/callers", {"name": "searcher", "integrations": []})
    page = console.open("admin", "/activity")
    lines = page.get_by_role("listitem").filter(has_text="from 127.0.0.1")
    expect(lines.filter(has_text="admin-of-file added the caller searcher.")).to_be_visible()
    page.get_by_role("searchbox", name="Search").fill("added searcher")
    expect(lines).to_have_count(1)
    page.get_by_role("searchbox", name="Search").fill("not_found")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text(["editor-of-file tried to delete the preset nothing, but it does not exist."])
    page.reload()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("not_found")
    page.get_by_role("searchbox", name="Search").fill("")
    page.get_by_role("searchbox", name="Person").fill("Editor")
    page.wait_for_url("**?who=Editor")
    page.get_by_label("What").select_option("Presets")
    expect(lines.first).to_contain_text("editor-of-file tried to delete")
    expect(lines.filter(has_text="the caller searcher")).to_have_count(0)
    assert "who=Editor&object=preset" in page.url
    lines.get_by_role("link", name="Searched for").click()
    page.wait_for_url("**/ui/presets/searched")
    page.go_back()
    expect(page.get_by_role("searchbox", name="Person")).to_have_value("Editor")
    page.get_by_role("searchbox", name="Person").fill("viewer-of-file")
    page.get_by_text("Nothing matches.").wait_for()
    page.get_by_role("link", name="Clear filters").click()
    expect(lines.filter(has_text="the caller searcher")).to_be_visible()


def test_page_of_an_integration_shows_its_changes(console: Console) -> None:
    editor = console.api("editor")
    editor.post("/integrations", {"id": "changed", **basic(console.upstream.port)})
    editor.patch("/integrations/changed", {"auth": {"password": {"value": "another"}}}, match='"1"')
    page = console.open("admin", "/integrations/changed")
    page.get_by_text("editor-of-file replaced the password of the integration changed.").wait_for()
    page.get_by_text("editor-of-file added the integration changed.").wait_for()
    page.get_by_role("link", name="All changes").click()
    page.get_by_text("Only entries about changed.").wait_for()
    expect(page.get_by_role("listitem").filter(has_text="from 127.0.0.1")).to_have_count(2)


def test_empty_page_offers_older_entries(console: Console) -> None:
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/audit": {"items": [], "next": "5001"}})
    page.goto(f"{console.base}/ui/activity?q=criteo")
    page.get_by_text("Nothing in these 5,000 entries.").wait_for()
    console.fixture(page, {"GET /api/v1/audit": {"items": [ENTRY], "next": None}})
    page.get_by_role("link", name="Search older ones").click()
    page.get_by_text("ben tried to delete the integration criteo, but presets use it.").wait_for()
    assert "before=5001" in page.url


def test_entries_are_exported_as_csv(console: Console) -> None:
    pages: dict[str, Any] = {
        "": {"items": [{**ENTRY, "who": "=cmd()"}], "next": "7"},
        "7": {"items": [{**ENTRY, "action": "paint"}], "next": None},
    }
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/audit": pages[""]})
    page.goto(f"{console.base}/ui/activity?q=criteo")
    page.get_by_text("=cmd() tried").wait_for()
    queries = []

    def respond(route: Any) -> None:
        query = route.request.url.partition("?")[2]
        queries.append(query)
        route.fulfill(json=pages["7" if "before=7" in query else ""])

    page.route("**/api/v1/audit?*", respond)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    lines = Path(download.value.path()).read_bytes().decode("utf-8-sig").splitlines()
    assert lines[0].startswith("time,who,identity,sentence,action")
    assert lines[1].split(",")[1] == "'=cmd()"
    assert "ben: paint the integration criteo (in_use)." in lines[2]
    assert queries == ["q=criteo", "q=criteo&before=7"]


def test_activity_page_is_accessible(console: Console) -> None:
    items = [
        {
            **ENTRY,
            "number": number,
            "who": text,
            "label": text,
            "name": text,
            "fields": [text],
            "from": text,
            "outcome": "ok",
            "action": "update",
        }
        for number, text in enumerate(HOSTILE)
    ]
    page = console.browser("admin")
    console.fixture(page, {"GET /api/v1/audit": {"items": [ENTRY, *items], "next": "1"}})
    page.goto(f"{console.base}/ui/activity")
    page.get_by_text("ben tried").wait_for()
    assert_accessible(page)
