"""What happens to people at work: somebody else is faster, a session ends, a token is wrong, a key is pressed."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from browser.conftest import Named, Open
from support.api import TOKENS, Api, Running, basic
from support.ask import get, within
from support.browser import Chromium, Tab
from support.nginx import Nginx

CALLER = "the-token-of-a-file"


def made(api: Api, running: Running, name: str) -> str:
    """The path of a new integration's page."""
    api.make("/integrations", {"id": name, "description": "Orders", **basic(running.upstream)})
    return f"/integrations/{name}"


@pytest.mark.parametrize("theirs", [True, False])
def test_who_was_slower_is_told_who_was_faster_and_chooses(
    tab: Open, running: Running, api: Api, named: Named, theirs: bool
) -> None:
    """Two have the same page open: what the slower one typed stays until the choice is made."""
    path = made(api, running, named("shared"))
    fast, slow = tab("admin"), tab("editor")
    for one in (fast, slow):
        one.open(path)
    fast.edit("Orders", "Theirs")
    fast.page.click("button:text-is('Save')")
    fast.page.wait_for_url("**?done=saved")
    slow.edit("/whoami", "/mine")
    slow.press("Save", "admin-of-file has changed it after you loaded this page. Your text is still here.")
    assert "path: /mine" in slow.text
    if theirs:
        slow.page.get_by_role("link", name="show theirs").click()
        slow.page.wait_for_function("() => document.getElementById('document').value.includes('Theirs')")
        assert "path: /whoami" in slow.text
        assert api.get(path)["version"] == 2
    else:
        slow.page.click("button:text-is('Save')")
        slow.page.wait_for_url("**?done=saved")
        found = api.get(path)
        assert (found["test"]["path"], found["description"], found["version"]) == ("/mine", "Orders", 3)
    slow.meant("412")


def leaver(running: Running, name: str, **more: str) -> tuple[Api, str]:
    """A token that will not last, and the API of who can revoke it."""
    admin = Api(running.child.admin_port)
    made = admin.make("/tokens", {"name": name, "role": "editor", "own_token": TOKENS["admin"], **more})
    return admin, made["token"]


def test_whose_token_is_revoked_is_out_and_loses_nothing_that_was_typed(
    tab: Open, running: Running, api: Api, named: Named
) -> None:
    """The open page says so when it is used; nothing it has is worth anything any more."""
    name = named("leaver")
    path = made(api, running, named("left"))
    admin, token = leaver(running, name)
    one = tab(token=token)
    one.open(path)
    one.edit("Orders", "By somebody who has left")
    assert admin.ask("DELETE", f"/tokens/{name}", match='"1"').status == 204
    one.press("Save", "you are logged out")
    assert "By somebody who has left" in one.text
    one.meant("401")
    assert api.get(path)["description"] == "Orders"
    one.page.reload()
    assert one.page.url.endswith(f"/login?next={path}")
    one.type_token(token)
    one.page.click("main button")
    one.page.wait_for_selector("text=This token is not known, or has expired.")
    one.type_token(TOKENS["viewer"])
    one.page.click("main button")
    one.page.wait_for_url(f"**{path}")
    assert "viewer-of-file" in one.page.inner_text("header")


def test_a_session_ends_with_the_time_of_its_token(tab: Open, running: Running, named: Named) -> None:
    """And the log-in leads back to where one was."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    _, token = leaver(running, named("short"), expires_at=ends.isoformat().replace("+00:00", "Z"))
    one = tab(token=token)
    one.open("/integrations/of-a-file")
    assert "of-a-file" in one.page.inner_text("h1")

    def is_out() -> bool:
        one.open("/integrations/of-a-file")
        return one.page.url.endswith("/login?next=/integrations/of-a-file")

    within(is_out)
    assert datetime.now(UTC) >= ends


def test_wrong_token_is_told_and_the_next_one_gets_in(tab: Open) -> None:
    """By the same form, which does not repeat the token."""
    one = tab(token="")
    one.open("/login")
    one.type_token("wrong")
    one.page.keyboard.press("Enter")
    one.page.wait_for_selector("text=This token is not known, or has expired.")
    assert one.page.input_value("#token") == ""
    one.log_in(TOKENS["editor"])
    assert "editor-of-file" in one.page.inner_text("header")


def test_a_page_that_was_open_when_one_logged_out_changes_nothing(
    tab: Open, running: Running, api: Api, named: Named
) -> None:
    """Nor does one that is found by going back."""
    path = made(api, running, named("back"))
    one = tab("editor")
    one.open(path)
    one.page.click("text=Log out")
    one.page.wait_for_url("**/login")
    one.page.go_back()
    assert "Orders" not in one.page.content()


def test_keys_search_add_and_help_and_are_only_text_where_one_types(tab: Open) -> None:
    """The help closes by Escape, and the focus is where it was."""
    one = tab("editor")
    one.open("/")
    one.page.keyboard.press("/")
    one.page.wait_for_function("() => document.activeElement.id === 'q'")
    one.page.keyboard.type("a/n?b")
    assert one.page.input_value("#q") == "a/n?b"
    assert one.page.locator("dialog[open]").count() == 0
    one.page.fill("#q", "")
    one.page.focus("th a")
    one.page.keyboard.press("?")
    assert one.page.locator("dialog[open]").count() == 1
    one.page.wait_for_function("() => document.activeElement.closest('dialog') !== null")
    one.page.keyboard.press("n")
    one.page.keyboard.press("Escape")
    assert one.page.locator("dialog[open]").count() == 0
    one.page.wait_for_function("() => document.activeElement.matches('th a')")
    one.page.keyboard.press("Control+n")
    one.page.keyboard.press("n")
    one.page.wait_for_url("**/add")


@pytest.mark.usefixtures("may_test")
def test_the_focus_goes_to_the_message(tab: Open, running: Running, api: Api, named: Named) -> None:
    """Each button is used by another operator, since one sends one test a second."""
    path = made(api, running, named("focus"))
    for button, said in (
        ("Send test", "Tested: see the result."),
        ("Save", "Saved, and in use."),
        ("Save and test", "Saved, and in use. It was tested: see the result."),
    ):
        one = tab(token=leaver(running, named("presser"))[1])
        one.open(path)
        one.page.focus(f"button:text-is('{button}')")
        one.page.keyboard.press("Enter")
        one.page.wait_for_url("**?done=*")
        one.page.wait_for_selector(f".done:focus:text-is('{said}')")
        one.open(path)
    one.press("Check", "Can be saved.")
    assert one.page.locator("[data-outcome]:focus").count() == 1
    one.page.fill("#url", "/whoami")
    one.page.keyboard.press("Enter")
    one.page.wait_for_selector(".state:text-is('Allowed')")
    assert one.page.locator("#url:focus").count() == 1


REFUSING = 'location / {{ if ($http_authorization != "{right}") {{ return 401; }} return 200 "welcome"; }}'


@pytest.mark.usefixtures("may_test")
def test_a_failing_integration_is_found_read_and_repaired(
    tab: Open, running: Running, api: Api, named: Named, tmp_path: Path
) -> None:
    """By its status in the list, its last errors, another secret, and a test that the upstream answers."""
    name = named("expired")
    right = b64encode(b"svc:the-new-secret").decode()
    with Nginx(tmp_path, REFUSING.format(right=f"Basic {right}")) as upstream:
        api.make("/integrations", {"id": name, **basic(upstream.port, "the-old-secret")})
        for _ in range(3):
            assert get(running.child.proxy_port, f"/i/{name}/orders", {"Sidekey-Token": CALLER}).status == 401
        one = tab("editor")
        one.open("/")
        one.page.keyboard.press("/")
        one.page.keyboard.type(name)
        one.page.keyboard.press("Enter")
        one.page.wait_for_url(f"**/?q={name}*")
        assert "Failing since" in one.page.inner_text(f"tr:has(a[href='/integrations/{name}'])")
        one.page.click(f"th a:text-is('{name}')")
        one.page.wait_for_selector("h3:text-is('Last errors')")
        assert one.page.locator("li:has-text(': 401')").count() == 3
        secret = one.text.partition("  password:\n")[2].partition("test:")[0]
        one.edit(f"  password:\n{secret}", "  password: {value: the-new-secret}\n")
        one.page.click("button:text-is('Save and test')")
        one.page.wait_for_url("**?done=tried")
        assert "200 in" in one.page.inner_text("main")
        assert one.page.is_visible(".head .state:text-is('OK')")
        assert upstream.requests(4)[-1]["authorization"] == f"Basic {right}"


def test_a_window_that_was_given_back_is_as_new(browser: Chromium, running: Running) -> None:
    """Nobody is logged in there, and it has the size and the colours that it is asked for."""
    base = f"http://127.0.0.1:{running.child.admin_port}"
    one = Tab(browser, base)
    one.be(TOKENS["editor"])
    one.open("/")
    one.resize(360)
    one.page.emulate_media(color_scheme="dark")
    one.context.new_page()
    one.close()
    other = Tab(browser, base)
    assert other.page is one.page
    assert (other.context.cookies(), other.context.pages, other.page.url) == ([], [other.page], "about:blank")
    assert other.page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [1280, False]
    other.close()
    assert one.complaints + other.complaints == []
