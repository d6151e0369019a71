"""`/session`: an operator exchanges a token for a cookie, which works only for pages of the console."""

from __future__ import annotations

import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.conftest import Named
from support.api import TOKENS, Api, ApiSetup, managed
from support.console_browser import ConsoleBrowser
from support.http_get import wait_until


@pytest.fixture
def browser(running: ApiSetup) -> ConsoleBrowser:
    return ConsoleBrowser(running.child.admin_port)


def instant(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def test_cookie_of_a_session_works_until_the_log_out(browser: ConsoleBrowser) -> None:
    """The session has the permissions of its operator, and scripts cannot read the cookie."""
    assert browser.request("GET", "/session").json == {
        "who": None,
        "oidc": False,
        "oidc_problem": None,
        "store": "ready",
    }
    assert browser.request("GET", "/whoami").code == "unauthenticated"
    response = browser.log_in(TOKENS["editor"])
    (set_cookie,) = response.headers.get_all("Set-Cookie")
    assert re.fullmatch(
        r"sidekey-ui=[\w-]{43}\.k1\.[0-9a-f]{32}; Path=/; HttpOnly; SameSite=Strict", set_cookie, re.ASCII
    )
    assert TOKENS["editor"] not in set_cookie
    assert browser.request("GET", "/whoami").json == browser.request("GET", "/session").json["who"] == response.json
    assert (response.json["name"], response.json["role"]) == ("editor-of-file", "editor")
    assert 0 < instant(response.json["session_ends_at"]) - time.time() <= 12 * 3600
    assert browser.request("POST", "/drafts/integration/preview", {"id": "x"}).status == 200
    assert browser.request("POST", "/tokens", {}).code == "forbidden"
    copied = ConsoleBrowser(browser.port, browser.cookie)
    response = browser.request("DELETE", "/session")
    assert (response.status, browser.cookie) == (204, "")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert copied.request("GET", "/whoami").code == "unauthenticated"
    assert copied.request("GET", "/session").json["who"] is None


@pytest.mark.parametrize("token", ["sidekey_wrong", "", "\ud83d\ude00"])
def test_unknown_or_expired_token_begins_no_session(browser: ConsoleBrowser, token: str) -> None:
    response = browser.request("POST", "/session", {"token": token})
    assert (response.status, response.code, browser.cookie) == (401, "unauthenticated", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sidekey-Console": ""},
        {"Sidekey-Console": "true"},
    ],
    ids=str,
)
def test_cookie_without_the_console_header_is_refused(browser: ConsoleBrowser, headers: dict[str, str]) -> None:
    """Browsers send the cookie for pages of other sites and ports, which must not read or change anything."""
    browser.log_in(TOKENS["admin"])
    session = browser.cookie
    for method, path, body in (
        ("GET", "/whoami", None),
        ("GET", "/session", None),
        ("DELETE", "/session", None),
        ("POST", "/session", {"token": TOKENS["viewer"]}),
        ("POST", "/callers", {"name": "by-another-site"}),
    ):
        response = browser.request(method, path, body, headers)
        assert (response.status, response.code) == (403, "forbidden"), (method, path)
        assert browser.request(method, path, body, {**headers, "Cookie": "sidekey-ui=x"}).status == 403
    assert browser.cookie == session
    assert browser.request("GET", "/callers/by-another-site").code == "not_found"


def test_page_of_another_site_cannot_log_a_browser_in(browser: ConsoleBrowser) -> None:
    """Otherwise an operator would unknowingly work as somebody else."""
    response = browser.request("POST", "/session", {"token": TOKENS["admin"]}, {"Sidekey-Console": ""})
    assert (response.status, response.code, browser.cookie) == (403, "forbidden", "")


def test_token_takes_precedence_over_a_cookie(browser: ConsoleBrowser) -> None:
    """A request with a token has no session to end."""
    browser.log_in(TOKENS["viewer"])
    by_token = {"Authorization": f"Bearer {TOKENS['editor']}", "Sec-Fetch-Site": "", "Sidekey-Console": ""}
    assert browser.request("GET", "/whoami", headers=by_token).json["name"] == "editor-of-file"
    assert browser.request("GET", "/session", headers=by_token).json["who"]["name"] == "editor-of-file"
    wrong = {"Authorization": "Bearer wrong"}
    assert browser.request("GET", "/whoami", headers=wrong).code == "unauthenticated"
    assert browser.request("GET", "/session", headers=wrong).json["who"] is None
    assert browser.request("DELETE", "/session", headers=by_token).code == "not_found"
    assert browser.request("GET", "/whoami").json["name"] == "viewer-of-file"


def test_log_in_replaces_the_session_and_its_cookie(browser: ConsoleBrowser) -> None:
    """An attacker who plants a cookie before the log-in must not share the session."""
    browser.log_in(TOKENS["viewer"])
    previous = ConsoleBrowser(browser.port, browser.cookie)
    browser.log_in(TOKENS["editor"])
    assert browser.cookie.partition(".")[0] != previous.cookie.partition(".")[0]
    assert previous.request("GET", "/whoami").code == "unauthenticated"
    assert browser.request("GET", "/whoami").json["name"] == "editor-of-file"
    browser.cookie = "planted"
    browser.log_in(TOKENS["editor"])
    assert browser.cookie != "planted"


def test_session_ends_with_its_token(api: Api, browser: ConsoleBrowser, named: Named) -> None:
    name = named("leaving")
    end = int(time.time()) + 3600
    ends = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    created = api.create("/tokens", {"name": name, "role": "viewer", "own_token": api.token, "expires_at": ends})
    assert browser.log_in(created["token"]).json["session_ends_at"] == ends
    assert browser.request("GET", "/whoami").json["identity"].startswith("token:")
    assert api.request("DELETE", f"/tokens/{name}", match='"1"').status == 204
    assert browser.request("GET", "/whoami").code == "unauthenticated"


def test_body_of_an_anonymous_route_is_limited(browser: ConsoleBrowser) -> None:
    assert browser.request("POST", "/session", {"token": "x" * 8000}).code == "unauthenticated"
    assert browser.request("POST", "/session", {"token": "x" * 8192}).code == "too_large"


def test_session_begins_and_ends_in_every_process(tmp_path: Path) -> None:
    """Other processes check the row at most a second later."""
    with managed(tmp_path) as child:
        other_folder = tmp_path / "other"
        other_folder.mkdir()
        with managed(other_folder, f"path: {tmp_path}/store.db") as other:
            here, there = ConsoleBrowser(child.admin_port), ConsoleBrowser(other.admin_port)
            here.log_in(TOKENS["viewer"])
            there.cookie = here.cookie
            assert there.request("GET", "/whoami").json["name"] == "viewer-of-file"
            here.request("DELETE", "/session")
            wait_until(lambda: there.request("GET", "/whoami").status == 401)
            here.log_in(TOKENS["viewer"])
            there.cookie = here.cookie
            with closing(sqlite3.connect(tmp_path / "store.db")) as database, database:
                database.execute("UPDATE sidekey_sessions SET ends_at = ends_at + 1")
            assert there.request("GET", "/whoami").code == "unauthenticated"
            wait_until(lambda: here.request("GET", "/whoami").status == 401)


def test_session_reads_while_the_store_is_unavailable(tmp_path: Path) -> None:
    """Nobody can log in meanwhile."""
    with managed(tmp_path) as child:
        known, unknown = ConsoleBrowser(child.admin_port), ConsoleBrowser(child.admin_port)
        known.log_in(TOKENS["viewer"])
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        wait_until(lambda: known.request("GET", "/session").json["store"] == "unavailable")
        assert known.request("GET", "/session").json["who"]["name"] == "viewer-of-file"
        assert known.request("GET", "/whoami").status == 200
        response = unknown.request("POST", "/session", {"token": TOKENS["viewer"]})
        assert (response.code, response.json["detail"]) == (
            "store_unavailable",
            "store.path: the file cannot be opened: No such file or directory",
        )
        assert known.request("DELETE", "/session").code == "store_unavailable"
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        unknown.log_in(TOKENS["viewer"])
        assert unknown.request("GET", "/session").json["store"] == "ready"


def test_rotation_ends_sessions_in_every_process(tmp_path: Path) -> None:
    """Other processes check the token at most a second later."""
    with managed(tmp_path) as child:
        other_folder = tmp_path / "other"
        other_folder.mkdir()
        with managed(other_folder, f"path: {tmp_path}/store.db") as other:
            admin, here, there = (
                Api(child.admin_port),
                ConsoleBrowser(child.admin_port),
                ConsoleBrowser(other.admin_port),
            )
            created = admin.create("/tokens", {"name": "ann", "role": "editor", "own_token": admin.token})
            here.log_in(created["token"])
            there.cookie = here.cookie
            with ThreadPoolExecutor(6) as threads:
                assert {*threads.map(lambda _: there.request("GET", "/whoami").status, range(6))} == {200}
            rotated = admin.request("POST", "/tokens/ann/rotate", {"own_token": admin.token}, match='"1"')
            assert here.request("GET", "/whoami").code == "unauthenticated"
            wait_until(lambda: there.request("GET", "/whoami").status == 401)
            assert here.log_in(rotated.json["token"]).json["name"] == "ann"
