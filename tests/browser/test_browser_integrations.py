"""The console in a real browser: integrations are set up by people, by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from browser.conftest import Open
from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, Running, basic
from support.browser import Chromium, Tab

CALLER = "the-token-of-a-file"


def add_basic(tab: Tab, running: Running, name: str) -> None:
    """Fill in the start of the kind `basic`, without saving it."""
    tab.open("/add?kind=basic")
    tab.edit("id: ''", f"id: {name}")
    tab.edit("endpoint_prefix: ''", f"endpoint_prefix: http://127.0.0.1:{running.upstream}/v1\ntest: {{path: /whoami}}")
    tab.edit("username:\n    value: ''", "username:\n    value: svc")
    tab.edit("password:\n    value: ''", "password:\n    value: canary-pw")


@pytest.mark.usefixtures("may_test")
def test_one_is_added_corrected_tested_and_called_by_the_copied_command(tab: Open, running: Running) -> None:
    """An error leads to its line; what was typed stays, and the upstream gets the credential."""
    one = tab()
    add_basic(one, running, "by-mouse")
    one.edit("value: svc", "value: a:b")
    one.press("Save", "Not saved: one value is not valid")
    line = one.text.split("\n").index("    value: a:b")
    assert one.page.inner_text(".numbers .wrong") == str(line)
    one.page.click(f"[data-outcome] button:text-is('Line {line}')")
    at = one.page.evaluate("[document.activeElement.id, document.activeElement.selectionStart]")
    assert at == ["document", one.text.index("  username:") + 2]
    one.meant("422")
    assert "canary" not in one.page.content()
    one.edit("value: a:b", "value: svc")
    one.press("Check", "Can be saved.")
    goes = f"The credential goes to http://127.0.0.1:{running.upstream}/v1, and nowhere else."
    assert goes in one.page.inner_text("[data-outcome]")
    assert one.page.locator(".numbers .wrong").count() == 0
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
    assert "canary" not in one.page.content() + one.text


def test_text_that_is_no_yaml_leads_to_its_line(tab: Open, running: Running) -> None:
    one = tab()
    add_basic(one, running, "unread")
    one.edit("description: ''", 'description: "no end')
    for button in ("Check", "Save"):
        one.press(button, "the body is not valid YAML")
        line = one.text.split("\n").index('description: "no end') + 1
        assert one.page.inner_text(".numbers .wrong") == str(line)
    one.meant("400")


def test_an_id_that_is_taken_and_one_of_a_file_are_told_by_a_check(tab: Open, running: Running, api: Api) -> None:
    api.make("/integrations", {"id": "taken", **basic(running.upstream)})
    one = tab()
    add_basic(one, running, "taken")
    one.press("Check", "another integration has this ID")
    one.edit("id: taken", "id: of-a-file")
    one.press("Check", "a config file has an integration of this ID")


@pytest.mark.parametrize(("role", "saved"), [("editor", True), ("admin", False)])
def test_a_session_that_ends_costs_nothing_that_was_typed(
    tab: Open, running: Running, api: Api, role: Role, saved: bool
) -> None:
    """It is said; whoever logs in again in another window sends it then, and nobody else does."""
    one, name = tab(), f"ended-{role}"
    add_basic(one, running, name)
    one.page.context.clear_cookies()
    one.press("Save", "you are logged out")
    typed, form, one.page = one.text, one.page, one.page.context.new_page()
    one.log_in(TOKENS[role])
    form.click("button:text-is('Save')")
    if saved:
        form.wait_for_url(f"**/integrations/{name}?done=saved")
    else:
        form.wait_for_selector("text=you are logged out")
        assert form.input_value("#document") == typed
    assert (api.ask("GET", f"/integrations/{name}").status == 200) is saved
    one.meant("401")
    one.meant("403")


def test_a_provider_is_added_and_its_region_changed_only_with_the_secret(tab: Open) -> None:
    """The page asks for it at its line, and by a check already."""
    one = tab()
    one.open("/add")
    one.page.fill("#find", "commerce")
    one.page.click("a:visible:text('commercetools')")
    for key, value in {"id": "shop", "region": "europe-west1.gcp", "client_id": "id"}.items():
        one.edit(f"{key}: ''", f"{key}: {value}")
    one.edit("    value: ''", "    value: canary-one")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_url("**/integrations/shop?done=saved")
    one.edit("europe-west1", "us-central1")
    one.press("Check", "/auth/client_secret: must be sent again")
    line = one.text.split("\n").index("  client_secret:") + 1
    assert one.page.inner_text(".numbers .wrong") == str(line)
    one.press("Save", "Not saved: the place or destination of secrets has changed")
    secret = one.text.partition("  client_secret:\n")[2].partition("set_by")[0]
    one.edit(f"{secret}set_by: editor-of-file\n", "    value: canary-two\n")
    one.page.click("button:text-is('Save')")
    one.page.wait_for_selector("text=api.us-central1.gcp.commercetools.com")
    assert "canary" not in one.page.content() + one.text
    one.meant("422")


def test_one_is_added_by_keyboard_alone(tab: Open, running: Running) -> None:
    """From the list: `n`, then Tab and Enter. Tab leaves the text, too."""
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
        if one.page.evaluate("document.activeElement.id") == "document":
            break
    one.page.keyboard.press("Control+a")
    for line in (
        "id: by-keys",
        f"endpoint_prefix: http://127.0.0.1:{running.upstream}/v1",
        "auth: {type: basic, username: {value: svc}, password: {value: pw}}",
    ):
        one.page.keyboard.type(f"{line}\n")
    one.page.keyboard.press("Tab")
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/integrations/by-keys?done=saved")
    assert one.page.inner_text(":focus") == "Saved, and in use."


def test_without_script_the_page_names_the_api_and_the_command(tab: Open) -> None:
    one = tab(script=False)
    one.open("/add?kind=basic")
    assert "use the API (/api/v1) or sidekey import" in one.page.inner_text("noscript")


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
