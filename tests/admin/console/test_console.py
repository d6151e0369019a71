"""admin/console/console.py: who gets in, what others' pages can do, and what every page says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.console.conftest import LogIn
from sidekey.admin.console.pages.table import PAGES
from support.api import OF_A_FILE, TOKENS, Api, Running, basic, managed, rewritten
from support.ask import within
from support.pages import Pages

PATHS = sorted({page.path.replace("{id}", "of-a-file") for page in PAGES})


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/integrations/%2e%2e"])
def test_who_is_not_logged_in_is_led_to_the_log_in(running: Running, path: str) -> None:
    """And nothing is told, whether or not there is such a page; a token in a header is the API's."""
    pages = Pages(running.child.admin_port)
    for headers in ({}, {"Authorization": f"Bearer {TOKENS['admin']}"}, {"Cookie": "sidekey=wrong"}):
        seen = pages.ask("GET", path, headers=headers)
        assert (seen.status, seen.headers["Location"].partition("?")[0], seen.body) == (303, "/login", "")


def test_a_log_in_makes_a_session_that_a_script_cannot_read(running: Running) -> None:
    """The cookie holds nothing of the token, and leads to the page that was asked for."""
    pages = Pages(running.child.admin_port)
    form = pages.get("/integrations/of-a-file").form("/login?next=/integrations/of-a-file")
    answer = pages.ask("POST", form.action, {**form.fields, "token": f" {TOKENS['viewer']} "})
    assert (answer.status, answer.headers["Location"]) == (303, "/integrations/of-a-file")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=" in cookie
    assert TOKENS["viewer"] not in str(answer.headers)
    assert "of-a-file" in pages.get("/integrations/of-a-file").text


@pytest.mark.parametrize("wanted", ["//evil.example/", "/\\evil.example", "https://evil.example/", "/%0d%0aX: y"])
def test_a_log_in_leads_nowhere_else(running: Running, wanted: str) -> None:
    """Only to a path of ours."""
    pages = Pages(running.child.admin_port)
    form = pages.get("/login").form("/login")
    answer = pages.ask("POST", f"/login?next={wanted}".replace(" ", "%20"), {**form.fields, "token": TOKENS["viewer"]})
    assert (answer.status, answer.headers["Location"]) == (303, "/")


def test_a_wrong_token_is_told_and_200_of_them_cost_others_nothing(running: Running) -> None:
    """The right one gets in after any number of wrong ones, by the same address."""
    pages = Pages(running.child.admin_port)
    form = pages.get("/login").form("/login")
    seen = [pages.send(form, {"token": f"sidekey_{number}"}) for number in range(200)]
    assert {each.status for each in seen} == {200}
    assert all("not known" in each.text and "sidekey_1" not in each.body for each in seen)
    assert pages.log_in(TOKENS["viewer"]).path == "/"


def test_login_form_of_another_browser_is_refused(running: Running) -> None:
    """Its token belongs to the cookie of the browser that loaded it."""
    form = Pages(running.child.admin_port).get("/login").form("/login")
    fresh = Pages(running.child.admin_port)
    fresh.get("/login")
    assert fresh.ask("POST", "/login", {**form.fields, "token": TOKENS["viewer"]}).status == 403


def test_who_logs_out_is_out_in_every_window(log_in: LogIn) -> None:
    """What the browser kept is worth nothing afterwards."""
    pages = log_in("viewer")
    kept = dict(pages.cookies)
    assert pages.send(pages.get("/").form("/logout")).path == "/login"
    pages.cookies = kept
    assert pages.get("/").path.startswith("/login")


def test_a_further_log_in_ends_the_session_before_it(log_in: LogIn) -> None:
    """Somebody else's at the same screen, or one that was planted."""
    pages = log_in("editor")
    former = dict(pages.cookies)
    assert "viewer-of-file" in pages.log_in(TOKENS["viewer"]).text
    pages.cookies = former
    assert pages.ask("GET", "/").status == 303


def test_a_session_ends_with_its_token(running: Running) -> None:
    """At once."""
    admin = Api(running.child.admin_port, TOKENS["admin"])
    made = admin.make("/tokens", {"name": "leaver", "role": "editor", "own_token": TOKENS["admin"]})
    pages = Pages(running.child.admin_port)
    assert pages.log_in(made["token"]).path == "/"
    assert admin.ask("DELETE", "/tokens/leaver", match='"1"').status == 204
    assert pages.get("/").path.startswith("/login")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_form_of_another_site_changes_nothing(log_in: LogIn, headers: dict[str, str]) -> None:
    """Even where it has everything else, and the log-in is no exception."""
    pages = log_in("editor")
    form = pages.get("/integrations/of-a-file").form("/integrations/of-a-file/test")
    assert pages.ask("POST", form.action, form.fields, headers).status == 403
    login = pages.get("/login").form("/login")
    assert pages.ask("POST", "/login", {**login.fields, "token": TOKENS["admin"]}, headers).status == 403


def test_a_form_needs_the_token_of_this_browser(log_in: LogIn) -> None:
    """Missing, empty, malformed, or of somebody else's page: refused."""
    pages, other = log_in("editor"), log_in("editor")
    form = pages.get("/integrations/of-a-file").form("/integrations/of-a-file/explain")
    values = {**form.fields, "url": "/x"}
    foreign = other.get("/integrations/of-a-file").form("/integrations/of-a-file/explain").fields["form_token"]
    for token in ("", "x", "Zm9v", foreign, form.fields["form_token"][:-4]):
        assert pages.ask("POST", form.action, {**values, "form_token": token}).status == 403
    assert pages.ask("POST", form.action, values).status == 200
    again = pages.get("/integrations/of-a-file").form("/integrations/of-a-file/explain")
    assert again.fields["form_token"] != form.fields["form_token"]


def test_a_link_from_elsewhere_opens_a_page_and_nothing_else_does(log_in: LogIn, running: Running) -> None:
    """Not a frame, not a script, not an image; and none of it at the API or the metrics."""
    pages = log_in("viewer")
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert pages.ask("GET", "/", headers=link).status == 200
    for name, value in (("Sec-Fetch-Dest", "iframe"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Mode", "cors")):
        assert pages.ask("GET", "/", headers={**link, name: value}).status == 403
    for path in ("/metrics", "/healthz", "/api/v1/whoami", "/api/v1"):
        assert pages.ask("GET", path, headers=link).status == 403


def test_every_page_keeps_to_itself(log_in: LogIn) -> None:
    """No frame, no other site, nothing in a cache; also the log-in and what is not found."""
    pages = log_in("admin")
    for path in ("/", "/login", "/nothing", "/integrations/of-a-file", "/add", "/add?kind=basic"):
        headers = pages.ask("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert headers["Referrer-Policy"] == "same-origin"
        assert "Server" not in headers or "Python" not in headers["Server"]


@pytest.mark.parametrize("name", ["Origin", "Cookie", "Accept-Encoding"])
def test_fields_that_are_not_text_are_no_defect(running: Running, name: str) -> None:
    """Anybody may send any byte."""
    pages = Pages(running.child.admin_port)
    form = pages.get("/login").form("/login")
    values = {**form.fields, "token": TOKENS["viewer"]}
    for value in ("\xff", "sidekey=\xff; sidekey-login=\xff"):
        assert pages.ask("GET", "/login", headers={name: value}).status == 200
        assert pages.ask("POST", "/login", values, {name: value}).status in {303, 403}
    assert pages.ask("GET", "/", headers={"Cookie": "sidekey=\xff"}).status == 303


def test_who_is_not_logged_in_may_send_little(running: Running) -> None:
    """Reading a form of 512 KiB takes a thread as long as several pages do."""
    pages = Pages(running.child.admin_port)
    form = pages.get("/login").form("/login")
    assert pages.ask("POST", "/login", {**form.fields, "token": "x" * (8 << 10)}).status == 413


def test_unusable_integration_is_not_said_to_be_in_use(running: Running, log_in: LogIn, api: Api) -> None:
    """A file has its ID."""
    made = api.make("/integrations", {"id": "covered", **basic(running.upstream)})
    more = "  covered: {endpoint_prefix: 'http://127.0.0.1:1', auth: {type: headers, headers: {X: y}}}\n"
    with rewritten(running.child, running.child.config.read_text() + more):
        within(lambda: api.get("/integrations/covered")["status"] == "unusable")
        page = log_in("editor").get("/integrations/covered?done=saved")
        assert "Saved. It is not in use" in page.text
        assert "in use." not in page.text.replace("not in use", "")
    assert made["version"] == 1


def test_static_files_are_kept_for_good_under_names_with_their_digest(log_in: LogIn) -> None:
    """And nothing beside them is served."""
    pages = log_in("viewer")
    page = pages.get("/").body
    names = [part.partition('"')[0] for part in page.split('"/static/')[1:]]
    assert len(names) == 3
    for name in names:
        assert "immutable" in pages.ask("GET", f"/static/{name}").headers["Cache-Control"]
    for name in ("console.css", "../console.py", "%2e%2e/console.py", ""):
        assert pages.ask("GET", f"/static/{name}").status == 404


def test_a_viewer_sees_and_changes_nothing(log_in: LogIn, api: Api, running: Running) -> None:
    """No form, and no address that does it all the same."""
    api.make("/integrations", {"id": "watched", **basic(running.upstream)})
    pages = log_in("viewer")
    page = pages.get("/integrations/watched")
    assert "data-editor" not in page.body
    assert {form.action for form in page.forms if form.method == "post"} == {
        "/logout",
        "/integrations/watched/test",
        "/integrations/watched/explain",
    }
    token = page.form("/logout").fields["form_token"]
    refused = pages.ask("POST", "/integrations/watched/delete", {"form_token": token, "version": "1"})
    assert (refused.status, "needs the role editor" in refused.text) == (403, True)
    assert pages.ask("GET", "/add").status == 403
    assert api.get("/integrations/watched")["version"] == 1


def test_methods_and_bodies_that_no_page_takes_are_refused(log_in: LogIn) -> None:
    """With what is allowed."""
    pages = log_in("editor")
    token = pages.get("/").form("/logout").fields["form_token"]
    assert pages.ask("DELETE", "/").status == 405
    assert pages.ask("POST", "/", {"form_token": token}).headers["Allow"] == "GET"
    opened = pages.ask("GET", "/access/tokens")
    assert (opened.status, opened.headers["Allow"]) == (405, "POST")
    assert pages.ask("GET", "/nothing").status == 404
    assert pages.ask("HEAD", "/").status == 200
    explain = "/integrations/of-a-file/explain"
    assert pages.ask("POST", explain, {}, {"Content-Type": "application/json"}).status == 415
    assert pages.ask("POST", explain, {"form_token": token, "x": "y" * (600 << 10)}).status == 413
    assert pages.ask("POST", explain, {"form_token": token, **dict.fromkeys(map(str, range(3000)), "")}).status == 400


def test_while_the_store_is_away_what_is_loaded_can_be_read(tmp_path: Path) -> None:
    """With a banner, one integration's page included; nothing can be changed, and nobody is let in by a guess."""
    with managed(tmp_path, more=OF_A_FILE) as child:
        Api(child.admin_port, TOKENS["editor"]).make("/integrations", {"id": "loaded", **basic(1)})
        pages, stranger = Pages(child.admin_port), Pages(child.admin_port)
        pages.log_in(TOKENS["editor"])
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        (tmp_path / "store.db").mkdir()
        for path in ("/", "/integrations/loaded", "/integrations/of-a-file", "/add", "/add?kind=basic"):
            seen = pages.ask("GET", path)
            assert (seen.status, "The store cannot be used now" in seen.text) == (200, True), path
        refused = pages.call("PUT", "/integrations/loaded", "auth: {}", '"1"')
        assert (refused.status, "store.db cannot be opened" in refused.body) == (503, True)
        login = {**stranger.get("/login").form("/login").fields, "token": TOKENS["viewer"]}
        assert stranger.ask("POST", "/login", login).status == 503
        stranger.cookies["sidekey"] = "A" * 43
        assert stranger.ask("GET", "/").status == 303
