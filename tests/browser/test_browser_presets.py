"""Presets in a real browser: made, checked, tried, and sent by the copied command."""

from __future__ import annotations

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
            "parameters": {
                "user": {"type": "text", "max_length": 64},
                "points": {"type": "number", "default": 0},
                "tone": {"type": "text", "enum": ["warm", "plain"]},
            },
            "body": {"json": {"points": "{{points}}", "text": "Hello {{user}}", "tone": "{{tone}}"}},
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


@pytest.mark.usefixtures("may_test")
def test_one_is_made_checked_tried_and_sent_by_the_copied_command(tab: Open, running: Running, api: Api) -> None:
    """What arrives is what was shown; an error leads to its line, and what was typed stays."""
    one = tab()
    one.open("/presets")
    one.page.keyboard.press("n")
    one.page.wait_for_url("**/add/preset")
    for key, value in {"id": "welcome", "integration": "crm", "url": f"{running.base}/users/{{{{name}}}}"}.items():
        one.edit(f"{key}: ''", f"{key}: '{value}'")
    one.edit("type: text", "type: texts")
    for button, said in (("Check", "Cannot be saved"), ("Save", "Not saved")):
        one.press(button, said)
        assert one.page.inner_text(".numbers .wrong") == str(one.text.split("\n").index("    type: texts") + 1)
    one.meant("422")
    one.edit("type: texts", "type: text")
    one.press("Check", "Can be saved. The request for example values:")
    assert f"POST {running.base}/users/name" in one.page.inner_text("[data-outcome] pre")
    assert "Authorization: [credential]" in one.page.inner_text("[data-outcome] pre")
    assert running.upstream.requests == []
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/presets/welcome?done=saved")
    one.page.fill("#sample", '{"name": "a b"}')
    one.page.click("button:text-is('Preview')")
    shown = one.page.wait_for_selector("[data-trial] pre").inner_text()
    assert f"POST {running.base}/users/a%20b" in shown
    assert '{"text":"Hello a b"}' in shown
    one.press("Send test", "200 in")
    sent = running.upstream.requests[-1]
    assert (sent.target, sent.body) == (b"/v1/users/a%20b", b'{"text":"Hello a b"}')
    assert sent.values(b"authorization") == [AUTHORIZATION]
    one.page.fill("#sample", '{"name": 7')
    one.press("Preview", "the body must be JSON")
    one.page.fill("#sample", '{"name": 7}')
    one.press("Preview", "/parameters/name")
    one.meant("400")
    one.meant("422")
    one.page.click("button[aria-label='Copy: curl']")
    copied = one.page.evaluate("navigator.clipboard.readText()")
    token = api.make("/callers", {"name": "web", "presets": ["welcome"]})["token"]
    environment = {"PATH": "/usr/bin:/bin", "SIDEKEY_TOKEN": token}
    subprocess.run(["sh", "-c", copied], capture_output=True, env=environment, check=True)
    assert running.upstream.requests[-1].body == b'{"text":"Hello name"}'


def test_a_payload_is_tried_as_it_is(tab: Open, running: Running, api: Api) -> None:
    """Of a preset of a file, which can be tried, too; and two have the same page open."""
    text = {"integration": "crm", "url": f"{running.base}/x", "content_type": "text/plain"}
    api.make("/presets", {"id": "event", **text})
    one = tab()
    one.open("/presets/event")
    one.page.fill("#sample", 'so "it"\nis')
    one.page.click("button:text-is('Preview')")
    assert 'so "it"\nis' in one.page.wait_for_selector("[data-trial] pre").inner_text()
    assert api.ask("PATCH", "/presets/event", {"description": "theirs"}, match='"1"').status == 200
    one.edit("text/plain", "text/html")
    one.press("Save", "admin-of-file has changed it")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/presets/event?done=saved")
    assert api.get("/presets/event")["content_type"] == "text/html"
    one.meant("412")


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
    one.press("Check", "Can be saved.")
    look(one, "a preview")
    one.edit("url:", "urls:")
    one.press("Save", "Not saved")
    look(one, "a document that is refused")
    one.meant("422")


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
