"""The API for scripts of the console's pages: only for a session, from its own pages, with their form token."""

from __future__ import annotations

import json

import pytest

from admin.conftest import Named
from admin.console.conftest import LogIn
from support.api import TOKENS, Api, Running, basic
from support.pages import Pages

PREVIEW = "/drafts/integration/preview"


def test_a_script_does_what_its_operator_may(log_in: LogIn, running: Running, api: Api, named: Named) -> None:
    name = named("saved")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    pages = log_in("editor")
    text = api.ask("GET", f"/integrations/{name}", headers={"Accept": "application/yaml"}).body.decode()
    seen = pages.call("PUT", f"/integrations/{name}", f"{text}description: by a script\n", '"1"')
    assert (seen.status, json.loads(seen.body)["updated_by"]) == (200, "editor-of-file")
    assert pages.call("PUT", f"/integrations/{name}", text, '"1"').status == 412
    viewer = log_in("viewer")
    assert viewer.call("PUT", f"/integrations/{name}", text, '"2"').status == 403
    assert json.loads(viewer.call("POST", PREVIEW, text).body)["code"] == "forbidden"
    assert api.get(f"/integrations/{name}")["version"] == 2


def test_without_a_session_nothing_is_said(running: Running) -> None:
    """Whatever path it is; nor does a bearer token count here."""
    pages = Pages(running.child.admin_port)
    for path in (PREVIEW, "/nothing"):
        for headers in ({}, {"Authorization": f"Bearer {TOKENS['admin']}"}, {"Cookie": f"sidekey={'A' * 43}"}):
            seen = pages.ask("POST", f"/session/api/v1{path}", "id: x", headers)
            assert (seen.status, json.loads(seen.body)["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sidekey-Form-Token": ""},
        {"Sidekey-Form-Token": "x"},
        {"Sidekey-Form-Token": "Zm9v"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_site_does_nothing(log_in: LogIn, headers: dict[str, str]) -> None:
    assert log_in("editor").call("POST", PREVIEW, "id: x", headers=headers).status == 403


def test_the_form_token_is_that_of_this_session(log_in: LogIn) -> None:
    pages, other = log_in("editor"), log_in("editor")
    foreign = other.get("/").form("/logout").fields["form_token"]
    assert pages.call("POST", PREVIEW, "id: x").status == 200
    assert pages.call("POST", PREVIEW, "id: x", headers={"Sidekey-Form-Token": foreign}).status == 403


def test_a_link_reads_nothing(log_in: LogIn) -> None:
    """A GET has no Origin that says where it comes from."""
    assert log_in("editor").ask("GET", "/session/api/v1/whoami").status == 403
