"""Doors, names, callers and policy: which requests take a credential, and what the others are told."""

from __future__ import annotations

import base64

import pytest

from support.memory import Upstream, running
from support.plane import CREDENTIAL, UPSTREAM, base_url, get, integration, problem, request
from support.wire import Message


def basic(user: str, password: str = "x") -> str:
    """A Proxy-Authorization field."""
    return "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def by_proxy(url: str, *fields: str, method: str = "GET", host: str = "elsewhere.test") -> bytes:
    """A request at the forward door."""
    return "\r\n".join([f"{method} {url} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode("latin-1")


def verdict(answer: Message) -> tuple[int, str]:
    """Status and code of a response; the code is empty for an upstream's."""
    return answer.status, "" if not answer.values(b"proxy-status") else problem(answer)["code"]


OK = (200, "")


@pytest.mark.parametrize(
    ("target", "wanted"),
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
async def test_targets_at_the_reverse_door(target: str, wanted: tuple[int, str]) -> None:
    """Every target is answered by its door or its policy, and only what is allowed arrives, as it was sent."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(2):
            raw = request("OPTIONS" if target == "*" else "GET").replace(b"/i/h/a", target.encode("latin-1"), 1)
            assert verdict(await sidekey.ask(raw)) == wanted
        arrived = [message.target.decode("latin-1") for message in upstream.requests]
        assert arrived == (["/api" + target.removeprefix("/i/h")] * 2 if wanted == OK else [])


@pytest.mark.parametrize(
    ("fields", "wanted"),
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
async def test_requests_of_web_pages_are_kept_out(fields: tuple[str, ...], wanted: tuple[int, str]) -> None:
    """A page on this machine's browser must not reach the reverse door."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert verdict(await sidekey.ask(get("/a", *fields))) == wanted


async def test_origin_passes_where_callers_are_known() -> None:
    """The token tells the caller then, and Origin is forwarded; a page's Sec-Fetch-Site is refused all the same."""
    async with Upstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), tokens={"t": None}) as sidekey:
            assert verdict(await sidekey.ask(get("/a", "Origin: http://a.test", "Sidekey-Token: t"))) == OK
            assert verdict(await sidekey.ask(get("/a", "Sec-Fetch-Site: same-site"))) == (403, "door_denied")
        assert upstream.requests[0].values(b"origin") == [b"http://a.test"]


@pytest.mark.parametrize(
    ("host", "wanted"),
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
async def test_the_reverse_door_answers_to_its_own_hosts(host: str, wanted: tuple[int, str]) -> None:
    """Against DNS rebinding; twice, since the second time is answered from memory."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        raw = get().replace(b"Host: h.test", b"Host: " + host.encode())
        assert [verdict(await sidekey.ask(raw)) for _ in range(2)] == [wanted, wanted]


@pytest.mark.parametrize(
    ("fields", "wanted"),
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
async def test_names_at_the_forward_door(fields: tuple[str, ...], wanted: tuple[int, str]) -> None:
    """The ID comes as the proxy user or in X-Integration-Id; the places must agree, and Host plays no part."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            answer = await sidekey.ask(by_proxy(f"{url}/a", *fields))
        assert verdict(answer) == wanted
        if wanted[0] == 407:
            assert answer.values(b"proxy-authenticate") == [b'Basic realm="sidekey"']
        if wanted == OK:
            (message,) = upstream.requests
            assert message.values(b"host") == [f"{UPSTREAM}:{upstream.port}".encode()]
            assert {name for name, _ in message.headers} == {b"host", b"authorization", b"via"}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (("X-Integration-Id: h",), OK),
        (("X-Integration-Id: o",), (400, "request_invalid")),
        ((basic("h"),), OK),
        ((basic("o"),), (400, "request_invalid")),
        ((basic("", ""),), OK),
    ],
)
async def test_names_at_the_reverse_door_agree_with_the_path(fields: tuple[str, ...], wanted: tuple[int, str]) -> None:
    """A header that names another integration than the path is refused."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("o", url)) as sidekey:
            assert verdict(await sidekey.ask(get("/a", *fields))) == wanted


async def test_an_unknown_id_is_answered_like_one_of_another_caller() -> None:
    """Which IDs exist is not told; and no response repeats the ID."""
    tokens = {"t": frozenset({"h"}), "every": None, "none": frozenset[str]()}
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), integration("secret-id", url), tokens=tokens) as sidekey:
            denied = await sidekey.ask(get(name="secret-id").replace(b"Host", b"Sidekey-Token: t\r\nHost"))
            unknown = await sidekey.ask(get(name="unheard-of").replace(b"Host", b"Sidekey-Token: t\r\nHost"))
            assert verdict(denied) == (403, "integration_denied")
            assert (denied.start, denied.fields, problem(denied)) == (unknown.start, unknown.fields, problem(unknown))
            for token, wanted in (("t", OK), ("every", OK), ("none", (403, "integration_denied"))):
                assert verdict(await sidekey.ask(get("/a", f"Sidekey-Token: {token}"))) == wanted
            assert sidekey.metrics.unknown.outcomes == {"integration_denied": 3}


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize(
    ("fields", "wanted"),
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
async def test_callers_show_their_token(fields: tuple[str, ...], wanted: tuple[int, str] | str, forward: bool) -> None:
    """401 at the reverse door and 407 at the forward one, each with its challenge, and judged before the ID."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url), tokens={"t": None}) as sidekey:
            named = "" if any(field.startswith("Proxy") for field in fields) else "X-Integration-Id: h"
            for name in ("h", "nobody") if wanted == "caller_denied" else ("h",):
                extra = (named.replace("h", name),) if named and forward else ()
                raw = by_proxy(f"{url}/a", *fields, *extra) if forward else get("/a", *fields, name=name)
                if name == "nobody" and "Proxy" in "".join(fields):
                    continue
                answer = await sidekey.ask(raw)
                if isinstance(wanted, tuple):
                    assert verdict(answer) == wanted
                    continue
                assert verdict(answer) == (407 if forward else 401, wanted)
                challenge = b"proxy-authenticate" if forward else b"www-authenticate"
                assert len(answer.values(challenge)) == 1
        for message in upstream.requests:
            assert {name for name, _ in message.headers} == {b"host", b"authorization", b"via"}


@pytest.mark.parametrize("method", ["PURGE", "POST", "DELETE"])
async def test_methods_outside_the_integrations_are_denied(method: str) -> None:
    """405 with Allow; and no override header gets around it."""
    override = ("X-HTTP-Method-Override: DELETE", "X_Http_Method: DELETE", "X-METHOD-OVERRIDE: DELETE")
    async with Upstream() as upstream:
        narrow = integration("h", base_url(upstream.port), methods=["POST", "GET"])
        async with running(narrow, integration("o", base_url(upstream.port))) as sidekey:
            answer = await sidekey.ask(request(method, "/a", *override))
            assert verdict(answer) == (OK if method == "POST" else (405, "method_denied"))
            if method != "POST":
                assert answer.values(b"allow") == [b"GET, POST"]
            assert verdict(await sidekey.ask(request(method, "/a", *override, name="o"))) == OK
        overrides = [len([name for name, _ in message.headers if b"method" in name]) for message in upstream.requests]
        assert overrides == ([0, 3] if method == "POST" else [3])


@pytest.mark.parametrize("body", [None, b"x"])
async def test_trace_is_refused_at_every_door(body: bytes | None) -> None:
    """RFC 9110 9.3.8: it reflects credentials."""
    async with Upstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert verdict(await sidekey.ask(request("TRACE", body=body))) == (405, "method_denied")
        raw = by_proxy(f"{base_url(upstream.port)}/a", "X-Integration-Id: h", method="TRACE")
        assert verdict(await sidekey.ask(raw)) == (405, "method_denied")
        assert upstream.connections == []


@pytest.mark.parametrize(
    ("url", "wanted"),
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
async def test_the_forward_door_upgrades_http_to_https(url: str, wanted: tuple[int, str]) -> None:
    """Where only an https policy names the host, `http://` on port 80 means https; port 443 is shut here."""
    hosts = {"a.test": ("127.3.2.1",)}
    async with running(integration("h", "https://a.test/api"), hosts=hosts) as sidekey:
        assert verdict(await sidekey.ask(by_proxy(url, "X-Integration-Id: h"))) == wanted
        pools = {str(key.origin) for key in sidekey.plane.pools._by_key}
        assert pools == {"https://a.test"}


async def test_an_http_policy_is_not_upgraded() -> None:
    """The prefix says http, so http it stays, on its own port."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        async with running(integration("h", url)) as sidekey:
            assert verdict(await sidekey.ask(by_proxy(f"{url}/x?q=1", "X-Integration-Id: h"))) == OK
        (message,) = upstream.requests
        assert (message.target, message.values(b"authorization")) == (b"/api/x?q=1", [CREDENTIAL])


async def test_a_forbidden_target_is_denied_by_both_doors() -> None:
    """Where the credential comes from is never a caller's target; such an integration has no quick reading."""
    async with Upstream() as upstream:
        url = base_url(upstream.port)
        made = integration("h", url, forbidden=[(base_url(upstream.port, ""), "/api/token")])
        async with running(made) as sidekey:
            for path in ("/token", "/token/", "/%74oken", "//token", "/x/../token", "/token;a"):
                assert verdict(await sidekey.ask(get(path)))[0] in (400, 403), path
            assert verdict(await sidekey.ask(by_proxy(f"{url}/token", "X-Integration-Id: h"))) == (403, "target_denied")
            assert verdict(await sidekey.ask(get("/tokens"))) == OK
        assert [message.target for message in upstream.requests] == [b"/api/tokens"]
