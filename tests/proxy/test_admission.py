"""Admission: integration, caller and policy decide which requests get a credential."""

from __future__ import annotations

import base64

import pytest

from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, UPSTREAM, base_url, get, integration, problem, request, status_and_code


def basic(user: str, password: str = "x") -> str:
    """Build a Proxy-Authorization field."""
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def by_proxy(url: str, *fields: str, method: str = "GET", host: str = "elsewhere.test") -> bytes:
    """Build a request through the forward proxy."""
    return "\r\n".join([f"{method} {url} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1")


OK = (200, "")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", (404, "not_found")),
        ("/i", (404, "not_found")),
        ("/i/", (404, "not_found")),
        ("/i//a", (404, "not_found")),
        ("/i/?a", (404, "not_found")),
        ("/j/h/a", (404, "not_found")),
        ("/I/h/a", (404, "not_found")),
        ("//i/h/a", (404, "not_found")),
        ("*", (404, "not_found")),
        ("/i/h", OK),
        ("/i/h?q=1", OK),
        ("/i/h/", OK),
        ("/i/h/a?q=/../x;y", OK),
        ("/i/h/a%20b", OK),
        ("/i/%68/a", (403, "integration_denied")),
        ("/i/H/a", (403, "integration_denied")),
        ("/i/unknown/a", (403, "integration_denied")),
        ("/i/h/../x", (400, "request_invalid")),
        ("/i/h/%2e%2e/x", (400, "request_invalid")),
        ("/i/h/%252e%252e/x", (400, "request_invalid")),
        ("/i/h/a\\..\\..\\x", (400, "request_invalid")),
        ("/i/h/a#f", (400, "request_invalid")),
        ("/i/h/a%zz", (400, "request_invalid")),
        ("/i/h/%00", (400, "request_invalid")),
        ("/i/h/\xe9", (400, "request_invalid")),
    ],
)
async def test_targets_at_the_reverse_proxy(target: str, expected: tuple[int, str]) -> None:
    """Only allowed targets arrive, unchanged."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(2):
            raw = request("OPTIONS" if target == "*" else "GET").replace(b"/i/h/a", target.encode("latin-1"), 1)
            assert status_and_code(await sidekey.send(raw)) == expected
        received = [message.target.decode("latin-1") for message in upstream.requests]
        assert received == (["/api" + target.removeprefix("/i/h")] * 2 if expected == OK else [])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("Sec-Fetch-Site: none",), OK),
        (("Sec-Fetch-Site: same-origin",), (403, "door_denied")),
        (("Sec-Fetch-Site: cross-site",), (403, "door_denied")),
        (("Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"), (400, "request_invalid")),
        (("Origin: http://evil.test",), (403, "door_denied")),
        (("Origin: null",), (403, "door_denied")),
        (("Origin:",), (403, "door_denied")),
        (("Sec-Fetch-Site:",), (403, "door_denied")),
    ],
)
async def test_requests_of_web_pages_are_refused(fields: tuple[str, ...], expected: tuple[int, str]) -> None:
    """A page in a local browser must not use the reverse proxy."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert status_and_code(await sidekey.send(get("/a", *fields))) == expected


async def test_origin_is_forwarded_with_a_callers_token() -> None:
    """Sec-Fetch-Site of a page is still refused."""
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), tokens={"t": None}) as sidekey:
            assert status_and_code(await sidekey.send(get("/a", "Origin: http://a.test", "Sidekey-Token: t"))) == OK
            assert status_and_code(await sidekey.send(get("/a", "Sec-Fetch-Site: same-site"))) == (403, "door_denied")
        assert upstream.requests[0].values(b"origin") == [b"http://a.test"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("h.test", OK),
        ("H.TEST:8080", OK),
        ("localhost", OK),
        ("localhost:1", OK),
        ("127.0.0.1", OK),
        ("[::1]:8080", OK),
        ("  127.0.0.1  ", OK),
        ("evil.test", (403, "door_denied")),
        ("h.test.evil.test", (403, "door_denied")),
        ("localhost.evil.test", (403, "door_denied")),
        ("127.0.0.1.evil.test", (403, "door_denied")),
        ("", (403, "door_denied")),
        ("h.test:x", (403, "door_denied")),
        ("user@h.test", (403, "door_denied")),
    ],
)
async def test_reverse_proxy_answers_only_to_its_own_hosts(host: str, expected: tuple[int, str]) -> None:
    """Against DNS rebinding. Twice, because the second answer comes from the cache."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        raw = get().replace(b"Host: h.test", b"Host: " + host.encode())
        assert [status_and_code(await sidekey.send(raw)) for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), (407, "integration_required")),
        (("X-Integration-Id: h",), OK),
        (("x_integration_id: h",), (407, "integration_required")),
        ((basic("h"),), OK),
        ((basic("h", ""),), OK),
        ((basic("h"), "X-Integration-Id: h"), OK),
        ((basic("h"), "X-Integration-Id: o"), (400, "request_invalid")),
        ((basic("o"), "X-Integration-Id: h"), (400, "request_invalid")),
        ((basic("h"), basic("h")), (400, "request_invalid")),
        (("X-Integration-Id: h", "X-Integration-Id: h"), (400, "request_invalid")),
        (("Proxy-Authorization: Bearer h",), (400, "request_invalid")),
        (("Proxy-Authorization: Basic !!",), (400, "request_invalid")),
        (("Proxy-Authorization: Basic aA==",), (400, "request_invalid")),
        (("X-Integration-Id: nobody",), (403, "integration_denied")),
        ((basic("nobody"),), (403, "integration_denied")),
        ((basic("h/../o"),), (403, "integration_denied")),
    ],
)
async def test_integration_ids_at_the_forward_proxy(fields: tuple[str, ...], expected: tuple[int, str]) -> None:
    """As proxy user or X-Integration-Id. Both must agree, and Host does not matter."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            response = await sidekey.send(by_proxy(f"{url}/a", *fields))
        assert status_and_code(response) == expected
        if expected[0] == 407:
            assert response.values(b"proxy-authenticate") == [b'Basic realm="sidekey"']
        if expected == OK:
            (message,) = upstream.requests
            assert message.values(b"host") == [f"{UPSTREAM}:{upstream.port}".encode()]
            assert {name for name, _ in message.headers} == {b"host", b"authorization", b"via"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("X-Integration-Id: h",), OK),
        (("X-Integration-Id: o",), (400, "request_invalid")),
        ((basic("h"),), OK),
        ((basic("o"),), (400, "request_invalid")),
        ((basic("", ""),), OK),
    ],
)
async def test_integration_id_field_must_match_the_path(fields: tuple[str, ...], expected: tuple[int, str]) -> None:
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            assert status_and_code(await sidekey.send(get("/a", *fields))) == expected


async def test_unknown_id_and_id_of_another_caller_have_the_same_response() -> None:
    """No response repeats the ID."""
    tokens = {"t": frozenset({"h"}), "every": None, "none": frozenset[str]()}
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("secret-id", url), tokens=tokens) as sidekey:
            denied = await sidekey.send(get(name="secret-id").replace(b"Host", b"Sidekey-Token: t\r\nHost"))
            unknown = await sidekey.send(get(name="unheard-of").replace(b"Host", b"Sidekey-Token: t\r\nHost"))
            assert status_and_code(denied) == (403, "integration_denied")
            assert (denied.start, denied.fields, problem(denied)) == (unknown.start, unknown.fields, problem(unknown))
            for token, expected in (("t", OK), ("every", OK), ("none", (403, "integration_denied"))):
                assert status_and_code(await sidekey.send(get("/a", f"Sidekey-Token: {token}"))) == expected
            assert sidekey.metrics.unknown.outcomes == {"integration_denied": 3}


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (("Sidekey-Token: t",), OK),
        ((basic("h", "t"),), OK),
        ((basic("h", "t"), "Sidekey-Token: t"), OK),
        ((), "caller_denied"),
        (("Sidekey-Token: T",), "caller_denied"),
        (("Sidekey-Token:",), "caller_denied"),
        ((basic("h", ""),), "caller_denied"),
        ((basic("h", "u"),), "caller_denied"),
        ((basic("h", "t"), "Sidekey-Token: u"), (400, "request_invalid")),
        (("Sidekey-Token: t", "Sidekey-Token: t"), (400, "request_invalid")),
    ],
)
async def test_callers_need_a_token(fields: tuple[str, ...], expected: tuple[int, str] | str, forward: bool) -> None:
    """401 at the reverse proxy, 407 at the forward proxy, with a challenge. Checked before the ID."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), tokens={"t": None}) as sidekey:
            named = "" if any(field.startswith("Proxy") for field in fields) else "X-Integration-Id: h"
            for name in ("h", "nobody") if expected == "caller_denied" else ("h",):
                extra = (named.replace("h", name),) if named and forward else ()
                raw = by_proxy(f"{url}/a", *fields, *extra) if forward else get("/a", *fields, name=name)
                if name == "nobody" and "Proxy" in "".join(fields):
                    continue
                response = await sidekey.send(raw)
                if isinstance(expected, tuple):
                    assert status_and_code(response) == expected
                    continue
                assert status_and_code(response) == (407 if forward else 401, expected)
                challenge = b"proxy-authenticate" if forward else b"www-authenticate"
                assert len(response.values(challenge)) == 1
        for message in upstream.requests:
            assert {name for name, _ in message.headers} == {b"host", b"authorization", b"via"}


@pytest.mark.parametrize("method", ["PURGE", "POST", "DELETE"])
async def test_methods_outside_the_integration_are_denied(method: str) -> None:
    """405 with Allow. Override headers have no effect."""
    override = ("X-HTTP-Method-Override: DELETE", "X_Http_Method: DELETE", "X-METHOD-OVERRIDE: DELETE")
    async with MemoryUpstream() as upstream:
        narrow = integration("h", base_url(upstream.port), methods=["POST", "GET"])
        async with running(narrow, integration("o", base_url(upstream.port))) as sidekey:
            response = await sidekey.send(request(method, "/a", *override))
            assert status_and_code(response) == (OK if method == "POST" else (405, "method_denied"))
            if method != "POST":
                assert response.values(b"allow") == [b"GET, POST"]
            assert status_and_code(await sidekey.send(request(method, "/a", *override, name="o"))) == OK
        overrides = [len([name for name, _ in message.headers if b"method" in name]) for message in upstream.requests]
        assert overrides == ([0, 3] if method == "POST" else [3])


@pytest.mark.parametrize("body", [None, b"x"])
async def test_trace_is_refused_everywhere(body: bytes | None) -> None:
    """RFC 9110 9.3.8: it reflects credentials."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert status_and_code(await sidekey.send(request("TRACE", body=body))) == (405, "method_denied")
        raw = by_proxy(f"{base_url(upstream.port)}/a", "X-Integration-Id: h", method="TRACE")
        assert status_and_code(await sidekey.send(raw)) == (405, "method_denied")
        assert upstream.connections == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.test/api/x", (502, "upstream_unreachable")),
        ("http://a.test:80/api/x", (502, "upstream_unreachable")),
        ("https://a.test/api/x", (502, "upstream_unreachable")),
        ("http://a.test:8080/api/x", (403, "target_denied")),
        ("http://a.test/other", (403, "target_denied")),
        ("http://b.test/api/x", (403, "target_denied")),
        ("http://a.test./api/x", (403, "target_denied")),
        ("http://user@a.test/api/x", (400, "request_invalid")),
        ("ftp://a.test/api/x", (400, "request_invalid")),
        ("http://A.TEST/api/x", (502, "upstream_unreachable")),
    ],
)
async def test_forward_proxy_upgrades_http_to_https(url: str, expected: tuple[int, str]) -> None:
    """If only an https policy covers the host, `http://` on port 80 means https. Port 443 is closed here."""
    hosts = {"a.test": ("127.3.2.1",)}
    async with running(integration("h", "https://a.test/api"), hosts=hosts) as sidekey:
        assert status_and_code(await sidekey.send(by_proxy(url, "X-Integration-Id: h"))) == expected
        pools = {str(key.origin) for key in sidekey.plane.pools._by_key}
        assert pools == {"https://a.test"}


async def test_an_http_policy_is_not_upgraded() -> None:
    """It keeps scheme and port."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url)) as sidekey:
            assert status_and_code(await sidekey.send(by_proxy(f"{url}/x?q=1", "X-Integration-Id: h"))) == OK
        (message,) = upstream.requests
        assert (message.target, message.values(b"authorization")) == (b"/api/x?q=1", [CREDENTIAL])


async def test_token_endpoint_is_denied_by_both_proxies() -> None:
    """No caller may request the source of the credential."""
    async with MemoryUpstream() as upstream:
        url = base_url(upstream.port)
        configured = integration("h", url, forbidden=[(base_url(upstream.port, ""), "/api/token")])
        async with running(configured) as sidekey:
            for path in ("/token", "/token/", "/%74oken", "//token", "/x/../token", "/token;a"):
                assert status_and_code(await sidekey.send(get(path)))[0] in (400, 403), path
            assert status_and_code(await sidekey.send(by_proxy(f"{url}/token", "X-Integration-Id: h"))) == (
                403,
                "target_denied",
            )
            assert status_and_code(await sidekey.send(get("/tokens"))) == OK
        assert [message.target for message in upstream.requests] == [b"/api/tokens"]
