"""admin/console/pages/adding.py: an integration is chosen, made and sent through."""

from __future__ import annotations

import json

from admin.conftest import Named
from admin.console.conftest import LogIn
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from support.api import Running
from support.ask import get

CALLER = {"Sidekey-Token": "the-token-of-a-file"}


def test_every_kind_and_provider_can_be_chosen(log_in: LogIn) -> None:
    pages = log_in("editor")
    body = pages.get("/add").body
    for name in KINDS:
        assert f'href="/add?kind={name}"' in body
    for name in profiles.names():
        assert f'href="/add?provider={name}"' in body
        page = pages.get(f"/add?provider={name}").body
        assert f"provider: {name}\n" in page
        assert profiles.profile(name).documentation in page


def test_a_provider_is_found_by_its_aliases_and_suggests_a_test_request(log_in: LogIn) -> None:
    """The suggestion is beside the document, not in it."""
    pages = log_in("editor")
    (card,) = [line for line in pages.get("/add").body.splitlines() if "/add?provider=microsoft-entra" in line]
    assert "Azure AD" in card.partition('data-words="')[2].partition('"')[0]
    page = pages.get("/add?provider=listrak").body
    assert "test: {method: GET, path: &#39;/email/v1/List&#39;}" in page.replace("'", "&#39;")
    assert "test:" not in page.partition('id="document"')[2].partition("</textarea>")[0]
    assert "Suggested test request" not in pages.get("/add?provider=ups").body


def test_what_is_added_is_in_use_at_once_and_its_secret_is_in_no_page(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """The upstream gets the credential; the page says who set the secret."""
    pages, name = log_in("editor"), named("added")
    page = pages.get("/add?kind=basic").body
    text = page.partition('id="document"')[2].partition("</textarea>")[0].partition(">")[2].replace("&#39;", "'")
    for key, value in {"id": name, "endpoint_prefix": f"http://127.0.0.1:{running.upstream}/v1"}.items():
        text = text.replace(f"\n{key}: ''", f"\n{key}: {value}")
    text = text.replace("username:\n    value: ''", "username:\n    value: svc")
    text = text.replace("password:\n    value: ''", "password:\n    value: canary-pw")
    seen = pages.call("POST", "/integrations", text)
    assert (seen.status, json.loads(seen.body)["id"]) == (201, name)
    answer = get(running.child.proxy_port, f"/i/{name}/whoami", CALLER)
    assert (answer.status, "c3ZjOmNhbmFyeS1wdw==" in answer.body) == (200, True)
    seen = pages.get(f"/integrations/{name}?done=saved")
    assert "Saved, and in use." in seen.text
    assert "set_by: editor-of-file" in seen.text
    for path in ("/", f"/integrations/{name}"):
        assert "canary-pw" not in pages.get(path).body
