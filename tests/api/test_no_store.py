"""Without a store, operators of the config can read but not change or send, and sessions are in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from sidekey.api.routes import ROUTES
from sidekey.config.load import load
from support.api import OF_A_FILE, TOKENS, Api, basic, config
from support.console_browser import PAGE
from support.http_get import wait_until
from support.sidekey_process import SidekeyProcess


def without_store(folder: Path, more: str = OF_A_FILE) -> str:
    return re.sub(r"^store: .*\n", "", config(folder, more=more), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    folder = tmp_path_factory.mktemp("without")
    with SidekeyProcess(without_store(folder), folder) as process:
        yield process


@pytest.fixture
def admin(child: SidekeyProcess) -> Api:
    return Api(child.admin_port)


def log_in(api: Api, role: str, cookie: str = "") -> dict[str, str]:
    """Log in, and return the headers of the session."""
    response = api.request(
        "POST", "/session", {"token": TOKENS[role]}, headers={"Authorization": "", "Cookie": cookie, **PAGE}
    )
    assert response.status == 201, response
    ((name, morsel),) = SimpleCookie(response.headers["Set-Cookie"]).items()
    return {"Authorization": "", "Cookie": f"{name}={morsel.value}", **PAGE}


def test_operators_read_the_resources_of_files(admin: Api) -> None:
    assert admin.get("/session")["store"] == "absent"
    names = {item["id"] for item in admin.get("/integrations")["items"]}
    assert names == {"of-a-file", "without-a-secret"}
    assert admin.get("/integrations/of-a-file")["source"] == "file"
    assert {item["name"] for item in admin.get("/tokens")["items"]} == {f"{role}-of-file" for role in TOKENS}
    assert admin.get("/audit")["items"] == admin.get("/sends")["items"] == []
    assert admin.get("/integrations/of-a-file/usage")["points"]
    assert admin.get("/integrations/of-a-file/failures")["items"] == []
    form = admin.by(TOKENS["sender"]).get("/forms/hook-of-a-file")
    assert [parameter["name"] for parameter in form["parameters"]] == ["user"]
    response = admin.request("POST", "/integrations/of-a-file/explain", {"url": "http://127.0.0.1:1/v1/x"})
    assert response.status == 200, response


def test_every_read_has_a_response(admin: Api) -> None:
    for route in ROUTES:
        if route.method == "GET":
            response = admin.request("GET", re.sub(r"\{[^}]+\}", "of-a-file", route.path))
            assert response.status in (200, 400, 404), (route.path, response)


def test_every_change_is_refused(admin: Api, child: SidekeyProcess) -> None:
    """The response is 409 for roles with the permission, and 403 for others. Sidekey writes no file."""
    before = {path.name for path in child.config.parent.iterdir()}
    refused = 0
    for route in ROUTES:
        if route.writes not in ("", "session"):
            path = re.sub(r"\{[^}]+\}", "of-a-file", route.path)
            body: Any = {"id": "new", **basic(1)} if route.body else None
            match = '"1"' if route.conditional else None
            assert admin.request(route.method, path, body, match=match).code == "store_required", route
            assert admin.by(TOKENS["viewer"]).request(route.method, path, body, match=match).code == "forbidden", route
            refused += 1
    assert refused >= 10
    assert {path.name for path in child.config.parent.iterdir()} == before


@pytest.mark.parametrize("role", ["sender", "editor", "admin"])
def test_sends_are_refused(admin: Api, role: str) -> None:
    """Each send needs a row first."""
    api, key = admin.by(TOKENS[role]), {"Idempotency-Key": "0123456789abcdef"}
    response = api.request("POST", "/presets/hook-of-a-file/sends", {"parameters": {"user": "x"}}, headers=key)
    assert (response.status, response.code) == (409, "store_required")
    assert api.request("GET", "/sends/0123456789abcdef").code == "not_found"
    response = api.request("POST", "/presets/hook-of-a-file/check", {"rows": [{"user": "x"}]})
    assert response.json == {"errors": []}


def test_sessions_are_in_memory(admin: Api, tmp_path: Path) -> None:
    """Sessions end like stored ones, but other processes do not know them."""
    session = log_in(admin, "viewer")
    assert admin.request("GET", "/whoami", headers=session).json["name"] == "viewer-of-file"
    assert admin.request("GET", "/sessions", headers=session).code == "forbidden"
    shown = admin.get("/sessions")["items"][0]
    assert (shown["who"], shown["current"]) == ("viewer-of-file", False)
    assert admin.request("DELETE", f"/sessions/{shown['id']}").status == 204
    assert admin.request("GET", "/whoami", headers=session).code == "unauthenticated"
    session = log_in(admin, "viewer")
    with SidekeyProcess(without_store(tmp_path), tmp_path) as other:
        assert Api(other.admin_port).request("GET", "/whoami", headers=session).code == "unauthenticated"
    assert admin.request("DELETE", "/session", headers=session).status == 204
    assert admin.request("GET", "/whoami", headers=session).code == "unauthenticated"
    sessions = [log_in(admin, "editor") for _ in range(21)]
    wait_until(lambda: admin.request("GET", "/whoami", headers=sessions[0]).status == 401)
    assert all(admin.request("GET", "/whoami", headers=item).status == 200 for item in sessions[1:])
    again = log_in(admin, "admin", sessions[-1]["Cookie"])
    assert admin.request("GET", "/whoami", headers=sessions[-1]).code == "unauthenticated"
    pages = {item["id"] for item in admin.request("GET", "/sessions", headers=again).json["items"]}
    assert len(pages) == 20


def test_api_needs_operators_at_the_start(tmp_path: Path) -> None:
    """If other hosts can reach the listener, it also needs TLS."""
    path = tmp_path / "sidekey.yaml"
    text = f"version: 1\n{without_store(tmp_path, 'integrations: {}')}"
    open_listener = 'listen: {admin: "0.0.0.0:9090"}\n'
    path.write_text(text + open_listener)
    (error,) = load(path, {}).errors
    assert "needs admin.tls" in str(error)
    path.write_text(text.replace("admin: {", "admin: {behind_tls: true, ") + open_listener)
    assert load(path, {}).errors == []
    path.write_text(f"version: 1\n{open_listener}")
    (error,) = load(path, {}).errors
    assert "add admin.tokens" in str(error)


def test_without_operators_there_is_no_api(tmp_path: Path) -> None:
    """Adding or removing operators needs a restart."""
    with SidekeyProcess("integrations: {}\n", tmp_path) as child:
        assert Api(child.admin_port).request("GET", "/session").status == 404
        child.rewrite(child.config.read_text() + without_store(tmp_path, "callers: {}"))
        wait_until(lambda: any("needs a restart" in line for line in child.lines))
        assert Api(child.admin_port).request("GET", "/session").status == 404
