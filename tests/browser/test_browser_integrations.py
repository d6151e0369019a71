"""The console in a real browser: integrations are set up by people, by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from browser.conftest import Open
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, Running
from support.browser import Chromium, Tab

CALLER = "the-token-of-a-file"


def add_basic(tab: Tab, running: Running, name: str) -> None:
    """Fill in the form of the kind `basic`, without saving it."""
    tab.open("/add?kind=basic")
    tab.page.fill('[id="/id"]', name)
    tab.page.fill('[id="/endpoint_prefix"]', f"http://127.0.0.1:{running.upstream}/v1")
    tab.page.fill('[id="/auth/username"]', "svc")
    tab.page.fill('[id="/auth/password"]', "canary-pw")
    tab.page.click("summary")
    tab.page.fill('[id="/test/path"]', "/whoami")


@pytest.mark.usefixtures("may_test")
def test_one_is_added_tested_and_called_by_the_copied_command(tab: Open, running: Running) -> None:
    """The command is what a shell splits into the very arguments, and the upstream gets the credential."""
    one = tab()
    add_basic(one, running, "by-mouse")
    one.page.click("button:text-is('Save and test')")
    one.page.wait_for_url("**/integrations/by-mouse?done=tried")
    one.page.click("button[aria-label='Copy: curl']")
    copied = one.page.evaluate("navigator.clipboard.readText()")
    assert shlex.split(copied)[0] == "curl"
    run = subprocess.run(
        ["sh", "-c", copied],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "SIDEKEY_TOKEN": CALLER},
        check=True,
    )
    assert "c3ZjOmNhbmFyeS1wdw==" in run.stdout
    assert "200 in" in one.page.inner_text("main")
    assert "canary" not in one.page.content()


def test_what_was_typed_stays_where_a_form_is_refused(tab: Open, running: Running) -> None:
    """Also the secret, in its input alone; the focus goes to what is wrong first."""
    one = tab()
    add_basic(one, running, "typed")
    one.page.fill('[id="/auth/username"]', "a:b")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector(".wrong .error:visible")
    one.page.wait_for_function("() => document.activeElement.id === '/auth/username'")
    assert one.page.input_value('[id="/auth/password"]') == "canary-pw"
    assert "canary" not in one.page.content()
    one.page.fill('[id="/auth/username"]', "svc")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/integrations/typed?done=saved")


@pytest.mark.parametrize(("role", "saved"), [("editor", True), ("admin", False)])
def test_a_session_that_ends_costs_nothing_that_was_typed(
    tab: Open, running: Running, api: Api, role: Role, saved: bool
) -> None:
    """It is said; whoever logs in again in another window sends it then, and nobody else does."""
    one, name = tab(), f"ended-{role}"
    add_basic(one, running, name)
    one.page.context.clear_cookies()
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector("[data-message]:visible")
    assert "You are logged out" in one.page.inner_text("[data-message]")
    form, one.page = one.page, one.page.context.new_page()
    one.log_in(TOKENS[role])
    form.click("button:text-is('Save')")
    if saved:
        form.wait_for_url(f"**/integrations/{name}?done=saved")
    else:
        form.wait_for_selector("text=The server answered 403")
    assert (api.ask("GET", f"/integrations/{name}").status == 200) is saved
    one.meant("403")


def test_a_provider_is_added_and_its_region_changed_only_with_the_secret(tab: Open) -> None:
    """The form asks for it in words, at the secret."""
    one = tab()
    one.open("/add")
    one.page.fill("#find", "commerce")
    one.page.click("a:visible:text('commercetools')")
    one.page.fill('[id="/id"]', "shop")
    one.page.fill('[id="/auth/region"]', "europe-west1.gcp")
    one.page.fill('[id="/auth/client_id"]', "id")
    one.page.fill('[id="/auth/client_secret"]', "canary-one")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/integrations/shop?done=saved")
    one.page.fill('[id="/auth/region"]', "us-central1.gcp")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector("text=You changed where the credential goes")
    one.page.wait_for_function("() => document.activeElement.id === '/auth/client_secret'")
    one.page.keyboard.type("canary-two")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector("text=us-central1")
    assert "canary" not in one.page.content()


def test_the_refresh_token_that_a_provider_needs_is_asked_for(tab: Open) -> None:
    """Its profile has chosen the grant, which is the default then."""
    one = tab()
    one.open("/add?provider=acoustic-campaign")
    assert one.page.is_visible('[id="/auth/refresh_token"]')


def test_one_is_added_by_keyboard_alone(tab: Open, running: Running) -> None:
    """From the list: `n`, then Tab and Enter."""
    one = tab()
    one.open("/")
    one.page.keyboard.press("n")
    one.page.wait_for_url("**/add")
    one.page.keyboard.press("/")
    one.page.keyboard.type("basic")
    one.page.keyboard.press("Tab")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/add?kind=basic")
    for _ in range(40):
        one.page.keyboard.press("Tab")
        if one.page.evaluate("document.activeElement.id") == "/id":
            break
    for text in ("by-keys", f"http://127.0.0.1:{running.upstream}/v1", "svc", "canary-pw"):
        one.page.keyboard.type(text)
        one.page.keyboard.press("Tab")
    one.page.keyboard.press("Tab")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/integrations/by-keys?done=saved")
    assert "Saved, and in use." in one.page.inner_text("main")


def test_pages_work_without_script(tab: Open, running: Running) -> None:
    one = tab(script=False)
    add_basic(one, running, "no-script")
    one.page.fill('[id="/auth/username"]', "a:b")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector(".wrong .error:visible")
    assert one.page.input_value('[id="/auth/password"]') == ""
    one.page.fill('[id="/auth/username"]', "svc")
    one.page.fill('[id="/auth/password"]', "canary-pw")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/integrations/no-script?done=saved")


def test_a_first_visit_is_small(browser: Chromium, running: Running) -> None:
    """At most 60 KB with stylesheet and script, compressed."""
    one = Tab(browser, f"http://127.0.0.1:{running.child.admin_port}", new=True)
    sizes: list[int] = []
    one.page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", "0"))))
    one.log_in(TOKENS["editor"])
    one.open("/")
    one.close()
    assert len(sizes) >= 5
    assert 0 < sum(sizes) <= 60_000


def test_every_status_has_a_word_and_a_shape(tab: Open) -> None:
    """Colour alone tells some people nothing."""
    one = tab("viewer")
    one.open("/integrations/of-a-file")
    state = one.page.inner_html(".state")
    assert re.search(r"<svg .*</svg>OK", state, re.S)
