"""api/dispatch.py: which requests are let in, and how every other one is refused."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable

import pytest

from sidekey.api.route import PREFIX
from sidekey.api.routes import ROUTES
from support.api import TOKENS, Api, Running, Said, basic
from support.http_get import within
from support.raw_connection import DEADLINE
from support.scraping import value_of

Named = Callable[[str], str]
ANONYMOUS = {route.path for route in ROUTES if route.permission == "anonymous"}
PATHS = sorted({route.path for route in ROUTES} - ANONYMOUS)


def raw(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and the whole response, which is a problem, to these bytes; the end is not waited for."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        response = b""
        while not response.endswith(b"}"):
            response += connection.recv(65536)
    return int(response.split(b" ", 2)[1]), response


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer sidekey_wrong", "Basic dTpw", f"Token {TOKENS['admin']}", "Bearer \xe9"]
)
def test_nothing_is_told_without_a_token(api: Api, header: str) -> None:
    """401 with a challenge, on loopback as anywhere, whether or not there is such a path."""
    paths = [*PATHS, "/nothing", ""]
    answers = {path: api.ask("GET", path, headers={"Authorization": header}) for path in paths}
    told = {path: (said.status, said.code) for path, said in answers.items()}
    assert told == dict.fromkeys(paths, (401, "unauthenticated"))
    for said in answers.values():
        assert said.headers["WWW-Authenticate"].startswith('Bearer realm="sidekey"')


def test_a_token_is_never_a_cookie_a_query_or_given_twice(api: Api, running: Running) -> None:
    """Only the Authorization field is read, once."""
    token = TOKENS["admin"]
    nothing = {"Authorization": "", "Cookie": f"token={token}; session={token}"}
    assert api.ask("GET", "/whoami", headers=nothing).code == "unauthenticated"
    assert api.ask("GET", f"/whoami?access_token={token}", headers={"Authorization": ""}).code == "unauthenticated"
    fields = f"Authorization: Bearer {token}\r\n" * 2
    request = f"GET {PREFIX}/whoami HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n"
    assert raw(running.child.admin_port, request.encode())[0] == 400


def test_other_methods_and_paths_are_refused(api: Api) -> None:
    """405 with Allow, 404; HEAD is GET without a body."""
    said = api.ask("POST", "/whoami")
    assert (said.status, said.code, said.headers["Allow"]) == (405, "method_denied", "GET, HEAD")
    said = api.ask("PUT", "/integrations")
    assert said.headers["Allow"] == "GET, HEAD, POST"
    for path in (
        "/nothing",
        "/integrations/",
        "/integrations/a/b",
        "//integrations",
        "/Integrations",
        "/%69ntegrations",
    ):
        assert api.ask("GET", path).code == "not_found", path
    said = api.ask("HEAD", "/whoami")
    assert (said.status, said.body) == (200, b"")


def test_a_body_is_json_of_a_type_that_is_accepted(api: Api, named: Named) -> None:
    """415, 400 and 413, of which none repeats a value."""

    def sent(body: bytes, **headers: str) -> Said:
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        return api.ask("POST", "/callers", body, headers=fields)

    document = json.dumps({"name": named("typed")}).encode()
    for wrong in ("text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        said = sent(document, Content_Type=wrong)
        assert (said.status, said.code) == (415, "unsupported"), wrong
    assert sent(document, Content_Encoding="gzip").code == "unsupported"
    for broken in (b"{", b"[]", b'"canary"', b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"a": NaN}', b"[" * 5000):
        said = sent(broken)
        assert (said.status, said.code) == (400, "malformed"), broken
        assert b"canary" not in said.body
    assert sent(b"").code == "malformed"
    assert sent(document, Content_Type="application/json; charset=UTF-8").status == 201
    said = api.ask("PATCH", f"/callers/{named('typed')}", {}, match='"1"', headers={"Content-Type": "text/json"})
    assert (said.code, said.headers["Accept-Patch"]) == (
        "unsupported",
        "application/merge-patch+json",
    )
    assert api.ask("POST", "/integrations/nobody/test", {}).code == "malformed"


def test_a_body_is_at_most_512_kib(api: Api, running: Running) -> None:
    """Whether it says so or comes in chunks; the connection closes, since the rest is not read."""
    exactly = b'{"name": "Not", "a": "' + b"x" * ((512 << 10) - 24) + b'"}'
    assert len(exactly) == 512 << 10
    assert api.ask("POST", "/callers", exactly).status == 422
    head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    head += "Content-Type: application/json\r\n"
    port = running.child.admin_port
    status, response = raw(port, f"{head}Content-Length: 524289\r\n\r\n".encode())
    assert (status, b"Connection: close" in response, b'"too_large"' in response) == (413, True, True)
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert raw(port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 9)[0] == 413


def test_a_body_is_asked_for_once_it_is_known_whose_it_is(running: Running) -> None:
    """Who may not send it, or sends it to another listener, is not told to go on (RFC 9110 10.1.1)."""
    port = running.child.admin_port

    def first(fields: str, host: str = "localhost") -> tuple[int, bytes]:
        head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n{fields}"
        return raw(port, f"{head}Expect: 100-continue\r\n\r\n".encode())

    admin, viewer = (f"Authorization: Bearer {TOKENS[role]}\r\n" for role in ("admin", "viewer"))
    for fields, host, status in (
        ("", "localhost", 401),
        (viewer, "localhost", 403),
        (admin, "other.example", 421),
        (f"{admin}Content-Type: text/plain\r\n", "localhost", 415),
    ):
        found, response = first(fields, host)
        assert (found, b"Connection: close" in response) == (status, True)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\n{admin}Content-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")


def test_a_body_has_no_coding_in_transfer(running: Running) -> None:
    """It would be taken for JSON as it came."""
    head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    coded = "Content-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    status, response = raw(running.child.admin_port, (head + coded).encode())
    assert (status, b'"malformed"' in response) == (400, True)


def test_no_character_of_a_path_leads_past_the_api(api: Api) -> None:
    """What is not there is a problem, and asks for a token as the rest does."""
    for path in ("/tokens/a%0ab", "/%0a", "/tokens/a%0d%0aX:y", "/tokens/%00"):
        assert api.ask("GET", path).code == "not_found", path
        assert api.by("wrong").ask("GET", path).code == "unauthenticated", path


def test_first_errors_are_listed_and_the_last_line_says_that_there_are_more(api: Api) -> None:
    """Here of a list in a caller; a document may have thousands."""
    said = api.ask("POST", "/callers", {"name": "x", "integrations": ["Not"] * 9000})
    assert (said.code, len(said.json["errors"])) == ("invalid", 201)
    assert [each["pointer"] for each in said.json["errors"][198:]] == ["/integrations/198", "/integrations/199", ""]
    assert said.json["errors"][-1]["detail"] == "there are more errors than the first 200: correct these first"
    assert said.json["detail"] == "more than 200 values are not valid: see errors"
    said = api.ask("POST", "/callers", b'{"name": "x", "integrations": [' + b"1," * 100_000 + b"1]}")
    assert (said.code, said.json["detail"]) == ("malformed", "the body must not have more than 20000 values")


def test_query_parameters_are_known_and_given_once(api: Api) -> None:
    """400, in words that repeat nothing of them."""
    for query in (
        "canary=1",
        "q=a&q=b",
        "usable=true",
        "kind=canary",
        "status=canary",
        "after=canary",
        "after=a:store%0a",
    ):
        said = api.ask("GET", f"/integrations?{query}")
        assert (said.status, said.code) == (400, "malformed"), query
        assert b"canary" not in said.body
    assert api.ask("GET", "/whoami?x=1").code == "malformed"


def test_foreign_hosts_and_pages_of_other_sites_are_refused_as_problems(api: Api) -> None:
    """Before a token is looked at."""
    said = api.ask("GET", "/whoami", headers={"Host": "rebound.example"})
    assert (said.status, said.code) == (421, "misdirected")
    said = api.ask("GET", "/whoami", headers={"Sec-Fetch-Site": "cross-site"})
    assert (said.status, said.code) == (403, "forbidden")


def test_responses_are_kept_by_nobody(api: Api) -> None:
    """They may show a token, once."""
    for said in (api.ask("GET", "/whoami"), api.ask("GET", "/nothing")):
        assert said.headers["Cache-Control"] == "no-store"
        assert said.headers["X-Content-Type-Options"] == "nosniff"


def test_changes_and_logins_are_counted(api: Api, viewer: Api, running: Running, named: Named) -> None:
    """By what of and by outcome."""

    def counted() -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", running.child.admin_port, timeout=DEADLINE)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        connection.close()
        return {series: value_of(page, series) for series in counters}

    made = 'sidekey_admin_changes_total{object="integration",outcome="ok"}'
    forbidden = 'sidekey_admin_changes_total{object="integration",outcome="forbidden"}'
    invalid, let_in = 'sidekey_admin_logins_total{outcome="invalid"}', 'sidekey_admin_logins_total{outcome="ok"}'
    counters = (made, forbidden, invalid, let_in)
    name = named("counted")
    before = counted()
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    viewer.ask("DELETE", f"/integrations/{name}", match='"1"')
    api.by("wrong").ask("GET", "/whoami")
    after = counted()
    grown = {series: after[series] - before[series] for series in counters}
    assert grown == {made: 1, forbidden: 1, invalid: 1, let_in: 2}


@pytest.mark.parametrize("by_session", [False, True])
def test_token_that_is_revoked_while_the_body_comes_changes_nothing(
    api: Api, running: Running, named: Named, by_session: bool
) -> None:
    """Otherwise a stolen token could make another one after it was revoked."""
    port, name, made = running.child.admin_port, named("slow"), named("made")
    token = api.make("/tokens", {"name": name, "role": "admin", "own_token": api.token})["token"]
    fields = f"Authorization: Bearer {token}"
    if by_session:
        said = api.ask("POST", "/session", {"token": token}, headers={"Authorization": "", "Sidekey-Console": "1"})
        cookie = said.headers["Set-Cookie"].partition(";")[0]
        fields = f"Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\nSidekey-Console: 1"
    body = json.dumps({"name": made, "role": "admin", "own_token": token}).encode()
    head = f"POST {PREFIX}/tokens HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{fields}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert api.ask("DELETE", f"/tokens/{name}", match="*").status == 204
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    assert api.ask("GET", f"/tokens/{made}").code == "not_found"


def test_who_leaves_amid_a_body_or_sends_no_request_at_all_is_no_defect(
    api: Api, running: Running, named: Named
) -> None:
    """And what is no request is told so in words of ours, which repeat nothing of it."""
    head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    head += "Content-Type: application/json\r\n"
    port = running.child.admin_port
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b'{"a')
    for broken in (
        f"{head}Transfer-Encoding: chunked\r\n\r\ncanary\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\ncanary\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            connection.sendall(broken.encode())
            response = b""
            while piece := connection.recv(65536):
                response += piece
        assert b" 400 " in response
        assert b"canary" not in response

    def reloads() -> int:
        return sum("store reloaded" in line for line in running.child.lines)

    # The log is written in order: whatever was to be said of them stands before this.
    before = reloads()
    api.make("/callers", {"name": named("after")})
    within(lambda: reloads() > before)
    assert not [line for line in running.child.lines if "defect" in line]


def test_a_conditional_get_responds_304_until_something_changes(
    api: Api, editor: Api, running: Running, named: Named
) -> None:
    """RFC 9110 13.1.2 and 15.4.5: with the ETag, without a body, on one connection with what follows."""
    name = named("cached")
    tag = editor.ask("POST", "/integrations", {"id": name, **basic(running.upstream)}).etag
    path = f"/integrations/{name}"
    for condition in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        said = editor.ask("GET", path, headers={"If-None-Match": condition})
        assert (said.status, said.etag, said.body) == (304, tag, b""), condition
        assert (said.headers["Content-Type"], said.headers["Cache-Control"]) == (None, "no-store")
    assert editor.ask("HEAD", path, headers={"If-None-Match": tag}).status == 304
    assert editor.ask("GET", path, headers={"If-None-Match": '"x"'}).status == 200
    assert editor.ask("PATCH", path, {"description": "new"}, match=tag).status == 200
    said = editor.ask("GET", path, headers={"If-None-Match": tag})
    assert (said.status, said.json["description"]) == (200, "new")
    # There is no version of what a file has, nor of a list.
    for unversioned in ("/integrations/of-a-file", "/integrations"):
        assert api.ask("GET", unversioned, headers={"If-None-Match": "*"}).status == 200
    head = f"GET {PREFIX}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {editor.token}\r\n"
    both = f"{head}If-None-Match: *\r\n\r\n{head}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.child.admin_port), timeout=DEADLINE) as connection:
        connection.sendall(both.encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    first, _, second = response.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 304 ")
    assert second.startswith(b"HTTP/1.1 200 ")
