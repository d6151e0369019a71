"""admin/console/pages/access.py: tokens and callers are made, changed and ended by admins."""

from __future__ import annotations

import re

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import TOKENS, Api, Running, basic
from support.ask import get
from support.pages import Pages, Seen


def shown_token(seen: Seen) -> str:
    """The token that a page shows."""
    (found,) = re.findall(r"sidekey_[\w-]{43}", seen.body)
    return str(found)


def test_a_token_is_made_shown_once_used_and_revoked(log_in: LogIn, running: Running, named: Named) -> None:
    """Whoever makes it types their own again; a session that was begun with it ends with it."""
    admin, name = log_in("admin"), named("ann")
    form = admin.get("/access").form("/access/tokens")
    seen = admin.send(form, {"name": name, "role": "editor", "own_token": TOKENS["admin"], "expires": "2099-01-31"})
    token = shown_token(seen)
    assert "sidekey_" not in admin.get("/access").body.replace("sidekey_...", "")
    pages = Pages(running.child.admin_port)
    assert pages.log_in(token).path == "/"
    assert "31 January 2099" in admin.get("/access").text
    assert admin.send(admin.get("/access").form(f"/access/tokens/{name}/revoke")).path == "/access?done=revoked"
    assert pages.get("/").path.startswith("/login")


def test_a_token_is_refused_with_all_that_is_wrong(log_in: LogIn, named: Named) -> None:
    """And neither own token nor anything else that is secret is in the page."""
    admin = log_in("admin")
    form = admin.get("/access").form("/access/tokens")
    seen = admin.send(form, {"name": "Not A Name", "own_token": TOKENS["editor"], "expires": "yesterday"})
    assert TOKENS["editor"] not in seen.body
    assert seen.form("/access/tokens").fields["name"] == "Not A Name"
    assert 'aria-invalid="true"' in seen.body
    seen = admin.send(form, {"name": named("x"), "own_token": ""})
    assert "your own token" in seen.text


def test_a_caller_is_made_let_in_changed_and_deleted(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    admin, name, integration = log_in("admin"), named("billing"), named("crm")
    api.make("/integrations", {"id": integration, **basic(running.upstream)})
    seen = admin.send(admin.get("/access").form("/access/callers"), {"name": name, "integrations": "none-of-it"})
    caller = {"Sidekey-Token": shown_token(seen)}
    assert get(running.child.proxy_port, f"/i/{integration}/whoami", caller).status == 403
    form = admin.get("/access").form(f"/access/callers/{name}")
    assert form.fields["integrations"] == "none-of-it"
    assert admin.send(form, {"integrations": f"none-of-it, {integration}"}).path == "/access?done=changed"
    assert get(running.child.proxy_port, f"/i/{integration}/whoami", caller).status == 200
    assert "somebody has changed it" in admin.send(form, {"integrations": "*"}).text
    assert admin.send(admin.get("/access").form(f"/access/callers/{name}/delete")).path == "/access?done=removed"
    assert get(running.child.proxy_port, f"/i/{integration}/whoami", caller).status == 401
    seen = admin.send(admin.get("/access").form("/access/callers"), {"name": "", "integrations": "A B"})
    assert seen.form("/access/callers").fields["integrations"] == "A B"


def test_a_caller_is_granted_presets(log_in: LogIn, named: Named) -> None:
    """Beside integrations, or alone; what is wrong with either list stands at it."""
    admin, name = log_in("admin"), named("sender")
    api = Api(admin.port)
    admin.send(admin.get("/access").form("/access/callers"), {"name": name, "presets": "welcome, later"})
    assert {key: api.get(f"/callers/{name}")[key] for key in ("integrations", "presets")} == {
        "integrations": [],
        "presets": ["welcome", "later"],
    }
    form = admin.get("/access").form(f"/access/callers/{name}")
    assert (form.fields["integrations"], form.fields["presets"]) == ("", "welcome, later")
    assert admin.send(form, {"presets": "*"}).path == "/access?done=changed"
    assert api.get(f"/callers/{name}")["presets"] == "*"
    seen = admin.send(admin.get("/access").form("/access/callers"), {"name": named("x"), "presets": "No"})
    assert re.search(r'aria-describedby="c-presets-help">\s*<p class="error"', seen.body)
    assert not re.search(r'aria-describedby="c-integrations-help">\s*<p class="error"', seen.body)


def test_a_token_of_a_file_counts_until_it_is_removed_from_it(log_in: LogIn) -> None:
    """Nobody can revoke it here, and the page does not say so."""
    seen = log_in("admin").get("/access")
    row = seen.body.partition("<bdi>viewer-of-file</bdi>")[2].partition("</tr>")[0]
    assert "it is removed from the config" in row
    assert "evoke" not in row


def test_both_are_for_admins(log_in: LogIn) -> None:
    for role in ("viewer", "editor"):
        pages = log_in(role)
        assert "/access" not in pages.get("/").body
        for path in ("/access", "/activity"):
            assert pages.ask("GET", path).status == 403
        token = pages.get("/").form("/logout").fields["form_token"]
        body = {"form_token": token, "name": "x", "role": "admin", "own_token": TOKENS[role], "version": "1"}
        for path in ("/access/tokens", "/access/callers", "/access/tokens/x/revoke", "/access/callers/x/delete"):
            assert pages.ask("POST", path, body).status == 403
