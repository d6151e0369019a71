"""api/dispatch.py: authentication, routing and bodies, and the response to every refused request."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable

import pytest

from sidekey.api.route import PREFIX
from sidekey.api.routes import ROUTES
from support.api import TOKENS, Api, ApiResponse, ApiSetup, basic
from support.http_get import wait_until
from support.raw_connection import DEADLINE
from support.scraping import value_of

Named = Callable[[str], str]
ANONYMOUS = {route.path for route in ROUTES if route.permission == "anonymous"}
PATHS = sorted({route.path for route in ROUTES} - ANONYMOUS)


def send_raw(port: int, request: bytes) -> tuple[int, bytes]:
    """Send raw bytes. Return the status and the response, which must be a JSON object."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        response = b""
        while not response.endswith(b"}"):
            response += connection.recv(65536)
    return int(response.split(b" ", 2)[1]), response


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer sidekey_wrong", "Basic dTpw", f"Token {TOKENS['admin']}", "Bearer \xe9"]
)
def test_request_without_a_token_is_unauthenticated(api: Api, header: str) -> None:
    """The response is 401 with a challenge, whether or not the path exists."""
    paths = [*PATHS, "/nothing", ""]
    responses = {path: api.request("GET", path, headers={"Authorization": header}) for path in paths}
    values = {path: (response.status, response.code) for path, response in responses.items()}
    assert values == dict.fromkeys(paths, (401, "unauthenticated"))
    for response in responses.values():
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="sidekey"')


def test_token_is_read_from_a_single_authorization_header(api: Api, running: ApiSetup) -> None:
    """Sidekey reads it neither from a cookie nor from the query."""
    token = TOKENS["admin"]
    nothing = {"Authorization": "", "Cookie": f"token={token}; session={token}"}
    assert api.request("GET", "/whoami", headers=nothing).code == "unauthenticated"
    assert api.request("GET", f"/whoami?access_token={token}", headers={"Authorization": ""}).code == "unauthenticated"
    fields = f"Authorization: Bearer {token}\r\n" * 2
    request = f"GET {PREFIX}/whoami HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n"
    assert send_raw(running.child.admin_port, request.encode())[0] == 400


def test_unknown_methods_and_paths_are_refused(api: Api) -> None:
    response = api.request("POST", "/whoami")
    assert (response.status, response.code, response.headers["Allow"]) == (405, "method_denied", "GET, HEAD")
    response = api.request("PUT", "/integrations")
    assert response.headers["Allow"] == "GET, HEAD, POST"
    for path in (
        "/nothing",
        "/integrations/",
        "/integrations/a/b",
        "//integrations",
        "/Integrations",
        "/%69ntegrations",
    ):
        assert api.request("GET", path).code == "not_found", path
    response = api.request("HEAD", "/whoami")
    assert (response.status, response.body) == (200, b"")


def test_invalid_body_or_type_is_refused(api: Api, named: Named) -> None:
    """No response repeats a value."""

    def send(body: bytes, **headers: str) -> ApiResponse:
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        return api.request("POST", "/callers", body, headers=fields)

    document = json.dumps({"name": named("typed")}).encode()
    for wrong in ("text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        response = send(document, Content_Type=wrong)
        assert (response.status, response.code) == (415, "unsupported"), wrong
    assert send(document, Content_Encoding="gzip").code == "unsupported"
    for broken in (b"{", b"[]", b'"canary"', b'{"a": 1, "a": 2}', b"\xff\xfe", b'{"a": NaN}', b"[" * 5000):
        response = send(broken)
        assert (response.status, response.code) == (400, "malformed"), broken
        assert b"canary" not in response.body
    assert send(b"").code == "malformed"
    assert send(document, Content_Type="application/json; charset=UTF-8").status == 201
    response = api.request(
        "PATCH", f"/callers/{named('typed')}", {}, match='"1"', headers={"Content-Type": "text/json"}
    )
    assert (response.code, response.headers["Accept-Patch"]) == (
        "unsupported",
        "application/merge-patch+json",
    )
    assert api.request("POST", "/integrations/nobody/test", {}).code == "malformed"


def test_body_over_512_kib_is_refused(api: Api, running: ApiSetup) -> None:
    """The connection closes, because Sidekey does not read the rest of the body."""
    exactly = b'{"name": "Not", "a": "' + b"x" * ((512 << 10) - 24) + b'"}'
    assert len(exactly) == 512 << 10
    assert api.request("POST", "/callers", exactly).status == 422
    head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    head += "Content-Type: application/json\r\n"
    port = running.child.admin_port
    status, response = send_raw(port, f"{head}Content-Length: 524289\r\n\r\n".encode())
    assert (status, b"Connection: close" in response, b'"too_large"' in response) == (413, True, True)
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert send_raw(port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 9)[0] == 413


def test_100_continue_comes_after_authentication(running: ApiSetup) -> None:
    """A client without permission, or at the wrong listener, gets no 100 (RFC 9110 10.1.1)."""
    port = running.child.admin_port

    def first(fields: str, host: str = "localhost") -> tuple[int, bytes]:
        head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n{fields}"
        return send_raw(port, f"{head}Expect: 100-continue\r\n\r\n".encode())

    admin, viewer = (f"Authorization: Bearer {TOKENS[role]}\r\n" for role in ("admin", "viewer"))
    for fields, host, status in (
        ("", "localhost", 401),
        (viewer, "localhost", 403),
        (admin, "other.example", 421),
        (f"{admin}Content-Type: text/plain\r\n", "localhost", 415),
    ):
        actual, response = first(fields, host)
        assert (actual, b"Connection: close" in response) == (status, True)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\n{admin}Content-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")


def test_transfer_coding_other_than_chunked_is_refused(running: ApiSetup) -> None:
    """It would be parsed as JSON without decoding."""
    head = f"POST {PREFIX}/callers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    coded = "Content-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    status, response = send_raw(running.child.admin_port, (head + coded).encode())
    assert (status, b'"malformed"' in response) == (400, True)


def test_every_character_in_a_path_stays_in_the_api(api: Api) -> None:
    """An unknown path is a problem and needs a token."""
    for path in ("/tokens/a%0ab", "/%0a", "/tokens/a%0d%0aX:y", "/tokens/%00"):
        assert api.request("GET", path).code == "not_found", path
        assert api.by("wrong").request("GET", path).code == "unauthenticated", path


def test_list_of_errors_is_cut_with_a_last_item(api: Api) -> None:
    response = api.request("POST", "/callers", {"name": "x", "integrations": ["Not"] * 9000})
    assert (response.code, len(response.json["errors"])) == ("invalid", 201)
    assert [error["pointer"] for error in response.json["errors"][198:]] == [
        "/integrations/198",
        "/integrations/199",
        "",
    ]
    assert response.json["errors"][-1]["detail"] == "there are more errors than the first 200: correct these first"
    assert response.json["detail"] == "more than 200 values are not valid: see errors"
    response = api.request("POST", "/callers", b'{"name": "x", "integrations": [' + b"1," * 100_000 + b"1]}")
    assert (response.code, response.json["detail"]) == ("malformed", "the body must not have more than 20000 values")


def test_unknown_or_repeated_query_parameter_is_refused(api: Api) -> None:
    """The response does not repeat a value of the query."""
    for query in (
        "canary=1",
        "q=a&q=b",
        "usable=true",
        "kind=canary",
        "status=canary",
        "after=canary",
        "after=a:store%0a",
    ):
        response = api.request("GET", f"/integrations?{query}")
        assert (response.status, response.code) == (400, "malformed"), query
        assert b"canary" not in response.body
    assert api.request("GET", "/whoami?x=1").code == "malformed"


def test_other_hosts_and_pages_of_other_sites_are_refused(api: Api) -> None:
    """Sidekey checks Host and Sec-Fetch-Site before authentication."""
    response = api.request("GET", "/whoami", headers={"Host": "rebound.example"})
    assert (response.status, response.code) == (421, "misdirected")
    response = api.request("GET", "/whoami", headers={"Sec-Fetch-Site": "cross-site"})
    assert (response.status, response.code) == (403, "forbidden")


def test_responses_are_not_cached(api: Api) -> None:
    """Responses may contain a new token."""
    for response in (api.request("GET", "/whoami"), api.request("GET", "/nothing")):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_changes_and_logins_are_counted(api: Api, viewer: Api, running: ApiSetup, named: Named) -> None:
    """The labels are the kind of resource and the outcome."""

    def counts() -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", running.child.admin_port, timeout=DEADLINE)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        connection.close()
        return {series: value_of(page, series) for series in counters}

    created = 'sidekey_admin_changes_total{object="integration",outcome="ok"}'
    forbidden = 'sidekey_admin_changes_total{object="integration",outcome="forbidden"}'
    invalid, accepted = 'sidekey_admin_logins_total{outcome="invalid"}', 'sidekey_admin_logins_total{outcome="ok"}'
    counters = (created, forbidden, invalid, accepted)
    name = named("counted")
    before = counts()
    api.create("/integrations", {"id": name, **basic(running.upstream)})
    viewer.request("DELETE", f"/integrations/{name}", match='"1"')
    api.by("wrong").request("GET", "/whoami")
    after = counts()
    grown = {series: after[series] - before[series] for series in counters}
    assert grown == {created: 1, forbidden: 1, invalid: 1, accepted: 2}


@pytest.mark.parametrize("by_session", [False, True])
def test_token_revoked_during_the_body_changes_nothing(
    api: Api, running: ApiSetup, named: Named, by_session: bool
) -> None:
    """Otherwise a stolen token could create another one after it was revoked."""
    port, name, created = running.child.admin_port, named("slow"), named("created")
    token = api.create("/tokens", {"name": name, "role": "admin", "own_token": api.token})["token"]
    fields = f"Authorization: Bearer {token}"
    if by_session:
        response = api.request(
            "POST", "/session", {"token": token}, headers={"Authorization": "", "Sidekey-Console": "1"}
        )
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        fields = f"Cookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\nSidekey-Console: 1"
    body = json.dumps({"name": created, "role": "admin", "own_token": token}).encode()
    head = f"POST {PREFIX}/tokens HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{fields}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert api.request("DELETE", f"/tokens/{name}", match="*").status == 204
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    assert api.request("GET", f"/tokens/{created}").code == "not_found"


def test_incomplete_or_malformed_request_is_no_defect(api: Api, running: ApiSetup, named: Named) -> None:
    """The response to a malformed request repeats nothing of it."""
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

    # The log is in order: a line about these requests would be before this one.
    before = reloads()
    api.create("/callers", {"name": named("after")})
    wait_until(lambda: reloads() > before)
    assert not [line for line in running.child.lines if "defect" in line]


def test_conditional_get_responds_304_until_something_changes(
    api: Api, editor: Api, running: ApiSetup, named: Named
) -> None:
    """RFC 9110 13.1.2 and 15.4.5: with the ETag and without a body, on a connection that stays usable."""
    name = named("cached")
    tag = editor.request("POST", "/integrations", {"id": name, **basic(running.upstream)}).etag
    path = f"/integrations/{name}"
    for condition in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        result = editor.request("GET", path, headers={"If-None-Match": condition})
        assert (result.status, result.etag, result.body) == (304, tag, b""), condition
        assert (result.headers["Content-Type"], result.headers["Cache-Control"]) == (None, "no-store")
    assert editor.request("HEAD", path, headers={"If-None-Match": tag}).status == 304
    assert editor.request("GET", path, headers={"If-None-Match": '"x"'}).status == 200
    assert editor.request("PATCH", path, {"description": "new"}, match=tag).status == 200
    result = editor.request("GET", path, headers={"If-None-Match": tag})
    assert (result.status, result.json["description"]) == (200, "new")
    # Neither resources of files nor lists have a version.
    for unversioned in ("/integrations/of-a-file", "/integrations"):
        assert api.request("GET", unversioned, headers={"If-None-Match": "*"}).status == 200
    head = f"GET {PREFIX}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {editor.token}\r\n"
    both = f"{head}If-None-Match: *\r\n\r\n{head}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.child.admin_port), timeout=DEADLINE) as connection:
        connection.sendall(both.encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    first, _, second = response.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 304 ")
    assert second.startswith(b"HTTP/1.1 200 ")
