"""admin/console/pages/saving.py: what comes of a form that is refused, or was overtaken."""

from __future__ import annotations

import json

from admin.conftest import Named
from admin.console.conftest import LogIn
from admin.console.pages.test_adding import made
from support.api import TOKENS, Api, Running


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
    assert "admin-of-file changed Description" in seen.text
    assert api.get(f"/integrations/{name}")["description"] == "theirs"
    again = seen.form(f"/integrations/{name}")
    assert again.fields["/description"] == "mine"
    assert "Saved" in pages.send(again).text
    assert api.get(f"/integrations/{name}")["description"] == "mine"


def test_a_script_saves_again_in_place_of_what_was_faster(
    log_in: LogIn, running: Running, named: Named, api: Api
) -> None:
    """It is told the version that the next attempt is for, and by that alone the next one is saved."""
    pages, name = log_in("editor"), named("overtaken")
    form = made(pages, running, name).form(f"/integrations/{name}")
    assert api.ask("PATCH", f"/integrations/{name}", {"description": "theirs"}, match='"1"').status == 200
    values = {**form.fields, "/description": "mine"}
    script = {"Accept": "application/json"}
    said = json.loads(pages.ask("POST", form.action, values, script).body)
    assert (said["code"], said["version"]) == ("changed", 2)
    again = {**values, "version": str(said["version"])}
    assert json.loads(pages.ask("POST", form.action, again, script).body) == {
        "location": f"/integrations/{name}?done=saved"
    }
    assert api.get(f"/integrations/{name}")["description"] == "mine"
