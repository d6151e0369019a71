"""admin/console/pages/adding.py: an integration is chosen, made and sent through."""

from __future__ import annotations

from admin.conftest import Named
from admin.console.conftest import LogIn
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from support.api import Running
from support.ask import get
from support.pages import Pages, Seen

CALLER = {"Sidekey-Token": "the-token-of-a-file"}


def made(pages: Pages, running: Running, name: str, **values: str) -> Seen:
    """Add one of the kind `basic` by its form."""
    form = pages.get("/add?kind=basic").form("/add")
    typed = {
        "/id": name,
        "/endpoint_prefix": f"http://127.0.0.1:{running.upstream}/v1",
        "/auth/username": "svc",
        "/auth/password": "canary-pw",
        **values,
    }
    return pages.send(form, typed)


def test_every_kind_and_provider_can_be_chosen_and_has_a_form(log_in: LogIn) -> None:
    pages = log_in("editor")
    body = pages.get("/add").body
    for name in KINDS:
        assert f'href="/add?kind={name}"' in body
        assert "/id" in pages.get(f"/add?kind={name}").form("/add").names
    for name in profiles.names():
        assert f'href="/add?provider={name}"' in body
        form = pages.get(f"/add?provider={name}").form("/add")
        needed = {key for key, each in profiles.profile(name).parameters.items() if each.required}
        assert {f"/auth/{key}" for key in needed} <= form.names


def test_basic_asks_for_four_things_first(log_in: LogIn) -> None:
    first = log_in("editor").get("/add?kind=basic").body.partition("<details")[0]
    assert [part.partition('"')[0] for part in first.split('id="/')[1:] if "!" not in part.partition('"')[0]] == [
        "id",
        "endpoint_prefix",
        "auth/username",
        "auth/password",
    ]


def test_what_is_added_is_in_use_at_once_and_its_secret_is_in_no_page(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """The upstream gets the credential; the pages say when it was set, and by whom."""
    pages, name = log_in("editor"), named("added")
    seen = made(pages, running, name)
    assert (seen.status, seen.path) == (200, f"/integrations/{name}?done=saved")
    assert "Saved, and in use." in seen.text
    assert "by editor-of-file" in seen.text
    answer = get(running.child.proxy_port, f"/i/{name}/whoami", CALLER)
    assert (answer.status, "c3ZjOmNhbmFyeS1wdw==" in answer.body) == (200, True)
    for path in ("/", f"/integrations/{name}", f"/integrations/{name}?done=saved"):
        assert "canary" not in pages.get(path).body
