"""Pages are for everybody, in each of their states: who sees little, uses no mouse, or has a narrow screen.

Each state is looked at light and dark, wide and narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from browser.conftest import Named, Open
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, Running, basic, managed
from support.ask import get
from support.axe import violations
from support.browser import Chromium, Tab
from support.everybody import OPEN, WIDTHS, look

CALLER: Final = {"Sidekey-Token": "the-token-of-a-file"}

SHIFTS: Final = """() => new Promise((done) => {
  const shifts = (list) => done(list.getEntries().filter((each) => !each.hadRecentInput).map((each) => each.value));
  new PerformanceObserver(shifts).observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => done([]), 0));
})"""


PALE: Final = '<p style="color: #c1c2c3">A pale text</p>'
SMALL: Final = '<button style="width: 16px; height: 16px; padding: 0; border: 0">one</button>'

BROKEN: Final = [
    ("<label>Name <input></label>", "<input>", {"label"}),
    ("<button>One</button><button>Two</button>", SMALL + SMALL, {"target-size"}),
    (f'<div style="height: 9px; overflow: hidden"><hr style="height: 30px">{PALE}</div>', PALE, {"color-contrast"}),
    (
        f'<div style="position: relative">{PALE}<i style="position: absolute; inset: 0; background: #fff"></i></div>',
        PALE,
        {"color-contrast"},
    ),
]
"""Markup in which axe finds nothing, the same where it finds something, and the rule."""


def test_what_is_wrong_is_found_whatever_was_judged_before(tab: Open) -> None:
    """Also where a style was covered, or out of sight, when it was first met."""
    page = tab(token="").page
    for right, wrong, rules in BROKEN:
        for markup, expected in ((right, set()), (wrong, rules), (wrong, rules), (right, set())):
            page.set_content(f"<!doctype html><html lang=en><title>t</title><body><main><h1>Head</h1>{markup}</main>")
            assert {found.split(":")[0] for found in violations(page)} == expected, markup


Go = Callable[[Tab, str], None]


def at(path: str) -> Go:
    """Opens a page."""

    def go(one: Tab, name: str) -> None:
        for width in WIDTHS:
            one.resize(width)
            one.open(path.format(name=name))
            assert one.page.evaluate(SHIFTS) == [], (path, width)
        one.page.evaluate(OPEN)

    return go


def keys(one: Tab, _: str) -> None:
    """The list of keys, which lies over the page."""
    one.open("/")
    one.page.keyboard.press("?")
    one.page.wait_for_selector("dialog[open]")


def refused(one: Tab, name: str) -> None:
    """A document with errors at their lines."""
    one.open("/add?kind=headers")
    one.press("Save", "Not saved")
    one.meant("422")


def reentered(one: Tab, name: str) -> None:
    """A check that asks for secrets again."""
    one.open(f"/integrations/{name}")
    one.edit("endpoint_prefix: http://127.0.0.1", "endpoint_prefix: https://elsewhere.example")
    one.press("Check", "must be sent again")


def overtaken(one: Tab, name: str) -> None:
    """A document that somebody else was faster with."""
    one.open(f"/integrations/{name}")
    one.page.evaluate("document.querySelector('[data-editor]').dataset.version = '9'")
    one.press("Save", "show theirs")
    one.meant("412")


def probed(one: Tab, name: str) -> None:
    """The result of a test, and an explanation."""
    one.open(f"/integrations/{name}")
    one.page.click("button:text-is('Send test')")
    one.page.wait_for_url("**?done=tested")
    one.page.fill("#url", "https://elsewhere.example/")
    one.page.keyboard.press("Enter")
    one.page.wait_for_selector(".state:text-is('Denied')")


def token_made(one: Tab, name: str) -> None:
    """A token that is shown once."""
    one.open("/access")
    one.page.click("summary:text-is('Make a caller')")
    one.page.fill("#c-name", name)
    one.page.click("button:text-is('Make the caller')")
    one.page.wait_for_selector("text=it is not shown again")


def explained(one: Tab, name: str) -> None:
    """What would be signed of a request that is described."""
    one.open(f"/integrations/{name}-signs")
    one.page.click("summary:text-is('The request that is signed')")
    one.page.fill("#explain-method", "POST")
    one.page.fill("#explain-headers", "X-Own: 1")
    one.page.fill("#explain-body", '{"order": 1}')
    one.page.fill("#url", "/orders")
    one.page.click("button:text-is('Explain')")
    one.page.wait_for_selector("dt:text-is('Signed') + dd:has-text('order')")


def token_refused(one: Tab, _: str) -> None:
    """A token that is not made."""
    one.open("/access")
    one.page.click("summary:text-is('Make a token for an operator')")
    one.page.fill("#t-name", "Not a name")
    one.page.click("button:text-is('Make the token')")
    one.page.wait_for_selector("text=see what is wrong")


STATES: Final[dict[Role, tuple[Go, ...]]] = {
    "viewer": (at("/"), at("/integrations/{name}"), explained),
    "editor": (
        at("/"),
        at("/?q=nothing-is-like-that"),
        at("/add"),
        at("/add?kind=mtls"),
        at("/integrations/{name}?done=saved"),
        at("/integrations/of-a-file"),
        keys,
        refused,
        reentered,
        overtaken,
        probed,
    ),
    "admin": (at("/activity"), at("/access"), token_made, token_refused),
}


@pytest.fixture
def many(running: Running, api: Api, named: Named) -> Iterator[str]:
    """Integrations in several states, one of which fails; the name of one that does not."""
    name, failing = named("seen"), named("failing")
    api.make("/integrations", {"id": name, "description": "Orders", "tags": ["shop", "eu"], **basic(running.upstream)})
    api.make("/integrations", {"id": failing, **basic(1)})
    signature = {"scheme": "github", "secret": {"value": "a-key-that-signs"}}
    api.make("/integrations", {"id": f"{name}-signs", **basic(running.upstream), "signature": signature})
    for _ in range(3):
        assert get(running.child.proxy_port, f"/i/{failing}/x", CALLER).status == 502
    yield name


@pytest.mark.usefixtures("may_test")
@pytest.mark.parametrize("role", STATES)
def test_every_state_of_every_page_is_for_everybody(tab: Open, many: str, role: Role) -> None:
    one = tab(role)
    for number, go in enumerate(STATES[role]):
        go(one, many)
        look(one, f"{getattr(go, '__name__', '')} {number} at {one.page.url}")


SHAPED: Final = (
    "/",
    "/add?kind=oauth2",
    "/add/preset",
    "/integrations/{name}",
    "/presets/hook-of-a-file",
)
"""Pages that the script gives their shape."""


PAINTED: Final = """() => new Promise((done) => {
  requestAnimationFrame(() => done(true));
  setTimeout(() => done(false), 100);
})"""
"""Whether the page is painted soon: at the next frame, unless it must wait for something."""


def test_nothing_moves_where_the_script_takes_its_time(tab: Open, many: str) -> None:
    """What it hides and shows is decided before anything is painted, however late the script comes."""
    one = tab("editor", new=True)
    held: list[Any] = []
    one.page.route("**/static/*.js", lambda route: held.append(route))  # noqa: PLW0108  # Playwright sets attributes of it
    for path in SHAPED:
        one.page.goto(one.base + path.format(name=many), wait_until="commit")
        one.page.wait_for_function("() => document.readyState === 'interactive'", polling=10)
        assert one.page.evaluate(PAINTED) is False, path
        held.pop().continue_()
        one.page.wait_for_load_state()
        assert one.page.evaluate(SHIFTS) == [], path


def test_the_log_in_and_problems_are_for_everybody(tab: Open) -> None:
    out, viewer = tab(token=""), tab("viewer")
    at("/login")(out, "")
    look(out, "log-in")
    out.page.fill("#token", "wrong")
    out.page.keyboard.press("Enter")
    out.page.wait_for_selector(".error:visible")
    look(out, "log-in that has failed")
    for path in ("/nothing", "/add"):
        at(path)(viewer, "")
        look(viewer, path)
    viewer.meant("404")
    viewer.meant("403")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Any]:
    """A Sidekey that has nothing yet."""
    with managed(tmp_path, more="integrations: {}") as child:
        yield child


def test_an_empty_list_and_a_store_that_is_away_are_for_everybody(
    browser: Chromium, empty: Any, tabs: list[Tab], tmp_path: Path
) -> None:
    """What is loaded stays readable, whoever was seen stays in, and what cannot be done is said in words."""
    one = Tab(browser, f"http://127.0.0.1:{empty.admin_port}")
    tabs.append(one)
    one.be(TOKENS["editor"])
    at("/")(one, "")
    assert one.page.is_visible("text=Add the first")
    look(one, "empty")
    Api(empty.admin_port, TOKENS["editor"]).make("/integrations", {"id": "loaded", **basic(1)})
    one.open("/integrations/loaded")
    (tmp_path / "store.db").rename(tmp_path / "away.db")
    (tmp_path / "store.db").mkdir()
    one.press("Save", "store.db cannot be opened")
    one.meant("503")
    look(one, "refused while the store is away")
    for path in ("/", "/integrations/loaded", "/add"):
        at(path)(one, "")
        assert one.page.is_visible("text=The store cannot be used now.")
        look(one, f"{path} while the store is away")
