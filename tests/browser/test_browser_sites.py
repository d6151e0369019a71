"""What pages of other sites can do to somebody who is logged in: link to a page, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browser.conftest import Named, Open
from support.api import TOKENS, Api, Running, basic
from support.browser import Tab
from support.sites import site

FORM = """<form method=post action="{base}/integrations/{name}/delete"><input name=version value=1></form>
<form method=post action="{base}/login"><input name=token value="{token}"></form>
<form method=post action="{base}/logout"></form>
<form method=post action="{base}/api/v1/integrations"></form>"""

LOADS = """<img src="{base}/"><img src="{base}/static/{icon}"><link rel=stylesheet href="{base}/static/{css}">
<script src="{base}/static/{js}"></script><iframe src="{base}/integrations/{name}"></iframe>
<object data="{base}/add"></object>
<script>
const asked = ["/activity", "/api/v1/whoami", "/session/api/v1/callers", "/metrics", "/logout"].flatMap((path) => [
  fetch("{base}" + path, {{ credentials: "include" }}),
  fetch("{base}" + path, {{ credentials: "include", method: "POST", body: new URLSearchParams("version=1") }}),
]);
const loaded = new Promise((done) => {{ window.addEventListener("load", done); }});
window.fared = Promise.allSettled(asked).then(async (all) => {{
  await loaded;
  return all.map((each) => each.status);
}});
</script>"""


class Elsewhere:
    """A page of another site in the browser of somebody who is logged in, and how it fared with Sidekey."""

    def __init__(self, tab: Tab, host: str, port: int) -> None:
        self.tab = tab
        self.answers: list[tuple[str, str, int]] = []
        self.base = f"http://{host}:{port}"
        tab.context.on("response", self._note)

    def _note(self, response: Any) -> None:
        if response.url.startswith(f"{self.tab.base}/"):
            self.answers.append((response.request.method, response.url.removeprefix(self.tab.base), response.status))

    def open(self, path: str) -> None:
        self.tab.page.goto(self.base + path)

    def leave(self) -> None:
        self.tab.page.goto("about:blank")
        self.tab.context.remove_listener("response", self._note)


@pytest.fixture(params=["127.0.0.1", "localhost"])
def elsewhere(
    request: pytest.FixtureRequest, tab: Open, running: Running, api: Api, named: Named
) -> Iterator[tuple[Elsewhere, str]]:
    """On another port of the same host, to which the cookies go as well, and on another host; and an integration."""
    name = named("wanted")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    one = tab("editor")
    one.open("/")
    files = {
        key: one.page.locator(f"{what}[{at}^='/static/']").first.get_attribute(at).rpartition("/")[2]
        for key, what, at in (("icon", "link[rel=icon]", "href"), ("css", "link", "href"), ("js", "script", "src"))
    }
    given = {"base": one.base, "name": name, "token": TOKENS["viewer"], **files}
    pages = {
        "/form": FORM.format(**given),
        "/loads": LOADS.format(**given),
        "/link": f'<a href="{one.base}/integrations/{name}">a message</a>',
        "/frame": f'<iframe src="{one.base}/integrations/{name}"></iframe>',
    }
    with site(pages) as port:
        other = Elsewhere(one, request.param, port)
        yield other, name
        other.leave()
    # What the browser itself says of what it refused, and of requests between its two sites, is meant here.
    one.complaints.clear()


def test_forms_of_another_site_do_nothing(elsewhere: tuple[Elsewhere, str], api: Api) -> None:
    """Neither delete, nor log somebody in as somebody else, nor log them out."""
    other, name = elsewhere
    for number in range(4):
        other.open("/form")
        with other.tab.page.expect_navigation() as led:
            other.tab.page.evaluate(f"document.forms[{number}].submit()")
        assert (led.value.request.method, led.value.status) == ("POST", 403)
    assert api.get(f"/integrations/{name}")["version"] == 1
    other.tab.open("/")
    assert "editor-of-file" in other.tab.page.inner_text("header")


def test_nothing_is_loaded_into_a_page_of_another_site(elsewhere: tuple[Elsewhere, str]) -> None:
    """Not as a picture, a script, a stylesheet, a frame or data; it cannot even learn whether somebody is logged in."""
    other, name = elsewhere
    other.open("/loads")
    assert other.tab.page.evaluate("window.fared") == ["rejected"] * 10
    assert {status for _, _, status in other.answers} == {403}
    paths = {path for _, path, _ in other.answers}
    assert {"/", "/add", f"/integrations/{name}"} <= paths


def test_no_page_is_framed_by_another_site(elsewhere: tuple[Elsewhere, str]) -> None:
    """So nobody clicks on it while seeing something else."""
    other, name = elsewhere
    other.open("/frame")
    frame = other.tab.page.frames[1]
    assert name not in frame.content()
    assert "Delete" not in frame.content()


def test_a_link_of_another_site_opens_the_page(elsewhere: tuple[Elsewhere, str]) -> None:
    """Somebody who is logged in sees it at once."""
    other, name = elsewhere
    other.open("/link")
    other.tab.page.click("text=a message")
    other.tab.page.wait_for_url(f"**/integrations/{name}")
    assert other.tab.page.inner_text("h1") == name
