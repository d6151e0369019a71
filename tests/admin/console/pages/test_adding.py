"""admin/console/pages/adding.py, integrations.py and saving.py: an integration is made, changed and sent through."""

from __future__ import annotations

import json

import pytest

from admin.api.conftest import Running
from admin.console.conftest import LogIn, Named
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from support.api import TOKENS, Api, basic
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


def test_a_refused_form_says_all_beside_its_fields_and_shows_no_secret(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """What is public stays, what is secret must be typed again."""
    pages, name = log_in("editor"), named("refused")
    seen = made(pages, running, name, **{"/auth/username": "a:b", "/endpoint_prefix": "nonsense"})
    assert (seen.status, seen.path) == (200, "/add")
    assert "colon" in seen.text
    assert "canary" not in seen.body
    form = seen.form("/add")
    assert (form.fields["/id"], form.fields["/auth/username"], form.fields["/auth/password"]) == (name, "a:b", "")
    assert pages.ask("GET", f"/integrations/{name}").status == 404


def test_a_script_gets_what_is_wrong_and_no_page(log_in: LogIn) -> None:
    """So that what was typed stays where it is."""
    pages = log_in("editor")
    form = pages.get("/add?kind=basic").form("/add")
    answer = pages.ask("POST", "/add", {**form.fields, "/auth/password": "canary"}, {"Accept": "application/json"})
    said = json.loads(answer.body)
    assert (answer.status, said["code"]) == (200, "invalid")
    assert "/id" in {pointer for pointer, _ in said["errors"]}
    assert "canary" not in answer.body


def test_where_the_credential_goes_is_changed_only_with_the_secret(
    log_in: LogIn, running: Running, named: Named
) -> None:
    """In the words of a person, beside the secret; nothing is saved before."""
    pages, name = log_in("editor"), named("moved")
    form = made(pages, running, name).form(f"/integrations/{name}")
    elsewhere = f"http://127.0.0.1:{running.upstream}/elsewhere"
    seen = pages.send(form, {"/endpoint_prefix": elsewhere})
    assert "You changed where the credential goes" in seen.text
    assert "Enter it again for where it goes now" in seen.text
    again = seen.form(f"/integrations/{name}")
    assert again.fields["/endpoint_prefix"] == elsewhere
    seen = pages.send(again, {"/auth/password": "another", "/auth/password#do": "replace"})
    assert "Saved, and in use." in seen.text


def test_a_lost_update_says_who_changed_what_and_leaves_the_choice(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """Save again, or load the page."""
    pages, name = log_in("editor"), named("shared")
    form = made(pages, running, name).form(f"/integrations/{name}")
    admin = Api(running.child.admin_port, TOKENS["admin"])
    assert admin.ask("PATCH", f"/integrations/{name}", {"description": "theirs"}, match='"1"').status == 200
    seen = pages.send(form, {"/description": "mine"})
    assert "admin-of-file changed description" in seen.text
    assert api.get(f"/integrations/{name}")["description"] == "theirs"
    again = seen.form(f"/integrations/{name}")
    assert again.fields["/description"] == "mine"
    assert "Saved" in pages.send(again).text
    assert api.get(f"/integrations/{name}")["description"] == "mine"


def test_one_is_tested_explained_and_deleted(log_in: LogIn, running: Running, named: Named) -> None:
    """The test's result is on the page; an explanation names no secret."""
    pages, name = log_in("editor"), named("tried")
    made(pages, running, name, **{"/test/path": "/whoami"})
    path = f"/integrations/{name}"
    assert "200 in" in pages.send(pages.get(path).form(f"{path}/test")).text
    form = pages.get(path).form(f"{path}/explain")
    assert "Allowed" in pages.send(form, {"url": "/whoami"}).text
    assert "Denied" in pages.send(form, {"url": "https://elsewhere.example/"}).text
    assert "ASCII" in pages.send(form, {"url": "/\u202e"}).text
    assert pages.send(pages.get(path).form(f"{path}/delete")).path == "/?done=deleted"
    assert pages.ask("GET", path).status == 404


def test_a_failing_integration_is_told_with_its_last_errors(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """In the list and on its page, until a request succeeds: here, with another secret."""
    pages, name = log_in("editor"), named("failing")
    made(pages, running, name, **{"/endpoint_prefix": "http://127.0.0.1:1"})
    assert "not recorded" in pages.get(f"/?q={name}").text
    for _ in range(3):
        assert get(running.child.proxy_port, f"/i/{name}/x", CALLER).status == 502
    assert "Failing since" in pages.get(f"/?q={name}").text
    seen = pages.get(f"/integrations/{name}")
    assert "3 in 24 hours, 3 failed" in seen.text
    assert seen.text.count(": 502, upstream_unreachable") == 3
    form = seen.form(f"/integrations/{name}")
    repaired = {"/endpoint_prefix": f"http://127.0.0.1:{running.upstream}", "/auth/password#do": "replace"}
    pages.send(form, {**repaired, "/auth/password": "new"})
    assert get(running.child.proxy_port, f"/i/{name}/whoami", CALLER).status == 200
    assert "Failing" not in pages.get(f"/?q={name}").text
    assert api.get(f"/integrations/{name}")["status"] == "ok"


def test_one_of_a_file_is_shown_and_cannot_be_changed(log_in: LogIn) -> None:
    pages = log_in("editor")
    seen = pages.get("/integrations/of-a-file")
    assert "A config file: it can be changed there." in seen.text
    assert "a-secret-of-a-file" not in seen.body
    token = seen.form("/logout").fields["form_token"]
    for path in ("", "/delete", "/release"):
        assert pages.ask("POST", f"/integrations/of-a-file{path}", {"form_token": token, "version": "1"}).status != 303


NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eevil\u2066",
    "x" * 2000,
    "{{ 7919*7907 }}",
    "'`&",
]


@pytest.mark.parametrize("text", NASTY)
def test_texts_of_others_are_inert(log_in: LogIn, running: Running, named: Named, api: Api, text: str) -> None:
    """Markup, quotes, directions and templates, wherever a page shows them."""
    pages, name = log_in("editor"), named("nasty")
    api.make("/integrations", {"id": name, "description": text, "tags": [text[:100]], **basic(running.upstream)})
    for path in (f"/?q={name}", f"/integrations/{name}"):
        body = pages.get(path).body
        assert "<script>alert" not in body
        assert "<img" not in body
        assert str(7919 * 7907) not in body
        assert f"<bdi>{_escaped(text)}</bdi>" in body
    form = pages.get(f"/integrations/{name}").form(f"/integrations/{name}")
    assert form.fields["/description"] == text


def _escaped(text: str) -> str:
    for raw, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(raw, entity)
    return text


def test_the_list_is_searched_and_filtered(log_in: LogIn, running: Running, named: Named, api: Api) -> None:
    """By what the API can; what is not found is said."""
    pages, name = log_in("viewer"), named("found")
    api.make("/integrations", {"id": name, "description": "Quarterly", "tags": ["q3"], **basic(running.upstream)})
    for query in (f"q={name}", "q=quarterly", "tag=q3", f"q={name}&kind=basic&status=ok"):
        assert f'href="/integrations/{name}"' in pages.get(f"/?{query}").body
    assert f'href="/integrations/{name}"' not in pages.get(f"/?q={name}&kind=headers").body
    assert "No integration is like that" in pages.get("/?q=nothing-like-it").text
    assert pages.ask("GET", "/?status=nonsense").status == 200
