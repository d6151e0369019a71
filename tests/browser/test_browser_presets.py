"""Presets in a real browser: made, previewed while they are typed, tested, and sent by the copied command."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from browser.conftest import Open
from support.api import TOKENS, Api, basic, managed
from support.browser import Chromium, Tab
from support.child import Child
from support.everybody import OPEN, look
from support.recording import recording
from support.upstream import RawUpstream

AUTHORIZATION = b"Basic c3ZjOmEtY2FuYXJ5LW9mLWJhc2lj"
IN_A_FILE = """\
integrations:
  filed:
    endpoint_prefix: http://127.0.0.1:1/v1
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: s}}}}
  broken: {endpoint_prefix: "http://127.0.0.1:1/v1", auth: {type: basic, username: a, password: {file: not-there}}}
presets:
  written: {integration: filed, url: "http://127.0.0.1:1/v1/hook", content_type: text/plain}
  outside: {integration: filed, url: "http://127.0.0.1:1/v2/hook", content_type: text/plain}
"""


@dataclass(frozen=True)
class Running:
    """The process, and the upstream that its integration may dial."""

    child: Child
    upstream: RawUpstream

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.upstream.port}/v1"

    def document(self, **keys: Any) -> dict[str, Any]:
        """A preset with parameters of each kind."""
        return {
            "description": "Greets somebody new",
            "tags": ["mail", "crm"],
            "integration": "crm",
            "url": f"{self.base}/users/{{{{user}}}}",
            "headers": {"X-Source": "sidekey"},
            "content_type": "application/json",
            "parameters": {
                "user": {"type": "text", "max_length": 64},
                "points": {"type": "integer", "default": 0},
                "tone": {"type": "text", "one_of": ["warm", "plain"]},
            },
            "body": {"points": "{{points}}", "text": "Hello {{user}}", "tone": "{{tone}}"},
            **keys,
        }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Sidekey with a store, an integration, and an upstream that records."""
    folder = tmp_path_factory.mktemp("browser")
    with recording() as upstream, managed(folder, more=IN_A_FILE) as child:
        Api(child.admin_port).make("/integrations", {"id": "crm", **basic(upstream.port)})
        yield Running(child, upstream)


@pytest.fixture
def api(running: Running) -> Api:
    return Api(running.child.admin_port)


def said(one: Tab, text: str) -> None:
    """Wait until the preview is told of in these words."""
    one.page.wait_for_function("text => document.getElementById('preview-said').textContent.includes(text)", arg=text)


def shows(one: Tab, text: str) -> None:
    """Wait until the preview has this: the words before may have been told of what was typed before."""
    one.page.wait_for_function("text => document.getElementById('preview').innerText.includes(text)", arg=text)


WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) window.shifts.push(each.value);
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.usefixtures("may_test")
def test_one_is_made_previewed_tested_and_sent_by_a_caller_who_has_only_it(tab: Open, running: Running) -> None:
    """What arrives is what was shown, by the test and by the copied command; nothing moves but what one types."""
    one = tab(new=True)
    page = one.page
    page.add_init_script(WATCH)
    one.open("/presets")
    page.keyboard.press("n")
    page.wait_for_url("**/add/preset")
    page.fill('[id="/id"]', "welcome")
    page.select_option('[id="/integration"]', "crm")
    assert page.inner_text(".others summary") == "1 cannot be chosen"
    page.select_option('[id="/method"]', "PUT")
    page.fill('[id="/url"]', f"{running.base}/users/{{{{user}}}}")
    page.click("text=Add parameter")
    page.keyboard.type("user")
    page.fill('[id="/body"]', '{"text": "Hello {{user}}",\n "n": }')
    said(one, "No preview: 1 thing is wrong")
    shows(one, "Body: line 2, column 7: is not JSON from here on")
    page.fill('[id="/body"]', '{"text": "Hello {{user}}",\n "n": 1}')
    said(one, f"Preview: PUT {running.base}/users/user")
    page.fill("[data-sample-of]:visible input", "../admins")
    said(one, "No preview")
    shows(one, "Sample user: must not leave its segment of the path")
    page.fill("[data-sample-of]:visible input", "7 8")
    said(one, f"Preview: PUT {running.base}/users/7%208")
    shows(one, "Authorization: [credential]")
    assert running.upstream.requests == []
    assert "is a real request" in page.inner_text(".send")
    page.click("button:text-is('Send test')")
    page.wait_for_selector("#sent .state")
    assert "200 in" in page.inner_text("#sent")
    page.wait_for_function("() => document.activeElement.textContent === 'Send test'")
    (request,) = running.upstream.requests
    assert (request.method, request.target, request.body) == (b"PUT", b"/v1/users/7%208", b'{"text":"Hello 7 8","n":1}')
    page.click("button:text-is('Save')")
    page.wait_for_url("**/presets/welcome?done=saved")
    page.click("button[aria-label='Copy: curl']")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert shlex.split(copied)[0] == "curl"
    assert page.evaluate("window.shifts") == []
    admin = tab("admin")
    admin.open("/access")
    admin.page.click("text=Make a caller")
    admin.page.fill("#c-name", "billing")
    admin.page.fill("#c-presets", "welcome")
    admin.page.click("button:text-is('Make the caller')")
    token = admin.page.inner_text(".done code")
    environment = {"PATH": "/usr/bin:/bin", "SIDEKEY_TOKEN": token}
    run = subprocess.run(["sh", "-c", copied], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout == "ok"
    request = running.upstream.requests[-1]
    assert (request.method, request.target, request.body) == (b"PUT", b"/v1/users/user", b'{"text":"Hello user","n":1}')
    assert request.values(b"authorization") == [AUTHORIZATION]
    other = copied.replace("/p/welcome", "/p/written")
    run = subprocess.run(["sh", "-c", other], capture_output=True, text=True, env=environment, check=True)
    assert "preset_denied" in run.stdout
    assert "canary" not in page.content() + admin.page.content()


@pytest.mark.usefixtures("may_test")
def test_one_is_made_previewed_and_tested_by_keyboard_alone(tab: Open, running: Running, api: Api) -> None:
    """From the list on; the focus is always where one is."""
    maker = api.make("/tokens", {"name": "keys", "role": "editor", "own_token": api.token})["token"]
    one = tab(token=maker)
    page = one.page
    one.open("/presets")
    page.keyboard.press("n")
    page.wait_for_url("**/add/preset")

    def go_to(wanted: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.textContent") == wanted:
                return
        raise AssertionError(f"Tab does not lead to {wanted}")

    for where, text in (
        ("/id", "by-keys"),
        ("/integration", "crm"),
        ("/url", f"{running.base}/users"),
        ("Add header", ""),
        ("Add parameter", ""),
        ("/body", '["{{who}}"]'),
    ):
        go_to(where)
        if where.startswith("Add"):
            page.keyboard.press("Enter")
            for each in ("X-A", "b") if where == "Add header" else ("who",):
                page.keyboard.type(each)
                page.keyboard.press("Tab")
        else:
            page.keyboard.type(text)
    said(one, f"Preview: POST {running.base}/users")
    go_to("Send test")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sent .state")
    request = running.upstream.requests[-1]
    assert (request.body, request.values(b"x-a")) == (b'["who"]', [b"b"])
    page.focus('[id="/body"]')
    go_to("Save")
    page.keyboard.press("Enter")
    page.wait_for_url("**/presets/by-keys?done=saved")
    assert api.get("/presets/by-keys")["headers"] == {"X-A": "b"}


def test_rows_are_added_and_removed_and_what_is_wrong_stands_at_them(tab: Open, running: Running, api: Api) -> None:
    """Also at those that were added here; the focus goes to what is wrong first, and nothing typed is lost."""
    api.make("/presets", {"id": "rows", **running.document()})
    one = tab()
    page = one.page
    one.open("/presets/rows")
    remove = page.locator('[data-rows="/parameters"] [data-remove]')
    assert remove.count() == 3
    remove.nth(2).click()
    page.wait_for_function("() => document.activeElement.textContent === 'Add parameter'")
    assert page.locator("[data-sample-of]:visible").count() == 2
    page.keyboard.press("Enter")
    page.keyboard.type("mood")
    row = page.locator('[data-rows="/parameters"] [data-row]').nth(2)
    row.locator("select").nth(0).select_option("integer")
    row.locator("select").nth(1).select_option("default")
    row.locator(".default input").fill("much")
    assert not row.locator(".max_length").is_visible()
    page.fill('[id="/body"]', '{"points": "{{points}}", "text": "{{user}} {{mood}}"}')
    said(one, "No preview: 1 thing is wrong")
    shows(one, "Parameter mood: Default: must be a whole number")
    page.click("button:text-is('Save')")
    page.wait_for_selector(".pair.wrong .error:visible")
    assert row.locator(".error").inner_text() == "Default: must be a whole number"
    page.wait_for_function("() => document.activeElement.value === 'mood'")
    row.locator(".default input").fill("3")
    page.click("button:text-is('Save')")
    page.wait_for_url("**/presets/rows?done=saved")
    assert api.get("/presets/rows")["parameters"]["mood"] == {"type": "integer", "default": 3}
    assert "tone" not in api.get("/presets/rows")["parameters"]


def test_a_body_is_written_as_its_content_type_is(tab: Open, running: Running) -> None:
    """A form has fields, a payload no body at all; the preview is of that."""
    one = tab()
    page = one.page
    one.open("/add/preset?integration=crm")
    page.fill('[id="/url"]', f"{running.base}/form")
    page.fill('[id="/content_type"]', "application/x-www-form-urlencoded")
    assert not page.is_visible('[id="/body"]')
    page.click("text=Add field")
    page.keyboard.type("q")
    page.keyboard.press("Tab")
    page.keyboard.type("a & b")
    said(one, "Preview: POST")
    shows(one, "q=a%20%26%20b")
    page.select_option('[id="/sends"]', "payload")
    assert not page.is_visible('[data-rows="/parameters"]')
    page.fill("#payload", "x=1")
    page.wait_for_function("() => document.getElementById('preview').textContent.includes('x=1')")


def test_many_integrations_are_searched(tab: Open, running: Running, api: Api) -> None:
    """By a part of the ID; an ID that cannot be chosen is refused in words."""
    for number in range(50):
        api.make("/integrations", {"id": f"many-{number:02}", **basic(running.upstream.port)})
    try:
        one = tab()
        one.open("/add/preset")
        one.page.fill('[id="/integration"]', "many-4")
        one.page.wait_for_function("() => document.getElementById('/integration').list.options.length === 10")
        one.page.fill('[id="/integration"]', "nobody")
        one.page.fill('[id="/url"]', f"{running.base}/x")
        said(one, "No preview")
        shows(one, "Integration: no integration has this ID")
    finally:
        for number in range(50):
            api.ask("DELETE", f"/integrations/many-{number:02}", match='"1"')


def test_pages_work_without_script(tab: Open, running: Running, api: Api) -> None:
    """A preview is made by a button; a form is saved, and refused beside its fields."""
    one = tab(script=False)
    page = one.page
    one.open("/add/preset")
    page.fill('[id="/id"]', "no-script")
    page.select_option('[id="/integration"]', "crm")
    page.fill('[id="/url"]', f"{running.base}/{{{{user}}}}")
    page.fill('[id="/parameters#0#name"]', "user")
    page.fill('[id="/body"]', '["{{user}}"]')
    page.click("button:text-is('Preview')")
    page.wait_for_selector("pre.request")
    assert f"POST {running.base}/user" in page.inner_text("pre.request")
    page.fill('[id="/parameters#0#sample"]', "ann")
    page.fill('[id="/body"]', "[")
    page.click("button:text-is('Save')")
    page.wait_for_selector(".wrong .error:visible")
    page.fill('[id="/body"]', '["{{user}}"]')
    page.click("button:text-is('Save')")
    page.wait_for_url("**/presets/no-script?done=saved")
    assert api.get("/presets/no-script")["body"] == ["{{user}}"]


def test_a_session_that_ends_costs_nothing_that_was_typed(tab: Open, running: Running, api: Api) -> None:
    """It is said, and the same operator's next session saves it."""
    one = tab()
    one.open("/add/preset?integration=crm")
    one.page.fill('[id="/id"]', "ended")
    one.page.fill('[id="/url"]', f"{running.base}/x")
    one.page.fill('[id="/body"]', "1")
    said(one, "Preview: POST")
    one.page.context.clear_cookies()
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector("text=You are logged out")
    form, one.page = one.page, one.page.context.new_page()
    one.log_in(TOKENS["editor"])
    form.click("button:text-is('Save')")
    form.wait_for_url("**/presets/ended?done=saved")
    # The browser itself writes of the response 403.
    assert [each for each in one.complaints if "403" not in each] == []
    one.complaints.clear()


def test_pages_are_for_everybody(tab: Open, running: Running, api: Api) -> None:
    """Whatever a page shows, also of long texts."""
    name = "seen"
    api.make("/presets", {"id": name, **running.document(description="x" * 2000, tags=["y" * 100])})
    one, viewer = tab(), tab("viewer")

    for path in (
        "/presets",
        "/presets?q=nothing",
        "/add/preset",
        f"/presets/{name}",
        "/presets/written",
        "/presets/outside",
    ):
        one.open(path)
        one.page.evaluate(OPEN)
        look(one, path)
    for path in ("/presets", f"/presets/{name}"):
        viewer.open(path)
        viewer.page.evaluate(OPEN)
        look(viewer, f"viewer {path}")
    one.open(f"/presets/{name}")
    one.page.fill('[id="/url"]', "nonsense")
    one.page.fill('[id="/body"]', "{")
    said(one, "No preview: 2 things are wrong")
    look(one, "a preview of what is wrong")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector(".wrong .error:visible")
    look(one, "a form that is refused")


def test_a_first_visit_is_small(browser: Chromium, running: Running) -> None:
    """At most 60 KB with stylesheet and script, compressed."""
    one = Tab(browser, f"http://127.0.0.1:{running.child.admin_port}", new=True)
    sizes: list[int] = []
    one.page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", "0"))))
    one.log_in(TOKENS["editor"])
    one.open("/add/preset")
    one.close()
    assert len(sizes) >= 5
    assert 0 < sum(sizes) <= 60_000
